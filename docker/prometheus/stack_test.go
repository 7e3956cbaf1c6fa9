// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package prometheus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"weir/bench/process"
	"weir/internal/certificate/certificatetest"
)

// deadline bounds every wait; nothing here takes that long unless it hangs.
const deadline = 90 * time.Second

// Tokens of weir's admin listener: that of Prometheus, which may look, and that of the test.
const (
	scrapeToken = "scrape-scrape-scrape"
	writeToken  = "write-write-write-write"
)

// stack is weir before two model servers, as the compose stack has them, with requests that do not end.
type stack struct {
	t       *testing.T
	group   *process.Group
	dir     string
	address string // of clients
	admin   string
	pods    map[string]string // addresses by pool

	mu   sync.Mutex
	told map[string]map[string]string // annotations of the alerts that came to Alertmanager, by name
}

// startStack builds and starts the programs. green has two GPUs, by a stand-in of NVIDIA's library.
func startStack(t *testing.T) *stack {
	s := &stack{t: t, dir: t.TempDir(), pods: map[string]string{}, told: map[string]map[string]string{}}
	s.group = process.NewGroup(s.dir)
	t.Cleanup(func() {
		if err := s.group.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
	s.build("weir", "CGO_ENABLED=0")
	s.build("weir-backend", "CGO_ENABLED=1")
	s.must(exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(s.dir, "libnvidia-ml.so.1"), "../../backend/gpu/testdata/nvml.c"))
	s.startPod("blue", "v1.0.0")
	s.startPod("green", "v2.0.0", "LD_LIBRARY_PATH="+s.dir, "STANDIN_NVML="+filepath.Join(s.dir, "gpus"))
	s.startWeir()
	return s
}

func (s *stack) must(cmd *exec.Cmd) {
	s.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// build builds as make build does, so that it finds what that has compiled.
func (s *stack) build(name, cgo string) {
	s.t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(s.dir, name), "weir/cmd/"+name)
	cmd.Env = append(os.Environ(), cgo)
	s.must(cmd)
}

func (s *stack) write(name, text string) (path string) {
	s.t.Helper()
	path = filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return full
}

func free(t *testing.T) string {
	t.Helper()
	address, _, err := process.FreeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func (s *stack) start(ready string, spec process.Spec) {
	s.t.Helper()
	p, err := s.group.Start(spec)
	if err == nil {
		err = p.Ready(s.t.Context(), deadline, process.Answers(ready))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// startPod starts a model server of the iris forest, which knows after few predictions whether they drift.
func (s *stack) startPod(pool, version string, env ...string) {
	s.t.Helper()
	address := free(s.t)
	s.pods[pool] = address
	file := s.write(pool+".yaml", fmt.Sprintf("listen: %q\nmodels: [{name: iris, version: %s, path: %q}]\ndrift: {first: 30, least: 20}\n",
		address, version, absolute(s.t, "../../backend/models/iris-forest.onnx")))
	if os.Getenv("ORT_DYLIB_PATH") == "" {
		env = append(env, "ORT_DYLIB_PATH="+absolute(s.t, "../../bin/lib/libonnxruntime.so")) // of make setup
	}
	s.start("http://"+address+"/health/ready", process.Spec{Name: pool, Path: filepath.Join(s.dir, "weir-backend"), Args: []string{"-c", file}, Env: env})
}

// configuration makes a weir of which every part that dashboards look at has something to tell. The route broken has
// an endpoint where nobody listens.
const configuration = `listeners:
  - address: %q
  - address: %q
    tls: {certificates: [{cert: %q, key: %q}]}
admin: {address: %q, token_file: weir.tokens}
log: {access: {output: off}}
pools:
  blue:
    version: v1.0.0
    endpoints: [%q]
    probe: {interval: 1s}
    load: {scrape: /metrics}
    concurrency: {max: 500, queue: {size: 10}}
    circuit_breaker: {max_requests: 500}
  green:
    version: v2.0.0
    endpoints: [%q]
    probe: {interval: 1s}
    load: {scrape: /metrics}
    concurrency: {max: 500, queue: {size: 10}}
    circuit_breaker: {max_requests: 500}
  shadow: {endpoints: [%q], probe: off}
  gone: {endpoints: ["127.0.0.1:1"], probe: off, outlier: off}
routes:
  - name: predict
    match: {path: /predict}
    split: {blue: 50, green: 50}
    affinity: {key: "header:X-User-ID"}
    experiment: {outcomes: [{name: success, from: status}, {name: latency, from: latency, goal: decrease}]}
    rollout: {steps: [{weight: 60, hold: 1h}, {weight: 100, hold: 1h}], analysis: off, tripwire: off}
    rate_limit: {rate: 100000/s}
    concurrency: {max: 500, queue: {size: 10}}
    hedge: {delay: p95}
    mirror: {pool: shadow, percent: 50}
    cache: {ttl: 1s}
  - name: broken
    match: {path: /broken}
    split: {gone: 1}
`

func (s *stack) startWeir() {
	s.t.Helper()
	s.write("weir.tokens", "prometheus:read:"+scrapeToken+"\ntest:write:"+writeToken+"\n")
	cert, key := certificatetest.New(s.t).Issue(s.t, 30*24*time.Hour, "localhost").Write(s.t, s.dir)
	s.address, s.admin = free(s.t), free(s.t)
	file := s.write("weir.yaml", fmt.Sprintf(configuration, s.address, free(s.t), cert, key, s.admin, s.pods["blue"], s.pods["green"], s.pods["green"]))
	s.start("http://"+s.admin+"/health/ready", process.Spec{Name: "weir", Path: filepath.Join(s.dir, "weir"), Args: []string{"serve", "-c", file}})
}

// traffic has users ask until the test ends: many at first, for drift and the experiment, then one each 10 ms.
func (s *stack) traffic() {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: deadline}
	ask := func(path string, user int) (int, error) {
		req, err := http.NewRequest("POST", "http://"+s.address+path, strings.NewReader(`{"features":[5.1,3.5,1.4,0.2]}`))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-User-ID", fmt.Sprint("user-", user))
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Body.Close()
	}
	for user := range 500 {
		if status, err := ask("/predict", user); err != nil || status != 200 {
			s.t.Fatalf("/predict answers %d, %v", status, err)
		}
	}
	if status, err := ask("/broken", 0); err != nil || status < 500 {
		s.t.Fatalf("/broken answers %d, %v", status, err)
	}
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for i := 500; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
			_, _ = ask("/predict", i) // the end of weir, at the latest, is no failure of the test
			if i%10 == 0 {
				_, _ = ask("/broken", i)
			}
		}
	})
	s.t.Cleanup(func() { close(done); ended.Wait() })
}

