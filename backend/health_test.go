package backend

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/load"
)

// TestHealthBeforeAndAfterLoading walks through a start, with the guide's keys.
func TestHealthBeforeAndAfterLoading(t *testing.T) {
	c := newClock()
	r := start(t, Options{Models: []Source{source("a", "v1", doubler()), source("b", "v2", doubler())}, Now: c.now}, false)
	c.advance(20 * time.Second)
	status := func(path string, want int) map[string]any {
		t.Helper()
		got := r.get(path)
		if got.status != want {
			t.Errorf("%s: %d %s; want %d", path, got.status, got.body, want)
		}
		return decode[map[string]any](t, got)
	}
	healthy := status("/health", 200)
	if diff := cmp.Diff(map[string]any{"status": "healthy", "timestamp": 1_800_000_020.0, "uptime_seconds": 20.0}, healthy); diff != "" {
		t.Error(diff)
	}
	live := status("/health/live", 200)
	if diff := cmp.Diff(map[string]any{"alive": true, "uptime_seconds": 20.0, "model_loaded": false}, live); diff != "" {
		t.Error(diff)
	}
	started := status("/health/startup", 503)
	if diff := cmp.Diff(map[string]any{"started": false, "model_loaded": false, "uptime": 20.0}, started); diff != "" {
		t.Error(diff)
	}
	ready := status("/health/ready", 503)
	if ready["ready"] != false || ready["reason"] != "the models are being loaded" {
		t.Errorf("ready: %v", ready)
	}
	status("/ready", 503)
	status("/v2/health/live", 200)
	status("/v2/health/ready", 503)
	r.wantMetric(`ml_model_loaded{model_version="v1"} 0`)

	c.advance(281 * time.Second)
	live = status("/health/live", 503)
	if diff := cmp.Diff(map[string]any{"alive": false, "reason": "Model failed to load", "uptime_seconds": 301.0, "model_loaded": false}, live); diff != "" {
		t.Error(diff)
	}

	if err := r.server.Load(); err != nil {
		t.Fatal(err)
	}
	status("/health/live", 200)
	if started = status("/health/startup", 200); started["started"] != true {
		t.Errorf("startup: %v", started)
	}
	for _, path := range []string{"/health/ready", "/ready"} {
		ready = status(path, 200)
		checks := ready["checks"].(map[string]any)
		model := map[string]any{"loaded": true, "time_since_last_prediction": nil, "models": []any{
			map[string]any{"name": "a", "version": "v1"}, map[string]any{"name": "b", "version": "v2"},
		}}
		if diff := cmp.Diff(model, checks["model"]); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]any{"available": false}, checks["gpu"]); diff != "" {
			t.Error(diff)
		}
	}
	if got := status("/v2/health/ready", 200); got["ready"] != true {
		t.Errorf("v2 ready: %v", got)
	}
	r.post("/v2/models/b/infer", inferBody)
	c.advance(3 * time.Second)
	ready = status("/health/ready", 200)
	if since := ready["checks"].(map[string]any)["model"].(map[string]any)["time_since_last_prediction"]; since != 3.0 {
		t.Errorf("time_since_last_prediction is %v, want 3", since)
	}
	r.wantMetric(`ml_model_loaded{model_version="v1"} 1`)
	r.wantMetric(`ml_model_loaded{model_version="v2"} 1`)
}

