package gpu

import (
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// mostEvents bounds the events of one reading, so that a driver that never stops cannot hold it.
const mostEvents = 64

// events are the XID errors of the GPUs.
type events struct {
	none    bool // the driver has no such events
	set     nvml.EventSet
	watched []nvml.Device // by the GPU's number, nil where it could not be watched
	seen    map[int]map[int]uint64
	faults  []string // in the order in which they came
}

// unknownGPU is the number of a GPU that is not among those watched.
const unknownGPU = -1

// isUsers says that an XID error is the doing of a program that uses the GPU, and says nothing
// about the GPU: those that NVIDIA's Kubernetes device plugin ignores for its health check, and
// the messages 63 and 92, of memory rows that were remapped and of corrected errors.
func isUsers(xid int) bool {
	switch xid {
	case 13, // graphics engine exception
		31,  // page fault
		43,  // the GPU stopped processing
		45,  // preemptive cleanup
		68,  // video processor exception
		109, // context switch timeout
		63, 92:
		return true
	}
	return false
}

// watch registers the GPUs that are not watched yet.
func (e *events) watch(lib nvml.Interface, handles []nvml.Device) {
	if e.none {
		return
	}
	if e.set == nil {
		set, ret := lib.EventSetCreate()
		if ret != nvml.SUCCESS {
			e.none = true
			return
		}
		e.set, e.seen = set, make(map[int]map[int]uint64)
	}
	for i, h := range handles {
		if i == len(e.watched) {
			e.watched = append(e.watched, nil)
		}
		// A GPU that does not support events, as of some virtual ones, is asked again: that costs
		// one call, and it may have been busy.
		if h != nil && e.watched[i] == nil && h.RegisterEvents(nvml.EventTypeXidCriticalError, e.set) == nvml.SUCCESS {
			e.watched[i] = h
		}
	}
}

// read takes the events that have come, without waiting for more, and returns all faults so far.
func (e *events) read() []error {
	if e.set == nil || !slices.ContainsFunc(e.watched, func(d nvml.Device) bool { return d != nil }) {
		return nil
	}
	var faults []error
	for range mostEvents {
		event, ret := e.set.Wait(0)
		if _, err := mayTell(ret); err != nil {
			faults = append(faults, fmt.Errorf("a GPU does not tell its events: %w", err))
		}
		if ret != nvml.SUCCESS {
			break
		}
		if event.EventType == nvml.EventTypeXidCriticalError {
			e.count(event)
		}
	}
	for _, f := range e.faults {
		faults = append(faults, fmt.Errorf("%s; reset the GPU and restart", f))
	}
	return faults
}

func (e *events) count(event nvml.EventData) {
	gpu, xid := slices.Index(e.watched, event.Device), int(event.EventData)
	if e.seen[gpu] == nil {
		e.seen[gpu] = make(map[int]uint64)
	}
	e.seen[gpu][xid]++
	if isUsers(xid) || e.seen[gpu][xid] > 1 {
		return
	}
	name := fmt.Sprintf("GPU %d", gpu)
	if gpu == unknownGPU {
		name = "a GPU"
	}
	e.faults = append(e.faults, fmt.Sprintf("%s: XID error %d", name, xid))
}

func (e *events) close() {
	if e.set != nil {
		e.set.Free()
	}
	*e = events{}
}
