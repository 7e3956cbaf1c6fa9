package backend

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"weir/backend/load"
)

// GPUDevice is one GPU's state, or a MIG instance's; its fields are those of gpu.Device.
type GPUDevice struct {
	Index                   int
	MIG                     bool // it is an instance, part of the GPU of this Index
	Instance                int
	Name, UUID              string
	MemoryUsed, MemoryTotal uint64  // bytes, 0 where not told
	Utilization             float64 // percent, NaN where not told
	Temperature, Power      float64 // °C and watts, NaN where not told
	ECCUncorrected          float64 // errors since the driver was loaded, NaN where not told
	XIDs                    map[int]uint64
}

// id is the label device_id: "0" is a GPU, "0:1" its MIG instance 1.
func (d *GPUDevice) id() string {
	if d.MIG {
		return fmt.Sprintf("%d:%d", d.Index, d.Instance)
	}
	return strconv.Itoa(d.Index)
}

// gpuPatience is how long a reading may take before it counts as a fault: a driver that hangs
// does not return an error.
const gpuPatience = 15 * time.Second

// gpuWatch reads the GPUs off the request path.
type gpuWatch struct {
	read func() ([]GPUDevice, error) // nil: no GPUs

	reading sync.Mutex   // held while read runs
	begun   atomic.Int64 // when it began, Unix nanoseconds; 0 while none runs
	result  atomic.Pointer[gpuState]
}

// gpuState is the outcome of one reading.
type gpuState struct {
	devices []GPUDevice
	err     error
	load    []load.Metric
}

// loadOf is how busy the GPUs are, for a load report: utilization.gpu is the utilization of the
// busiest and utilization.gpu_memory the part of the memory in use of the fullest, 0 to 1; a MIG
// instance counts as one. What is not told is not there. One slow GPU makes its requests slow,
// so a mean would hide it.
func loadOf(devices []GPUDevice) []load.Metric {
	busy, full := -1.0, -1.0
	for i := range devices {
		d := &devices[i]
		if !math.IsNaN(d.Utilization) {
			busy = max(busy, d.Utilization/100)
		}
		if d.MemoryTotal > 0 {
			full = max(full, float64(d.MemoryUsed)/float64(d.MemoryTotal))
		}
	}
	var metrics []load.Metric
	if busy >= 0 {
		metrics = append(metrics, load.Metric{Name: "gpu", Value: min(busy, 1)})
	}
	if full >= 0 {
		metrics = append(metrics, load.Metric{Name: "gpu_memory", Value: min(full, 1)})
	}
	return metrics
}

func newGPUWatch(read func() ([]GPUDevice, error)) *gpuWatch {
	w := &gpuWatch{read: read}
	w.result.Store(&gpuState{})
	return w
}

// sample reads once, unless a reading hangs.
func (w *gpuWatch) sample(now time.Time) {
	if w.read == nil || !w.reading.TryLock() {
		return
	}
	defer w.reading.Unlock()
	w.begun.Store(now.UnixNano())
	devices, err := w.read()
	w.result.Store(&gpuState{devices, err, loadOf(devices)})
	w.begun.Store(0)
}

func (w *gpuWatch) latest() *gpuState { return w.result.Load() }

// report adds how busy the GPUs are to a load report, unless the driver does not answer.
func (w *gpuWatch) report(r *load.Report, now time.Time) {
	r.Utilization = r.Utilization[:0]
	if w.read == nil {
		return
	}
	if begun := w.begun.Load(); begun != 0 && now.Sub(time.Unix(0, begun)) > gpuPatience {
		return
	}
	r.Utilization = append(r.Utilization, w.latest().load...)
}

// fault is what is wrong with the GPUs, nil when nothing is.
func (w *gpuWatch) fault(now time.Time) error {
	if begun := w.begun.Load(); begun != 0 {
		if d := now.Sub(time.Unix(0, begun)); d > gpuPatience {
			return fmt.Errorf("the GPU driver has not answered for %d s", int(d.Seconds()))
		}
	}
	return w.latest().err
}
