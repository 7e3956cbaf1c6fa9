package gpu

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// machine scripts an NVML: what Init answers, and its GPUs, which may change between reads.
type machine struct {
	init      nvml.Return
	missing   string // a symbol the driver lacks
	old       bool   // the driver lacks all that is not essential
	events    []nvml.EventData
	gpus      []*mock.Device
	starts    int
	shutdowns int
}

func (m *machine) reader() *Reader {
	lib := &mock.Interface{
		InitFunc: func() nvml.Return {
			m.starts++
			return m.init
		},
		ShutdownFunc: func() nvml.Return {
			m.shutdowns++
			return nvml.SUCCESS
		},
		ExtensionsFunc: func() nvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(s string) error {
				if s == m.missing || m.old && !slices.Contains(symbols(), s) {
					return errors.New("undefined symbol")
				}
				return nil
			}}
		},
		DeviceGetCountFunc: func() (int, nvml.Return) { return len(m.gpus), nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			return m.gpus[i], nvml.SUCCESS
		},
		EventSetCreateFunc: func() (nvml.EventSet, nvml.Return) { return m.eventSet(), nvml.SUCCESS },
	}
	return newReader(lib)
}

// eventSet gives each of the events once.
func (m *machine) eventSet() *mock.EventSet {
	return &mock.EventSet{
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			if len(m.events) == 0 {
				return nvml.EventData{}, nvml.ERROR_TIMEOUT
			}
			e := m.events[0]
			m.events = m.events[1:]
			return e, nvml.SUCCESS
		},
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
	}
}

func xid(gpu nvml.Device, number uint64) nvml.EventData {
	return nvml.EventData{Device: gpu, EventType: nvml.EventTypeXidCriticalError, EventData: number}
}

func a100(used uint64, utilization uint32) *mock.Device {
	return &mock.Device{
		GetNameFunc: func() (string, nvml.Return) { return "NVIDIA A100", nvml.SUCCESS },
		GetUUIDFunc: func() (string, nvml.Return) { return fmt.Sprintf("GPU-%d", used), nvml.SUCCESS },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
			return nvml.Memory{Total: 40 << 30, Used: used}, nvml.SUCCESS
		},
		GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: utilization}, nvml.SUCCESS
		},
		GetTemperatureFunc: func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS },
		GetPowerUsageFunc:  func() (uint32, nvml.Return) { return 250500, nvml.SUCCESS },
		GetTotalEccErrorsFunc: func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
			return 0, nvml.SUCCESS
		},
		GetMigModeFunc:     func() (int, int, nvml.Return) { return 0, 0, nvml.SUCCESS },
		RegisterEventsFunc: func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS },
	}
}

// known is a device of which the further figures are those of a100.
func known(d Device) Device {
	d.Temperature, d.Power, d.ECCUncorrected = 61, 250.5, 0
	return d
}

func TestReadTwoGPUs(t *testing.T) {
	m := &machine{gpus: []*mock.Device{a100(1<<30, 35), a100(2<<30, 100)}}
	r := m.reader()
	got, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		known(Device{Index: 0, Name: "NVIDIA A100", UUID: "GPU-1073741824", MemoryUsed: 1 << 30, MemoryTotal: 40 << 30, Utilization: 35}),
		known(Device{Index: 1, Name: "NVIDIA A100", UUID: "GPU-2147483648", MemoryUsed: 2 << 30, MemoryTotal: 40 << 30, Utilization: 100}),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := r.Close(); err != nil || m.shutdowns != 1 {
		t.Errorf("Close: %v after %d shutdowns", err, m.shutdowns)
	}
	if err := r.Close(); err != nil || m.shutdowns != 1 {
		t.Errorf("the second Close: %v after %d shutdowns", err, m.shutdowns)
	}
}

func TestNoGPU(t *testing.T) {
	f := func(m *machine, starts int) {
		t.Helper()
		r := m.reader()
		for range 2 {
			if got, err := r.Read(); len(got) != 0 || err != nil {
				t.Errorf("got %v, %v; want none", got, err)
			}
		}
		if m.starts != starts {
			t.Errorf("NVML was started %d times, want %d", m.starts, starts)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	f(&machine{init: nvml.ERROR_LIBRARY_NOT_FOUND}, 1)
	f(&machine{init: nvml.ERROR_DRIVER_NOT_LOADED}, 2)
	f(&machine{}, 1) // a driver without a GPU
}

// TestThisMachine reads with the real go-nvml: with or without a GPU it must not crash.
func TestThisMachine(t *testing.T) {
	r := New()
	devices, err := r.Read()
	if err != nil {
		t.Errorf("this machine's GPUs: %v", err)
	}
	t.Logf("%d GPUs", len(devices))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatADriverDoesNotTell(t *testing.T) {
	mig := a100(0, 0)
	mig.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED
	}
	mig.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Used: 7}, nvml.ERROR_NO_PERMISSION }
	got, err := (&machine{gpus: []*mock.Device{mig}}).reader().Read()
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{known(Device{Name: "NVIDIA A100", UUID: "GPU-0", Utilization: math.NaN()})}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}

func TestFaults(t *testing.T) {
	f := func(m *machine, devices int, message string) {
		t.Helper()
		got, err := m.reader().Read()
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("got %v; want %q in it", err, message)
		}
		if len(got) != devices {
			t.Errorf("%s: %d GPUs were read, want %d", message, len(got), devices)
		}
	}
	lost := a100(1, 1)
	lost.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }
	hot := a100(1, 1)
	hot.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, nvml.ERROR_GPU_IS_LOST }
	weak := a100(1, 1)
	weak.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, since nvml.EccCounterType) (uint64, nvml.Return) {
		if kind != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || since != nvml.VOLATILE_ECC {
			t.Errorf("ECC errors of kind %v since %v were asked for", kind, since)
		}
		return 2, nvml.SUCCESS
	}
	stuck := a100(1, 1)
	stuck.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{}, nvml.ERROR_RESET_REQUIRED
	}
	f(&machine{gpus: []*mock.Device{a100(1, 1), lost, stuck}}, 1, "GPU 1: memory: ERROR_GPU_IS_LOST\nGPU 2: utilization: ERROR_RESET_REQUIRED")
	f(&machine{gpus: []*mock.Device{hot, weak}}, 1,
		"GPU 0: temperature: ERROR_GPU_IS_LOST\nGPU 1: ECC could not correct 2 memory errors; reset the GPU")
	f(&machine{init: nvml.ERROR_LIB_RM_VERSION_MISMATCH}, 0, "NVML does not start: ERROR_LIB_RM_VERSION_MISMATCH")
	f(&machine{missing: "nvmlDeviceGetUtilizationRates"}, 0, "has no nvmlDeviceGetUtilizationRates")
}

func TestGPUThatVanishes(t *testing.T) {
	m := &machine{gpus: []*mock.Device{a100(1, 1), a100(2, 2)}}
	r := m.reader()
	if _, err := r.Read(); err != nil {
		t.Fatal(err)
	}
	m.gpus = m.gpus[:1]
	for range 2 {
		if got, err := r.Read(); err == nil || !strings.Contains(err.Error(), "1 of 2 GPUs are left") || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	}
	m.gpus = append(m.gpus, a100(2, 2))
	if _, err := r.Read(); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}
