package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// files writes files, by path, below a new folder.
func files(t *testing.T, text map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, s := range text {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestQuotaSpeaksBothVersions(t *testing.T) {
	for name, tt := range map[string]struct {
		self, place string
		files       map[string]string
		limited     map[string]string
		unlimited   map[string]string
	}{
		"version 1": {
			self: "3:cpu,cpuacct:/pod\n0::/\n", place: "cpu,cpuacct/pod", files: map[string]string{"cpu,cpuacct/pod/tasks": ""},
			limited: map[string]string{"cpu.cfs_period_us": "5000", "cpu.cfs_quota_us": "3000"}, unlimited: map[string]string{"cpu.cfs_quota_us": "-1"},
		},
		"version 1, linked by its short name": {
			self: "3:cpuacct,cpu:/\n", place: "cpu", files: map[string]string{"cpu/tasks": ""},
			limited: map[string]string{"cpu.cfs_quota_us": "3000"}, unlimited: map[string]string{"cpu.cfs_quota_us": "-1"},
		},
		"version 2": {
			self: "0::/user/session/scope\n", place: "user",
			files: map[string]string{
				"user/cgroup.subtree_control": "memory cpu pids\n", "user/session/cgroup.subtree_control": "memory\n",
				"user/session/scope/cgroup.subtree_control": "", "cgroup.subtree_control": "cpu cpuset\n",
			},
			limited: map[string]string{"cpu.max": "3000 5000"}, unlimited: map[string]string{"cpu.max": "max 5000"},
		},
	} {
		root := files(t, tt.files)
		self := filepath.Join(files(t, map[string]string{"cgroup": tt.self}), "cgroup")
		q, err := newQuota(root, self)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if want := filepath.Join(root, tt.place, quotaPrefix+strconv.Itoa(os.Getpid())); q.dir != want {
			t.Errorf("%s: the group is %s, want %s", name, q.dir, want)
		}
		for _, step := range []struct {
			share float64
			want  map[string]string
		}{{0.6, tt.limited}, {0, tt.unlimited}} {
			if err := q.Limit(step.share); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for file, want := range step.want {
				if got, err := os.ReadFile(filepath.Join(q.dir, file)); err != nil || string(got) != want {
					t.Errorf("%s: a share of %v writes %q to %s (%v), want %q", name, step.share, got, file, err, want)
				}
			}
		}
	}
}

func TestQuotaSaysWhyThereIsNone(t *testing.T) {
	for name, tt := range map[string]struct{ self, want string }{
		"no hierarchy":  {"2:cpu:/gone\n", "no such file"},
		"no controller": {"0::/user\n", "no control groups with the cpu controller"},
		"no groups":     {"", "no control groups with the cpu controller"},
	} {
		root := files(t, map[string]string{"user/cgroup.subtree_control": "memory\n"})
		self := filepath.Join(files(t, map[string]string{"cgroup": tt.self}), "cgroup")
		if q, err := newQuota(root, self); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, q, err, tt.want)
		}
	}
}

func TestQuotaSweepsWhatOthersLeft(t *testing.T) {
	root := files(t, map[string]string{"cpu/tasks": ""})
	gone, alive := filepath.Join(root, "cpu", quotaPrefix+"99999999"), filepath.Join(root, "cpu", quotaPrefix+"1")
	for _, dir := range []string{gone, alive} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(files(t, map[string]string{"cgroup": "2:cpu:/\n"}), "cgroup")
	if _, err := newQuota(root, self); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the group of a process that is no more is left")
	}
	if _, err := os.Stat(alive); err != nil {
		t.Errorf("the group of a running process was taken: %v", err)
	}
}

// Where the machine lets us, a member of a real group is held to its share, and the group goes.
func TestQuotaHoldsAProgram(t *testing.T) {
	q, err := NewQuota()
	if err != nil {
		t.Logf("not here: %v", err)
		if !strings.Contains(err.Error(), "control group") {
			t.Errorf("error %v does not say what is missing", err)
		}
		return
	}
	g := newGroup(t)
	s := spec("spinner")
	s.DiesOfTerm = true // it may not have come to catch it, with the little that it gets
	p := start(t, g, s)
	if err := q.Add(p); err != nil {
		t.Fatal(err)
	}
	if err := q.Limit(0.2); err != nil {
		t.Fatal(err)
	}
	before, began := usage(t, p), time.Now()
	time.Sleep(300 * time.Millisecond)
	used, elapsed := usage(t, p).Sub(before).CPU, time.Since(began)
	if used > elapsed*35/100 {
		t.Errorf("used %v in %v, want 20 %% at most and some leeway", used, elapsed)
	}
	if err := g.Stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(q.dir); err == nil {
		t.Errorf("%s is left", q.dir)
	}
}

func usage(t *testing.T, p *Process) Usage {
	t.Helper()
	u, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}
