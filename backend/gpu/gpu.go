// Package gpu reads the state of a machine's GPUs: NVIDIA's through NVML, whose library is loaded
// when the program runs, and AMD's through sysfs. Without either there are no GPUs, and nothing
// else changes. It is one of the two packages of weir that need cgo, because NVML's linker flags
// would hide mistakes of others; it is a leaf.
package gpu

import (
	"math"
)

// Device is one GPU's state when it was read, or that of a MIG instance of it.
type Device struct {
	// Index counts from 0 in the driver's order.
	Index int
	// MIG says that this is instance number Instance of the GPU, which is listed too: the memory
	// of the instance is part of the GPU's.
	MIG      bool
	Instance int
	// Name is the product ("NVIDIA A100-SXM4-40GB") and UUID the piece.
	Name, UUID string
	// MemoryUsed and MemoryTotal are in bytes, both 0 where the driver does not tell.
	MemoryUsed, MemoryTotal uint64
	// Utilization is the percentage of time in which a kernel ran, 0 to 100, NaN where the
	// driver does not tell (as for a GPU that is split by MIG, and its instances). It reaches 100
	// long before the GPU's throughput does.
	Utilization float64
	// Temperature of the GPU in degrees Celsius, and Power it draws in watts; NaN where the driver does not tell.
	Temperature, Power float64
	// ECCUncorrected counts the memory errors since the driver was loaded that could not be
	// corrected, NaN where the driver does not tell.
	ECCUncorrected float64
	// XIDs counts the errors that the driver reported since the first reading, by NVIDIA's number
	// of their kind. It is nil where there was none.
	XIDs map[int]uint64
}

// newDevice is a device of which nothing is told.
func newDevice(index int) Device {
	nan := math.NaN()
	return Device{Index: index, Utilization: nan, Temperature: nan, Power: nan, ECCUncorrected: nan}
}

// Machine reads the GPUs of a machine, whoever made them. It is for one goroutine.
type Machine struct {
	nvidia *Reader
	amd    *AMD
}

// Machine's kinds of GPU.
const (
	// Auto is NVIDIA's GPUs or, where there are none, AMD's.
	Auto   = "auto"
	NVIDIA = "nvidia"
	Radeon = "amd"
)

// NewMachine returns a reader of the GPUs of a kind.
func NewMachine(kind string) *Machine {
	m := &Machine{}
	if kind == Auto || kind == NVIDIA {
		m.nvidia = New()
	}
	if kind == Auto || kind == Radeon {
		m.amd = NewAMD("/")
	}
	return m
}

// Read returns the GPUs there are, as [Reader.Read] does.
func (m *Machine) Read() (devices []Device, err error) {
	if m.nvidia != nil {
		devices, err = m.nvidia.Read()
	}
	if m.amd == nil || len(devices) > 0 || err != nil {
		return devices, err
	}
	return m.amd.Read()
}

// Close ends what was opened. A Read afterwards opens it again.
func (m *Machine) Close() error {
	if m.nvidia == nil {
		return nil
	}
	return m.nvidia.Close()
}
