package backend

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// GPUDevice is one GPU's state; its fields are those of gpu.Device.
type GPUDevice struct {
	Index                   int
	Name, UUID              string
	MemoryUsed, MemoryTotal uint64  // bytes, 0 where not told
	Utilization             float64 // percent, NaN where not told
}

func (d *GPUDevice) id() string { return strconv.Itoa(d.Index) }

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
	w.result.Store(&gpuState{devices, err})
	w.begun.Store(0)
}

func (w *gpuWatch) latest() *gpuState { return w.result.Load() }

// fault is what is wrong with the GPUs, nil when nothing is.
func (w *gpuWatch) fault(now time.Time) error {
	if begun := w.begun.Load(); begun != 0 {
		if d := now.Sub(time.Unix(0, begun)); d > gpuPatience {
			return fmt.Errorf("the GPU driver has not answered for %d s", int(d.Seconds()))
		}
	}
	return w.latest().err
}
