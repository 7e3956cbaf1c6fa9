package bench

import (
	"bytes"
	"os"
	"strconv"
)

// readMachineTime reads the first line of /proc/stat: "cpu", then ticks of user, nice, system,
// idle, iowait, irq, softirq and steal. It is empty when that cannot be read.
func readMachineTime() machineTime {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTime{}
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var t machineTime
	for i, field := range bytes.Fields(line) {
		n, err := strconv.ParseUint(string(field), 10, 64)
		switch {
		case i == 0 || i > 8: // the name, and time of guests, which is in user already
		case err != nil:
			return machineTime{}
		case i == 4 || i == 5:
			t.idle += n
		default:
			t.busy += n
		}
	}
	return t
}
