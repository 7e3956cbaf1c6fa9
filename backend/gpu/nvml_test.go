package gpu

import (
	"math"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestXIDErrors: those of the user's are only counted; others are faults until NVML is started anew.
func TestXIDErrors(t *testing.T) {
	first, second := a100(1, 1), a100(2, 2)
	m := &machine{gpus: []*mock.Device{first, second}}
	r := m.reader()
	read := func(faults string, counts ...map[int]uint64) {
		t.Helper()
		devices, err := r.Read()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != faults || len(devices) != 2 {
			t.Errorf("%d GPUs and the faults %q; want %q", len(devices), got, faults)
		}
		for i, want := range counts {
			if diff := cmp.Diff(want, devices[i].XIDs); diff != "" {
				t.Errorf("GPU %d: %s", i, diff)
			}
		}
	}
	read("", nil, nil)
	m.events = []nvml.EventData{xid(first, 31), xid(first, 31), xid(second, 43)}
	read("", map[int]uint64{31: 2}, map[int]uint64{43: 1})
	m.events = []nvml.EventData{xid(second, 79), xid(second, 79), xid(first, 63)}
	const fault = "GPU 1: XID error 79; reset the GPU and restart"
	read(fault, map[int]uint64{31: 2, 63: 1}, map[int]uint64{43: 1, 79: 2})
	read(fault, map[int]uint64{31: 2, 63: 1}, map[int]uint64{43: 1, 79: 2})
	m.events = []nvml.EventData{xid(a100(3, 3), 48), {Device: first, EventType: nvml.EventTypePState}}
	read(fault + "\na GPU: XID error 48; reset the GPU and restart")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	read("", nil, nil)
}

// TestEventsWithoutEnd: a driver that always has one more event does not hold the reading.
func TestEventsWithoutEnd(t *testing.T) {
	gpu := a100(1, 1)
	m := &machine{gpus: []*mock.Device{gpu}}
	for range 3 * mostEvents {
		m.events = append(m.events, xid(gpu, 13))
	}
	devices, err := m.reader().Read()
	if err != nil || devices[0].XIDs[13] != mostEvents {
		t.Errorf("got %v, %v; want %d events", devices, err, mostEvents)
	}
}

// TestGPUWithoutEvents: one that cannot be watched is read all the same.
func TestGPUWithoutEvents(t *testing.T) {
	gpu := a100(1, 1)
	gpu.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.ERROR_NOT_SUPPORTED }
	m := &machine{gpus: []*mock.Device{gpu}, events: []nvml.EventData{xid(gpu, 79)}}
	if devices, err := m.reader().Read(); err != nil || len(devices) != 1 || len(m.events) != 1 {
		t.Errorf("got %v, %v, and %d events are left", devices, err, len(m.events))
	}
}

// TestOldDriver: what the driver has no function for is not told, and not called.
func TestOldDriver(t *testing.T) {
	gpu := &mock.Device{ // any other call panics
		GetNameFunc:             a100(0, 0).GetNameFunc,
		GetUUIDFunc:             a100(0, 0).GetUUIDFunc,
		GetMemoryInfoFunc:       a100(0, 0).GetMemoryInfoFunc,
		GetUtilizationRatesFunc: a100(0, 7).GetUtilizationRatesFunc,
	}
	got, err := (&machine{gpus: []*mock.Device{gpu}, old: true}).reader().Read()
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	want := []Device{{
		Name: "NVIDIA A100", UUID: "GPU-0", MemoryTotal: 40 << 30, Utilization: 7,
		Temperature: nan, Power: nan, ECCUncorrected: nan,
	}}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}

// TestMIG: the instances are listed beside their GPU, with their memory and without a utilization.
func TestMIG(t *testing.T) {
	split := a100(9, 0)
	split.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED
	}
	split.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, nvml.DEVICE_MIG_ENABLE, nvml.SUCCESS }
	split.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	split.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 0 && i != 3 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return a100(uint64(i+1)<<30, 0), nvml.SUCCESS
	}
	got, err := (&machine{gpus: []*mock.Device{split, a100(5, 50)}}).reader().Read()
	if err != nil {
		t.Fatal(err)
	}
	whole := known(newDevice(0))
	whole.Name, whole.UUID, whole.MemoryUsed, whole.MemoryTotal = "NVIDIA A100", "GPU-9", 9, 40<<30
	one, two := newDevice(0), newDevice(0)
	one.MIG, one.Name, one.UUID, one.MemoryUsed, one.MemoryTotal = true, "NVIDIA A100", "GPU-1073741824", 1<<30, 40<<30
	two.MIG, two.Name, two.UUID, two.MemoryUsed, two.MemoryTotal = true, "NVIDIA A100", "GPU-4294967296", 4<<30, 40<<30
	two.Instance = 3
	other := known(Device{Index: 1, Name: "NVIDIA A100", UUID: "GPU-5", MemoryUsed: 5, MemoryTotal: 40 << 30, Utilization: 50})
	if diff := cmp.Diff([]Device{whole, one, two, other}, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}
}

// TestNotEssential: only what says that the GPU is gone makes a fault of a figure that can be missed.
func TestNotEssential(t *testing.T) {
	gpu := a100(1, 1)
	gpu.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	r := (&machine{gpus: []*mock.Device{gpu}}).reader()
	if got, err := r.Read(); err != nil || len(got) != 1 || !math.IsNaN(got[0].Power) {
		t.Errorf("got %v, %v", got, err)
	}
	gpu.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_RESET_REQUIRED }
	if got, err := r.Read(); err == nil || !strings.Contains(err.Error(), "GPU 0: power: ERROR_RESET_REQUIRED") {
		t.Errorf("got %v, %v", got, err)
	}
}