// order has weir do something, by its admin API.
func (s *stack) order(path, body string) {
	s.t.Helper()
	req, err := http.NewRequest("POST", "http://"+s.admin+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+writeToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
		s.t.Fatalf("%s: %s: %s", path, resp.Status, answer)
	}
}

// alertmanager is a stand-in that notes what it is told.
func (s *stack) alertmanager() (address string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var alerts []struct{ Labels, Annotations map[string]string }
		if r.URL.Path != "/api/v2/alerts" || json.NewDecoder(r.Body).Decode(&alerts) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range alerts {
			s.told[a.Labels["alertname"]] = a.Annotations
		}
	}))
	s.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func (s *stack) toldOf(alert string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[alert]
}

// place is where a target of a job is in a test, with the labels that discovery would have given it.
type place struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// rewritten writes the shipped configuration of Prometheus to dir, as it is but for three things: its targets are
// those of places, by job, "alerting" being Alertmanager's; it asks every second; and secrets are files in dir.
// Without places it keeps its targets.
func rewritten(t *testing.T, dir string, places map[string][]place) (path string) {
	t.Helper()
	c := read[map[string]any](t, "prometheus.yml")
	var files []any
	for _, f := range c["rule_files"].([]any) {
		files = append(files, absolute(t, f.(string)))
	}
	c["rule_files"] = files
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(scrapeToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aim := func(job string, at map[string]any) {
		if a, ok := at["authorization"].(map[string]any); ok {
			a["credentials_file"] = token
		}
		if places == nil {
			return
		}
		targets, known := places[job]
		if !known {
			t.Fatalf("prometheus.yml has a job %s, of which the test knows no target", job)
		}
		delete(at, "dns_sd_configs")
		at["static_configs"] = targets
	}
	for _, one := range c["scrape_configs"].([]any) {
		job := one.(map[string]any)
		aim(job["job_name"].(string), job)
	}
	for _, one := range c["alerting"].(map[string]any)["alertmanagers"].([]any) {
		aim("alerting", one.(map[string]any))
	}
	if places != nil {
		global := c["global"].(map[string]any)
		global["scrape_interval"], global["evaluation_interval"] = "1s", "1s"
	}
	var text bytes.Buffer
	if err := yaml.NewEncoder(&text).Encode(c); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