// machine writes the files that resources reads, under a root of their own.
func machine(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const meminfo = "MemTotal:       1000000 kB\nMemFree:         100000 kB\nMemAvailable:    400000 kB\n"

func TestResourcesOfAMachine(t *testing.T) {
	root := machine(t, map[string]string{
		"proc/stat":    "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1\n",
		"proc/meminfo": meminfo,
	})
	r := newResources(root)
	r.sample(time.Now())
	if u := r.latest(); u.cpu != nil {
		t.Errorf("the CPU's use is %v before there are two samples", *u.cpu)
	}
	// Of 200 ticks since, 150 were busy.
	if err := os.WriteFile(filepath.Join(root, "proc/stat"), []byte("cpu  200 0 150 750 100 0 0 0 0 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.sample(time.Now())
	u := r.latest()
	if u.cpu == nil || *u.cpu != 75 || u.memory == nil || *u.memory != 60 || u.availableMB != 400000.0/1024 {
		t.Errorf("cpu %v, memory %v with %v MB available; want 75, 60, 390.625", u.cpu, u.memory, u.availableMB)
	}
	if u.disk == nil || *u.disk < 0 || *u.disk > 100 || u.freeGB < 0 {
		t.Errorf("disk %v, %v GB free", u.disk, u.freeGB)
	}
}

func TestResourcesOfAContainer(t *testing.T) {
	root := machine(t, map[string]string{
		"proc/stat": "cpu  100 0 100 700 100 0 0 0 0 0\n", "proc/meminfo": meminfo,
		"sys/fs/cgroup/cpu.max":        "200000 100000\n",
		"sys/fs/cgroup/cpu.stat":       "usage_usec 5000000\nuser_usec 1\n",
		"sys/fs/cgroup/memory.max":     "1073741824\n",
		"sys/fs/cgroup/memory.current": "536870912\n",
		"sys/fs/cgroup/memory.stat":    "anon 1\ninactive_file 268435456\n",
	})
	r := newResources(root)
	now := time.Unix(1_800_000_000, 0)
	r.sample(now)
	// One second of CPU time in a second in which two were allowed.
	if err := os.WriteFile(filepath.Join(root, "sys/fs/cgroup/cpu.stat"), []byte("usage_usec 6000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.sample(now.Add(time.Second))
	u := r.latest()
	if u.cpu == nil || math.Abs(*u.cpu-50) > 1e-6 || u.memory == nil || *u.memory != 25 || u.availableMB != 768 {
		t.Errorf("cpu %v, memory %v with %v MB available; want 50, 25, 768", u.cpu, u.memory, u.availableMB)
	}
	// Without a limit the machine's figures count.
	for name, content := range map[string]string{"cpu.max": "max 100000\n", "memory.max": "max\n"} {
		if err := os.WriteFile(filepath.Join(root, "sys/fs/cgroup", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = newResources(root)
	r.sample(now)
	if u := r.latest(); u.memory == nil || *u.memory != 60 {
		t.Errorf("memory %v without a limit, want the machine's 60", u.memory)
	}
}

func TestResourcesUnknown(t *testing.T) {
	for _, files := range []map[string]string{
		{}, {"proc/stat": "intr 1\n", "proc/meminfo": ""}, {"proc/stat": "cpu a b c d e f g h\n", "sys/fs/cgroup/cpu.max": "1\n"},
	} {
		r := newResources(machine(t, files))
		r.sample(time.Now())
		r.sample(time.Now())
		if u := r.latest(); u.cpu != nil || u.memory != nil {
			t.Errorf("%v gave cpu %v, memory %v", files, u.cpu, u.memory)
		}
	}
}

// TestResourceGate checks that a full machine is reported, and decides only with the gate.
func TestResourceGate(t *testing.T) {
	for _, gate := range []bool{false, true} {
		s, err := New(Options{Models: []Source{source("a", "v1", doubler())}, ResourceGate: gate})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Load(); err != nil {
			t.Fatal(err)
		}
		full, some := 95.0, 10.0
		s.resources.use.Store(&resourceUse{cpu: &some, memory: &full, disk: &some})
		a := s.readiness()
		if a.Ready == gate || a.Checks.Resources.Memory.Healthy || !a.Checks.Resources.CPU.Healthy || a.Checks.Resources.Gate != gate {
			t.Errorf("gate %v: %+v", gate, a)
		}
		if gate && a.Reason != "a resource is short" {
			t.Errorf("the reason is %q", a.Reason)
		}
		s.resources.use.Store(&resourceUse{})
		if a := s.readiness(); !a.Ready {
			t.Errorf("gate %v, while nothing is known: %+v", gate, a)
		}
	}
}

func TestGPUDecidesReadiness(t *testing.T) {
	devices := []GPUDevice{
		{Index: 0, MemoryUsed: 1 << 30, MemoryTotal: 4 << 30, Utilization: 35},
		{
			Index: 1, Name: "A", UUID: "GPU-1", MemoryUsed: 2 << 30, MemoryTotal: 4 << 30, Utilization: math.NaN(),
			Temperature: 61, Power: 250.5, ECCUncorrected: math.NaN(), XIDs: map[int]uint64{31: 2},
		},
		{Index: 1, MIG: true, Instance: 3, MemoryUsed: 3 << 30, MemoryTotal: 4 << 30, Utilization: math.NaN()},
	}
	var fault error
	r := start(t, Options{
		Models: []Source{source("a", "v1", doubler())},
		GPU:    func() ([]GPUDevice, error) { return devices, fault },
	}, true)
	r.await(`ml_gpu_memory_allocated_bytes{device_id="1"} 2.147483648e+09`)
	r.wantMetric(`ml_gpu_utilization_percent{device_id="0"} 35`)
	for _, line := range []string{
		`ml_gpu_memory_allocated_bytes{device_id="1:3"} 3.221225472e+09`,
		`ml_gpu_memory_total_bytes{device_id="1"} 4.294967296e+09`,
		`ml_gpu_temperature_celsius{device_id="1"} 61`,
		`ml_gpu_power_watts{device_id="1"} 250.5`,
		`ml_gpu_ecc_uncorrected_errors{device_id="0"} 0`,
		`ml_gpu_xid_errors_total{device_id="1",xid="31"} 2`,
		`ml_gpu_info{device_id="1",name="A",uuid="GPU-1"} 1`,
		`ml_gpu_fault 0`,
	} {
		r.wantMetric(line)
	}
	report, err := load.Parse(r.get("/v2", load.RequestHeader, "text").header.Get(load.ResponseHeader))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]load.Metric{{Name: "gpu", Value: 0.35}, {Name: "gpu_memory", Value: 0.75}}, report.Utilization); diff != "" {
		t.Errorf("load report: %s", diff)
	}
	if page := r.get("/metrics").body; strings.Contains(page, `ml_gpu_ecc_uncorrected_errors{device_id="1"}`) || strings.Contains(page, `ml_gpu_utilization_percent{device_id="1"}`) {
		t.Error("a utilization that the driver does not tell was exported")
	}
	checks := decode[readyAnswer](t, r.get("/ready")).Checks.GPU
	if !checks.Available || checks.Devices != 2 || *checks.MemoryAllocated != 3072 || *checks.MemoryTotal != 8192 || !*checks.Healthy {
		t.Errorf("gpu: %+v", checks)
	}
	r.server.gpus.result.Store(&gpuState{devices: devices[:1], err: errors.New("GPU 1 is lost")})
	r.wantMetric(`ml_gpu_fault 1`)
	got := r.get("/health/ready")
	a := decode[readyAnswer](t, got)
	if got.status != 503 || a.Reason != "GPU fault: GPU 1 is lost" || *a.Checks.GPU.Healthy || a.Checks.GPU.Error == "" {
		t.Errorf("with a lost GPU: %d %s", got.status, got.body)
	}
	if got := r.get("/v2/models/a/ready"); got.status != 503 {
		t.Errorf("the model is ready: %s", got.body)
	}
	if got := r.get("/health/live"); got.status != 200 {
		t.Errorf("a lost GPU must not restart the program: %s", got.body)
	}
}

// TestGPUThatHangs reads from a driver that does not answer.
func TestGPUThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newGPUWatch(func() ([]GPUDevice, error) {
			<-release
			return []GPUDevice{{}}, nil
		})
		begun := time.Now()
		go w.sample(begun)
		synctest.Wait()
		var report load.Report
		if w.report(&report, begun.Add(20*time.Second)); len(report.Utilization) != 0 {
			t.Errorf("a driver that hangs reports %v", report.Utilization)
		}
		w.sample(begun) // does not wait behind the one that hangs
		if err := w.fault(begun.Add(gpuPatience)); err != nil {
			t.Errorf("within patience: %v", err)
		}
		if err := w.fault(begun.Add(20 * time.Second)); err == nil || !strings.Contains(err.Error(), "has not answered for 20 s") {
			t.Errorf("got %v", err)
		}
		close(release)
		synctest.Wait()
		if err := w.fault(begun.Add(time.Hour)); err != nil || len(w.latest().devices) != 1 {
			t.Errorf("after it answered: %v, %v", err, w.latest())
		}
	})
}
