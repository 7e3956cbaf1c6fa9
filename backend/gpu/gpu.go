// Package gpu reads the state of NVIDIA's GPUs through NVML, whose library is loaded when the
// program runs: without it there are no GPUs, and nothing else changes. It is one of the two
// packages of weir that need cgo, because NVML's linker flags would hide mistakes of others; it
// is a leaf.
package gpu

import (
	"errors"
	"fmt"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Device is one GPU's state when it was read.
type Device struct {
	// Index counts from 0 in NVML's order.
	Index int
	// Name is the product ("NVIDIA A100-SXM4-40GB") and UUID the piece.
	Name, UUID string
	// MemoryUsed and MemoryTotal are in bytes, both 0 where the driver does not tell.
	MemoryUsed, MemoryTotal uint64
	// Utilization is the percentage of time in which a kernel ran, 0 to 100, NaN where the
	// driver does not tell (as for a GPU that is split by MIG). It reaches 100 long before the
	// GPU's throughput does.
	Utilization float64
}

// Reader reads the GPUs. It is for one goroutine.
type Reader struct {
	lib     nvml.Interface
	running bool // NVML is initialised
	absent  bool // there is no NVML, and there will be none while the process lives
	most    int  // the largest number of GPUs seen
}

// New returns a Reader of this machine's GPUs.
func New() *Reader { return newReader(nvml.New()) }

func newReader(lib nvml.Interface) *Reader { return &Reader{lib: lib} }

// Read returns the GPUs there are: none, without an error, on a machine without NVML or without
// a loaded driver. The error names every fault, of a GPU or of NVML itself; the GPUs that could
// be read are returned beside it. A GPU that was there before and is not any more is a fault.
func (r *Reader) Read() ([]Device, error) {
	if none, err := r.start(); none || err != nil {
		return nil, err
	}
	count, ret := r.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("NVML cannot count the GPUs: %w", ret)
	}
	var faults []error
	if count < r.most {
		faults = append(faults, fmt.Errorf("%d of %d GPUs are left", count, r.most))
	}
	r.most = max(r.most, count)
	devices := make([]Device, 0, count)
	for i := range count {
		d, err := r.device(i)
		if err != nil {
			faults = append(faults, fmt.Errorf("GPU %d: %w", i, err))
			continue
		}
		devices = append(devices, d)
	}
	return devices, errors.Join(faults...)
}

// symbols are the functions that Read calls. An old driver may lack one, and calling it then
// would end the process.
func symbols() []string {
	return []string{
		"nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName", "nvmlDeviceGetUUID",
		"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates",
	}
}

// start initialises NVML if need be; none says that there is nothing to read.
func (r *Reader) start() (none bool, err error) {
	if r.running || r.absent {
		return r.absent, nil
	}
	switch ret := r.lib.Init(); ret {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		r.absent = true
		return true, nil
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return true, nil // it may be loaded later
	default:
		return false, fmt.Errorf("NVML does not start: %w", ret)
	}
	for _, s := range symbols() {
		if err := r.lib.Extensions().LookupSymbol(s); err != nil {
			r.lib.Shutdown()
			return false, fmt.Errorf("the NVIDIA driver's NVML has no %s: %w; install a driver of the last ten years", s, err)
		}
	}
	r.running = true
	return false, nil
}

func (r *Reader) device(index int) (Device, error) {
	handle, ret := r.lib.DeviceGetHandleByIndex(index)
	if ret != nvml.SUCCESS {
		return Device{}, ret
	}
	d := Device{Index: index, Utilization: math.NaN()}
	memory, ret := handle.GetMemoryInfo()
	if known, err := tells(ret); err != nil {
		return d, fmt.Errorf("memory: %w", err)
	} else if known {
		d.MemoryUsed, d.MemoryTotal = memory.Used, memory.Total
	}
	rates, ret := handle.GetUtilizationRates()
	if known, err := tells(ret); err != nil {
		return d, fmt.Errorf("utilization: %w", err)
	} else if known {
		d.Utilization = float64(rates.Gpu)
	}
	// A name is not worth a fault.
	d.Name, _ = handle.GetName()
	d.UUID, _ = handle.GetUUID()
	return d, nil
}

// tells separates "the driver does not tell this" from a fault.
func tells(ret nvml.Return) (known bool, fault error) {
	switch ret {
	case nvml.SUCCESS:
		return true, nil
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NO_PERMISSION, nvml.ERROR_NO_DATA:
		return false, nil
	}
	return false, ret
}

// Close ends NVML. A Read afterwards starts it again.
func (r *Reader) Close() error {
	if !r.running {
		return nil
	}
	r.running = false
	if ret := r.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("NVML does not stop: %w", ret)
	}
	return nil
}
