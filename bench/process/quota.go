package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Quota is a control group whose programs together may use only so much of a processor. Linux
// only, and only where control groups with the cpu controller may be made.
type Quota struct {
	dir string // of the control group
	v1  bool   // version 1 of control groups
}

const (
	// quotaPeriod is short, so that what waits for the next period does not wait long.
	quotaPeriod = 5 * time.Millisecond
	quotaPrefix = "weir-quota-" // of the group's name; the id of the process that made it follows
)

// NewQuota makes a control group without a limit. It also removes those that a process left behind
// that could not end in order. The error says why none can be made here.
func NewQuota() (*Quota, error) { return newQuota("/sys/fs/cgroup", "/proc/self/cgroup") }

// newQuota is NewQuota with the places where control groups are and where the own ones are named.
func newQuota(root, self string) (*Quota, error) {
	var errs []error
	for _, place := range quotaPlaces(root, self) {
		sweep(place.dir)
		q := &Quota{dir: filepath.Join(place.dir, quotaPrefix+strconv.Itoa(os.Getpid())), v1: place.v1}
		err := os.Mkdir(q.dir, 0o755)
		if err == nil {
			if err = q.Limit(0); err == nil {
				return q, nil
			}
			err = errors.Join(err, q.Close())
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("no control groups with the cpu controller in %s", root)
	}
	return nil, fmt.Errorf("no control group with a CPU quota can be made: %w", errors.Join(errs...))
}

// quotaPlace is a control group in which another may be made.
type quotaPlace struct {
	dir string
	v1  bool
}

// quotaPlaces returns where to try. In version 1 that is the own group of the cpu hierarchy. In
// version 2 a group with processes of its own cannot share the processor out, so its parents, from
// the nearest on, are better than itself: one of them may be delegated to the user.
func quotaPlaces(root, self string) []quotaPlace {
	own, err := os.ReadFile(self)
	if err != nil {
		return nil
	}
	var places []quotaPlace
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3:
		case slices.Contains(strings.Split(f[1], ","), "cpu"):
			dir := filepath.Join(root, f[1])
			if _, err := os.Stat(dir); err != nil {
				dir = filepath.Join(root, "cpu")
			}
			places = append(places, quotaPlace{dir: filepath.Join(dir, f[2]), v1: true})
		case f[1] == "":
			for path := f[2]; ; path = filepath.Dir(path) {
				if dir := filepath.Join(root, path); sharesCPU(dir) {
					places = append(places, quotaPlace{dir: dir})
				}
				if path == filepath.Dir(path) {
					break
				}
			}
		}
	}
	return places
}

// sharesCPU reports whether groups in a group of version 2 have the cpu controller.
func sharesCPU(dir string) bool {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	return err == nil && slices.Contains(strings.Fields(string(enabled)), "cpu")
}

// sweep removes the groups of processes that are no more. A group that still has members stays.
func sweep(dir string) {
	left, err := filepath.Glob(filepath.Join(dir, quotaPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		pid := strings.TrimPrefix(filepath.Base(path), quotaPrefix)
		if _, err := os.Stat(filepath.Join("/proc", pid)); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path) // the kernel refuses while it has members
		}
	}
}

// Limit lets the members use that share of one processor in all; 0 takes the limit away.
func (q *Quota) Limit(share float64) error {
	period := quotaPeriod.Microseconds()
	quota := strconv.FormatInt(int64(share*float64(period)), 10)
	if !q.v1 {
		if share == 0 {
			quota = "max"
		}
		return q.set("cpu.max", fmt.Sprintf("%s %d", quota, period))
	}
	if share == 0 {
		return q.set("cpu.cfs_quota_us", "-1")
	}
	return errors.Join(q.set("cpu.cfs_period_us", strconv.FormatInt(period, 10)), q.set("cpu.cfs_quota_us", quota))
}

// Add makes a program and its children members. Children that it starts later are members too.
func (q *Quota) Add(p *Process) error {
	pids, err := p.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := q.set("cgroup.procs", strconv.Itoa(pid)); err != nil {
			return err
		}
	}
	return nil
}

func (q *Quota) set(file, value string) error {
	return os.WriteFile(filepath.Join(q.dir, file), []byte(value), 0o644)
}

// Close removes the group, whose members must have ended.
func (q *Quota) Close() error {
	// The kernel takes a moment to see a member off that has been waited for.
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(q.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("remove the control group: %w", err)
		}
	}
}
