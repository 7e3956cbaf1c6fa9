package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/health/grpc_health_v1"

	"weir/backend/tensor"
)

// shelf is a folder of doublers, whose files are any number of 2s.
type shelf struct {
	t    *testing.T
	path string

	mu     sync.Mutex
	loaded []*scripted
}

func newShelf(t *testing.T, versions ...string) *shelf {
	t.Helper()
	s := &shelf{t: t, path: t.TempDir()}
	for _, v := range versions {
		name, version, _ := strings.Cut(v, "/")
		s.write(name, version, "2")
	}
	return s
}

func (s *shelf) write(name, version, content string) {
	s.t.Helper()
	folder := filepath.Join(s.path, name, version)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		s.t.Fatal(err)
	}
	// All at once, as an operator would, so that a poll does not see half a file.
	if err := os.WriteFile(filepath.Join(folder, ".new"), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folder, ".new"), filepath.Join(folder, "model.onnx")); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) open(_, path string) (Runner, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.Trim(string(content), "2") != "" {
		return nil, fmt.Errorf("%s is no model", path)
	}
	m := doubler()
	double := m.run
	m.run = func(in []tensor.Tensor) ([]tensor.Tensor, error) {
		m.mu.Lock()
		closed := m.closed
		m.mu.Unlock()
		if closed > 0 {
			return nil, errors.New("a closed model was run")
		}
		return double(in)
	}
	s.mu.Lock()
	s.loaded = append(s.loaded, m)
	s.mu.Unlock()
	return m, nil
}

// stillOpen is how many of the models that were loaded are open; one that was closed twice is an error.
func (s *shelf) stillOpen() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.loaded {
		m.mu.Lock()
		if m.closed == 0 {
			n++
		} else if m.closed > 1 {
			s.t.Error("a model was closed twice")
		}
		m.mu.Unlock()
	}
	return n
}

func (s *shelf) folder(versions int) *Folder {
	return &Folder{Path: s.path, Versions: versions, Open: s.open}
}

// index is the repository index as lines.
func (r *running) index() (lines []string) {
	r.t.Helper()
	for _, e := range decode[[]indexEntry](r.t, r.post("/v2/repository/index", "")) {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", e.Name, e.Version, e.State, e.Reason)))
	}
	return lines
}

func (r *running) wantIndex(want ...string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.index()); diff != "" {
		r.t.Errorf("the index (-want +got):\n%s", diff)
	}
}

func TestVersionsOfAFolder(t *testing.T) {
	s := newShelf(t, "a/1", "a/2", "a/10", "b/v1.9.0", "b/v1.10.0", "b/v1.10.0-rc", ".git/1")
	for versions, want := range map[int]string{
		0:  "a/10 b/v1.10.0-rc",
		2:  "a/10 a/2 b/v1.10.0-rc b/v1.10.0",
		-1: "a/10 a/2 a/1 b/v1.10.0-rc b/v1.10.0 b/v1.9.0",
	} {
		r := start(t, Options{Folder: s.folder(versions)}, true)
		var have []string
		for _, m := range r.server.repository.Load().models {
			have = append(have, m.Name+"/"+m.Version)
		}
		if got := strings.Join(have, " "); got != want {
			t.Errorf("%d versions: %s; want %s", versions, got, want)
		}
		if got := r.post("/v2/models/a/infer", inferBody); got.header.Get(versionHeader) != "10" {
			t.Errorf("the default version: %d %v", got.status, got.header)
		}
	}
}

