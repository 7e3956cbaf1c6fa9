package backend

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// resourceLimit is the percentage from which a resource counts as unhealthy.
const resourceLimit = 90

// resourceUse is the machine's, or the container's where that is limited. Percentages are nil
// while unknown: of the CPU before the second sample, of all on a system without these files.
type resourceUse struct {
	cpu, memory, disk *float64
	availableMB       float64 // memory
	freeGB            float64 // disk
}

// resources samples CPU, memory and disk. sample is for one goroutine; latest for any.
type resources struct {
	root string // of the file system that is read, "/" but in tests
	last cpuTime
	use  atomic.Pointer[resourceUse]
}

// cpuTime are counters of CPU time: their differences give the use.
type cpuTime struct {
	used, total float64
	set         bool
}

func newResources(root string) *resources {
	r := &resources{root: root}
	r.use.Store(&resourceUse{})
	return r
}

func (r *resources) latest() *resourceUse { return r.use.Load() }

// sample reads everything once; it never waits. now is the clock that a CPU limit is held
// against.
func (r *resources) sample(now time.Time) {
	var u resourceUse
	if current, err := r.cpu(now); err == nil {
		if r.last.set && current.total > r.last.total {
			u.cpu = percent(current.used-r.last.used, current.total-r.last.total)
		}
		r.last = current
	}
	if used, limit, err := r.memory(); err == nil && limit > 0 {
		u.memory = percent(used, limit)
		u.availableMB = (limit - used) / (1 << 20)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(r.root, &disk); err == nil && disk.Blocks > 0 {
		// As df has it: what only root may use counts neither as used nor as free.
		used := float64(disk.Blocks - disk.Bfree)
		u.disk = percent(used, used+float64(disk.Bavail))
		u.freeGB = float64(disk.Bavail) * float64(disk.Bsize) / (1 << 30)
	}
	r.use.Store(&u)
}

func percent(part, whole float64) *float64 {
	p := min(max(100*part/whole, 0), 100)
	return &p
}

// cpu is the time the container used against what its limit allowed, or the machine's busy time
// against all its time.
func (r *resources) cpu(now time.Time) (cpuTime, error) {
	quota, period, err := r.two("sys/fs/cgroup/cpu.max")
	if err == nil && period > 0 {
		stat, err := r.fields("sys/fs/cgroup/cpu.stat")
		if err != nil {
			return cpuTime{}, err
		}
		allowed := float64(now.UnixMicro()) * quota / period
		return cpuTime{used: stat["usage_usec"], total: allowed, set: true}, nil
	}
	return r.machineCPU()
}

func (r *resources) machineCPU() (cpuTime, error) {
	raw, err := os.ReadFile(filepath.Join(r.root, "proc/stat"))
	if err != nil {
		return cpuTime{}, err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	columns := strings.Fields(string(line))
	if len(columns) < 9 || columns[0] != "cpu" {
		return cpuTime{}, errors.New("proc/stat does not begin with the line of all CPUs")
	}
	t := cpuTime{set: true}
	for i, column := range columns[1:9] { // user nice system idle iowait irq softirq steal
		v, err := strconv.ParseFloat(column, 64)
		if err != nil {
			return cpuTime{}, err
		}
		t.total += v
		if i != 3 && i != 4 {
			t.used += v
		}
	}
	return t, nil
}

// memory is what the container uses of its limit, or the machine of its memory, in bytes.
// Cached files that can be dropped at once do not count as used.
func (r *resources) memory() (used, limit float64, err error) {
	limit, err = r.one("sys/fs/cgroup/memory.max")
	if err != nil {
		info, err := r.fields("proc/meminfo")
		if err != nil {
			return 0, 0, err
		}
		return (info["MemTotal:"] - info["MemAvailable:"]) * 1024, info["MemTotal:"] * 1024, nil
	}
	if used, err = r.one("sys/fs/cgroup/memory.current"); err != nil {
		return 0, 0, err
	}
	stat, err := r.fields("sys/fs/cgroup/memory.stat")
	return used - stat["inactive_file"], limit, err
}

// one reads a file of one number; the word "max" (no limit) is an error.
func (r *resources) one(path string) (float64, error) {
	raw, err := os.ReadFile(filepath.Join(r.root, path))
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(raw)), 64)
}

// two reads a file of two numbers in a line; "max" is an error.
func (r *resources) two(path string) (a, b float64, err error) {
	raw, err := os.ReadFile(filepath.Join(r.root, path))
	if err != nil {
		return 0, 0, err
	}
	columns := strings.Fields(string(raw))
	if len(columns) != 2 {
		return 0, 0, fmt.Errorf("%s holds %q; want two numbers", path, raw)
	}
	if a, err = strconv.ParseFloat(columns[0], 64); err != nil {
		return 0, 0, err
	}
	b, err = strconv.ParseFloat(columns[1], 64)
	return a, b, err
}

// fields reads a file of lines "name number …".
func (r *resources) fields(path string) (map[string]float64, error) {
	f, err := os.Open(filepath.Join(r.root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fields := make(map[string]float64)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		columns := strings.Fields(lines.Text())
		if len(columns) < 2 {
			continue
		}
		if v, err := strconv.ParseFloat(columns[1], 64); err == nil {
			fields[columns[0]] = v
		}
	}
	if len(fields) == 0 && lines.Err() == nil {
		return nil, fmt.Errorf("%s is empty: %w", path, fs.ErrInvalid)
	}
	return fields, lines.Err()
}
