package gpu

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Reader reads NVIDIA's GPUs. It is for one goroutine.
type Reader struct {
	lib     nvml.Interface
	running bool // NVML is initialised
	absent  bool // there is no NVML, and there will be none while the process lives
	most    int  // the largest number of GPUs seen
	// What this driver can tell besides.
	temperature, power, ecc, mig bool

	events events
}

// New returns a Reader of this machine's GPUs.
func New() *Reader { return newReader(nvml.New()) }

func newReader(lib nvml.Interface) *Reader { return &Reader{lib: lib} }

// Read returns the GPUs there are: none, without an error, on a machine without NVML or without
// a loaded driver. The error names every fault, of a GPU or of NVML itself; the GPUs that could
// be read are returned beside it. Faults are a GPU that was there before and is not any more, one
// that the driver calls lost or that needs a reset, memory errors that ECC could not correct, and
// XID errors, but for those that the GPU's user caused ([isUsers]). An XID error stays a fault until Close.
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
	handles := make([]nvml.Device, count)
	devices := make([]Device, 0, count)
	for i := range count {
		var d Device
		var err error
		handles[i], d, err = r.device(i)
		if err != nil {
			faults = append(faults, fmt.Errorf("GPU %d: %w", i, err))
			continue
		}
		if d.ECCUncorrected > 0 {
			faults = append(faults, fmt.Errorf("GPU %d: ECC could not correct %.0f memory errors; reset the GPU", i, d.ECCUncorrected))
		}
		devices = append(append(devices, d), r.instances(i, handles[i])...)
	}
	r.events.watch(r.lib, handles)
	faults = append(faults, r.events.read()...)
	for i := range devices {
		if d := &devices[i]; !d.MIG {
			d.XIDs = maps.Clone(r.events.seen[d.Index])
		}
	}
	return devices, errors.Join(faults...)
}

// symbols are the functions that Read needs. An old driver may lack one, and calling it then
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
	r.temperature = r.has("nvmlDeviceGetTemperature")
	r.power = r.has("nvmlDeviceGetPowerUsage")
	r.ecc = r.has("nvmlDeviceGetTotalEccErrors")
	r.mig = r.has("nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex")
	r.events = events{none: !r.has("nvmlEventSetCreate", "nvmlEventSetFree", "nvmlEventSetWait", "nvmlDeviceRegisterEvents")}
	r.running = true
	return false, nil
}

// has says whether the driver has all of these functions.
func (r *Reader) has(symbols ...string) bool {
	return !slices.ContainsFunc(symbols, func(s string) bool { return r.lib.Extensions().LookupSymbol(s) != nil })
}

func (r *Reader) device(index int) (nvml.Device, Device, error) {
	d := newDevice(index)
	handle, ret := r.lib.DeviceGetHandleByIndex(index)
	if ret != nvml.SUCCESS {
		return nil, d, ret
	}
	err := r.memory(handle, &d)
	if err != nil {
		return handle, d, err
	}
	rates, ret := handle.GetUtilizationRates()
	if known, err := tells(ret); err != nil {
		return handle, d, fmt.Errorf("utilization: %w", err)
	} else if known {
		d.Utilization = float64(rates.Gpu)
	}
	if err := r.further(handle, &d); err != nil {
		return handle, d, err
	}
	// A name is not worth a fault.
	d.Name, _ = handle.GetName()
	d.UUID, _ = handle.GetUUID()
	return handle, d, nil
}

func (r *Reader) memory(handle nvml.Device, d *Device) error {
	memory, ret := handle.GetMemoryInfo()
	if known, err := tells(ret); err != nil {
		return fmt.Errorf("memory: %w", err)
	} else if known {
		d.MemoryUsed, d.MemoryTotal = memory.Used, memory.Total
	}
	return nil
}

// further reads what a driver may lack.
func (r *Reader) further(handle nvml.Device, d *Device) error {
	if r.temperature {
		degrees, ret := handle.GetTemperature(nvml.TEMPERATURE_GPU)
		if known, err := mayTell(ret); err != nil {
			return fmt.Errorf("temperature: %w", err)
		} else if known {
			d.Temperature = float64(degrees)
		}
	}
	if r.power {
		milliwatts, ret := handle.GetPowerUsage()
		if known, err := mayTell(ret); err != nil {
			return fmt.Errorf("power: %w", err)
		} else if known {
			d.Power = float64(milliwatts) / 1000
		}
	}
	if r.ecc {
		n, ret := handle.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
		if known, err := mayTell(ret); err != nil {
			return fmt.Errorf("ECC: %w", err)
		} else if known {
			d.ECCUncorrected = float64(n)
		}
	}
	return nil
}

// instances lists the MIG instances of a GPU, none where it is not split. NVML tells their memory,
// and not their utilization.
func (r *Reader) instances(index int, handle nvml.Device) []Device {
	if !r.mig {
		return nil
	}
	if mode, _, ret := handle.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return nil
	}
	most, ret := handle.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var found []Device
	for i := range most {
		instance, ret := handle.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS { // there is none of this number
			continue
		}
		d := newDevice(index)
		d.MIG, d.Instance = true, i
		// The GPU itself was read: an instance that goes meanwhile is no fault.
		if r.memory(instance, &d) != nil {
			continue
		}
		d.Name, _ = instance.GetName()
		d.UUID, _ = instance.GetUUID()
		found = append(found, d)
	}
	return found
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

// mayTell is tells for what is not essential: only what says that the GPU is gone is a fault.
func mayTell(ret nvml.Return) (known bool, fault error) {
	switch ret {
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_RESET_REQUIRED:
		return false, ret
	}
	return ret == nvml.SUCCESS, nil
}

// Close ends NVML. A Read afterwards starts it again.
func (r *Reader) Close() error {
	if !r.running {
		return nil
	}
	r.running = false
	r.events.close()
	if ret := r.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("NVML does not stop: %w", ret)
	}
	return nil
}