func TestLoadAndUnload(t *testing.T) {
	s := newShelf(t, "a/1", "a/2", "b/1")
	r := start(t, Options{Folder: s.folder(0), Control: true}, true)
	version := func(want string) {
		t.Helper()
		if got := r.post("/v2/models/a/infer", inferBody); got.status != 200 || got.header.Get(versionHeader) != want {
			t.Errorf("%d %s; want version %s", got.status, got.body, want)
		}
	}
	version("2")
	r.wantIndex("a/2 READY", "a/1 UNAVAILABLE", "b/1 READY")
	load := func(name, action, body string, versions ...string) {
		t.Helper()
		got := r.post("/v2/repository/models/"+name+"/"+action, body)
		if a := decode[v2LoadedAnswer](t, got); got.status != 200 || a.Name != name || !slices.Equal(a.Versions, versions) {
			t.Errorf("%s %s: %d %s; want %v", action, name, got.status, got.body, versions)
		}
	}
	load("a", "load", `{"parameters":{"versions":"1"}}`, "1") // back
	version("1")
	load("a", "load", `{"parameters":{"versions":"1,2"}}`, "1", "2")
	version("1")
	load("a", "load", "", "2") // as the configuration has it
	version("2")
	r.wantIndex("a/2 READY", "a/1 UNAVAILABLE unloaded", "b/1 READY")
	load("a", "unload", `{"parameters":{"unload_dependents":true}}`)
	r.wantIndex("a/2 UNAVAILABLE unloaded", "a/1 UNAVAILABLE unloaded", "b/1 READY")
	wantError(t, r.post("/v2/models/a/infer", inferBody), 404, "there is no model a (have b)")
	if got := r.post("/predict", `{"features":[1,2]}`); got.header.Get(modelHeader) != "b" {
		t.Errorf("/predict asks %q", got.header.Get(modelHeader))
	}
	if got := r.get("/health/ready"); got.status != 200 {
		t.Errorf("with one model: %d %s", got.status, got.body)
	}
	load("b", "unload", "{}")
	if got := r.get("/health/ready"); got.status != 503 || decode[readyAnswer](t, got).Reason != "no model is loaded" {
		t.Errorf("without a model: %d %s", got.status, got.body)
	}
	wantError(t, r.post("/predict", `{"features":[1,2]}`), 503, "no model is loaded")
	load("a", "load", "", "2")
	if got := r.post("/predict", `{"features":[1,2]}`); got.header.Get(modelHeader) != "a" {
		t.Errorf("/predict asks %q; the order of models is that of the start", got.header.Get(modelHeader))
	}
	if got := decode[[]indexEntry](t, r.post("/v2/repository/index", `{"ready":true}`)); len(got) != 1 || got[0].Name != "a" {
		t.Errorf("ready: %v", got)
	}
	r.wantMetric(`ml_model_loads_total{model="a",result="success"} 4`)
	if n := s.stillOpen(); n != 1 {
		t.Errorf("%d models are open, want 1", n)
	}
	health := grpc_health_v1.NewHealthClient(r.dial())
	for name, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{
		"a": grpc_health_v1.HealthCheckResponse_SERVING, "b": grpc_health_v1.HealthCheckResponse_NOT_SERVING,
	} {
		if got, err := health.Check(patient(t), &grpc_health_v1.HealthCheckRequest{Service: name}); err != nil || got.Status != want {
			t.Errorf("the health of %s: %v, %v; want %s", name, got, err, want)
		}
	}
}

// TestBadModelIsRefused keeps what is served when a file is no model, and says why in the index.
func TestBadModelIsRefused(t *testing.T) {
	s := newShelf(t, "a/1")
	r := start(t, Options{Folder: s.folder(0), Control: true}, true)
	s.write("a", "2", "nonsense")
	s.write("c", "1", "nonsense")
	got := r.post("/v2/repository/models/a/load", "")
	wantError(t, got, 422, "is no model")
	wantError(t, got, 422, "what was served before is served on")
	wantError(t, r.post("/v2/repository/models/a/load", `{"parameters":{"versions":"1,2"}}`), 422, "is no model")
	wantError(t, r.post("/v2/repository/models/c/load", ""), 422, "is no model")
	if got := r.post("/v2/models/a/infer", inferBody); got.status != 200 || got.header.Get(versionHeader) != "1" {
		t.Errorf("%d %s", got.status, got.body)
	}
	bad := func(name string) string {
		return "model " + name[:1] + ": " + filepath.Join(s.path, name, "model.onnx") + " is no model"
	}
	r.wantIndex("a/1 READY "+bad("a/2"), "a/2 UNAVAILABLE "+bad("a/2"), "c/1 UNAVAILABLE "+bad("c/1"))
	r.wantMetric(`ml_model_loads_total{model="a",result="failure"} 2`)
	s.write("a", "2", "2")
	if got := r.post("/v2/repository/models/a/load", ""); got.status != 200 {
		t.Errorf("once it is good: %d %s", got.status, got.body)
	}
	if n := s.stillOpen(); n != 1 {
		t.Errorf("%d models are open, want 1", n)
	}
}

