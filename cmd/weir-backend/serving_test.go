package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend"
)

func TestServingOfAModel(t *testing.T) {
	s, err := gather(t, nil, `
models:
  - {name: a, path: /a.onnx, instances: 2, queue: 3, priorities: 4, priority: 1, batching: {max_batch: 8, max_delay: 2ms, preferred: [2, 4]}}
  - {name: b, path: /b.onnx}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := backend.Serving{
		Instances: 2, Queue: 3, Priorities: 4, Priority: 1,
		Batching: &backend.Batching{MaxBatch: 8, MaxDelay: 2 * time.Millisecond, Preferred: []int{2, 4}},
	}
	if diff := cmp.Diff(want, s.models[0].serving()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(backend.Serving{}, s.models[1].serving()); diff != "" {
		t.Error(diff)
	}
}

// TestBatchingProgram lets requests of several clients run together.
func TestBatchingProgram(t *testing.T) {
	config := filepath.Join(t.TempDir(), "backend.yaml")
	model, err := filepath.Abs(iris)
	if err != nil {
		t.Fatal(err)
	}
	// Only a full batch runs, so that each of the four waits for the others.
	content := fmt.Sprintf("models: [{name: iris, version: a, path: %s, batching: {max_batch: 4, max_delay: 1m}}]\n", model)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	base := start(t, nil, "-c", config).base()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			if status, _, answer := ask(t, "POST", base+"/predict", `{"features":[6.3,3.3,6.0,2.5]}`); status != 200 || answer["prediction"] != 2.0 {
				t.Errorf("%d %v", status, answer)
			}
		})
	}
	clients.Wait()
	for _, want := range []string{`ml_batch_rows_sum{model="iris",model_version="a"} 4`, `ml_batch_rows_count{model="iris",model_version="a"} 1`} {
		if page := text(t, base+"/metrics"); !strings.Contains(page, want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// TestExecutionProviders asks for what this machine does not have, and is told: in the log, or by the end.
func TestExecutionProviders(t *testing.T) {
	p := start(t, nil, "--model", "iris="+iris, "--execution-providers", "tensorrt,cuda")
	base := p.base()
	entry := p.said("the model is served, but not by every execution provider that is asked for")
	if entry == nil || fmt.Sprint(entry["execution_providers"]) != "[cpu]" || !strings.Contains(fmt.Sprint(entry), "execution provider cuda cannot be used") {
		t.Errorf("the log says %v", entry)
	}
	if page, want := text(t, base+"/metrics"), `ml_model_execution_provider{execution_provider="cpu",model="iris",model_version="1"} 1`; !strings.Contains(page, want+"\n") {
		t.Errorf("the metrics have no %s", want)
	}
	p = start(t, nil, "--model", "iris="+iris, "--execution-providers", "tensorrt,cuda", "--strict")
	if status, message := p.wait(); status != 1 || !strings.Contains(message, "execution provider tensorrt cannot be used: ") || !strings.Contains(message, "start without strict") {
		t.Errorf("strict: it ended with %d: %s", status, message)
	}
}
