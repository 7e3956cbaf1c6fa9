//go:build !linux

package bench

// readMachineTime is known on Linux only.
func readMachineTime() machineTime { return machineTime{} }
