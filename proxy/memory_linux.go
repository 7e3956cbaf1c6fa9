package proxy

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

var pageSize = int64(os.Getpagesize())

// residentSize is what the process holds of the machine's memory, in bytes (proc_pid_statm(5)).
func residentSize() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0, errors.New("/proc/self/statm has no second field")
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * pageSize, err
}