func TestRepositoryRefusals(t *testing.T) {
	s := newShelf(t, "a/1")
	r := start(t, Options{Folder: s.folder(0), Control: true}, true)
	const models = "/v2/repository/models/"
	wantError(t, r.post(models+"x/load", ""), 404, "there is no model x in the repository")
	wantError(t, r.post(models+"x/unload", ""), 404, "there is no model x in the repository")
	wantError(t, r.post(models+"a/load", `{"parameters":{"versions":"7"}}`), 404, "model a has no version 7 (have 1)")
	wantError(t, r.post(models+"a/load", `{"parameters":{"versions":"1,1"}}`), 400, "want each version once")
	wantError(t, r.post(models+"a/load", `{"parameters":{"versions":""}}`), 400, "want each version once")
	wantError(t, r.post(models+"a/load", `{"parameters":{"config":"{}"}}`), 400, `"config" is not understood; a load takes versions`)
	wantError(t, r.post(models+"a/unload", `{"parameters":{"versions":"1"}}`), 400, `"versions" is not understood`)
	wantError(t, r.post(models+"a/load", "nonsense"), 400, "the body is not the JSON that is wanted here")
	wantError(t, r.post(models+"a%2f/load", ""), 400, "is not valid")
	wantError(t, r.get(models+"a/load"), 405, "want POST")
	wantError(t, r.get("/v2/repository/index"), 405, "want POST")
	wantError(t, r.post(models+"a", ""), 404, "there is nothing at")
	wantError(t, r.post("/v2/repository/index", `{"ready":1}`), 400, "the body is not the JSON")

	r = start(t, Options{Folder: s.folder(0)}, true)
	wantError(t, r.post(models+"a/load", ""), 403, "repository.control: true in the configuration allows it")
	wantError(t, r.post(models+"a/unload", ""), 403, "repository.control")
	r.wantIndex("a/1 READY")

	r = start(t, Options{Models: []Source{source("m", "v1", doubler())}, Control: true}, false)
	wantError(t, r.post(models+"m/load", ""), 503, "the models are being loaded")

	both, err := New(Options{Models: []Source{source("a", "v1", doubler())}, Folder: s.folder(0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Load(); err == nil || !strings.Contains(err.Error(), "the model a is both in the configuration and in the folder") {
		t.Errorf("a name twice: %v", err)
	}
	s.write("b c", "1", "2")
	if err := both.Load(); err == nil || !strings.Contains(err.Error(), "cannot be the name of a model") {
		t.Errorf("a bad name: %v", err)
	}
	none, err := New(Options{Folder: &Folder{Path: filepath.Join(s.path, "none"), Open: s.open}})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// TestModelsOfTheConfigurationReload reads a file again whose metadata has another version by then.
func TestModelsOfTheConfigurationReload(t *testing.T) {
	var opened []*scripted
	s := Source{Name: "a", Path: "a.onnx", Open: func() (Runner, error) {
		m := doubler()
		m.signature.Metadata = map[string]string{"version": fmt.Sprint("v", len(opened)+1)}
		opened = append(opened, m)
		return m, nil
	}}
	r := start(t, Options{Models: []Source{s}, Control: true}, true)
	r.wantIndex("a/v1 READY")
	if got := r.post("/v2/repository/models/a/load", ""); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	r.wantIndex("a/v2 READY")
	if got := r.post("/v2/repository/models/a/load", `{"parameters":{"versions":"v2"}}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	r.wantIndex("a/v3 READY")
	if opened[0].closed != 1 || opened[1].closed != 1 || opened[2].closed != 0 {
		t.Error("not the last one alone is open")
	}
}

// TestSwitchUnderLoad switches between versions, and tries to load a bad one, while clients ask over REST and gRPC: all
// are answered, by a version that was served at some time, and only one model is open in the end.
func TestSwitchUnderLoad(t *testing.T) {
	s := newShelf(t, "a/1", "a/2")
	s.write("a", "3", "nonsense")
	folder := s.folder(0)
	folder.Serving = func(string) Serving { return Serving{Batching: &Batching{MaxBatch: 4}} }
	r := start(t, Options{Folder: folder, Control: true}, false)
	if err := r.server.Load(); err == nil {
		t.Fatal("the newest version is no model, and was loaded")
	}
	if err := os.RemoveAll(filepath.Join(s.path, "a/3")); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Load(); err != nil {
		t.Fatal(err)
	}
	s.write("a", "3", "nonsense")
	var stop atomic.Bool
	var clients sync.WaitGroup
	var asked [2]atomic.Int64
	c := r.grpc()
	for i := range 4 {
		clients.Go(func() {
			for !stop.Load() {
				asked[i%2].Add(1)
				if i%2 == 0 {
					if got := r.post("/v2/models/a/infer", inferBody); got.status != 200 || !slices.Contains([]string{"1", "2"}, got.header.Get(versionHeader)) {
						t.Errorf("%d %s", got.status, got.body)
						return
					}
					continue
				}
				if got, err := c.ModelInfer(context.Background(), doubled()); err != nil || got.Outputs[0].Contents.Fp64Contents[1] != 4 {
					t.Errorf("%v, %v", got, err)
					return
				}
			}
		})
	}
	control := func(body string, want int) {
		t.Helper()
		before := asked[0].Load() + asked[1].Load()
		if got := r.post("/v2/repository/models/a/load", body); got.status != want {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
		for deadline := time.Now().Add(20 * time.Second); asked[0].Load()+asked[1].Load() < before+8 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // so that every version serves
		}
	}
	for range 20 {
		control(`{"parameters":{"versions":"1"}}`, 200)
		control(`{"parameters":{"versions":"3"}}`, 422)
		control(`{"parameters":{"versions":"2,1"}}`, 200)
		control(`{"parameters":{"versions":"2"}}`, 200)
	}
	stop.Store(true)
	clients.Wait()
	if n := s.stillOpen(); n != 1 {
		t.Errorf("%d models are open, want 1", n)
	}
	if n := asked[0].Load(); n < 100 || asked[1].Load() < 100 {
		t.Errorf("%d requests and %d calls are too few to tell", n, asked[1].Load())
	}
}

// TestReplacedModelServesOn replaces a model while a request runs on it and another waits for it: both are answered by
// the one that they came for.
func TestReplacedModelServesOn(t *testing.T) {
	old := newHeld()
	models := []Runner{old, doubler()}
	r := start(t, Options{Workers: 1, Control: true, Models: []Source{{Name: "a", Path: "a.onnx", Open: func() (Runner, error) {
		m := models[0]
		models = models[1:]
		return m, nil
	}}}}, true)
	answers := make(chan response, 2)
	go func() { answers <- r.post("/v2/models/a/infer", inferBody) }()
	<-old.entered
	go func() { answers <- r.post("/v2/models/a/infer", inferBody) }()
	r.await("ml_queued_requests 1")
	if got := r.post("/v2/repository/models/a/load", ""); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	old.proceed <- struct{}{}
	<-old.entered
	if old.closed != 0 {
		t.Error("a model that runs was closed")
	}
	old.proceed <- struct{}{}
	for range 2 {
		if got := <-answers; got.status != 200 {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		old.mu.Lock()
		closed := old.closed
		old.mu.Unlock()
		if closed == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the replaced model was never closed")
		}
	}
	if got := r.post("/v2/models/a/infer", inferBody); got.status != 200 {
		t.Errorf("the new one: %d %s", got.status, got.body)
	}
}
