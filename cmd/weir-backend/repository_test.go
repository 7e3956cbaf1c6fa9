package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// place puts a model's file into a folder of models, all at once.
func place(t *testing.T, folder, name, version, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(folder, name, version)
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, ".part"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(at, ".part"), filepath.Join(at, "model.onnx")); err != nil {
		t.Fatal(err)
	}
}

const fashion2 = "../../backend/models/fashion-v2.onnx"

// TestRepositoryProgram switches between two real models, batched, while clients ask; then the program finds a third by
// itself.
func TestRepositoryProgram(t *testing.T) {
	folder := t.TempDir()
	place(t, folder, "fashion", "1", fashion)
	place(t, folder, "fashion", "2", fashion2)
	config := filepath.Join(t.TempDir(), "backend.yaml")
	content := fmt.Sprintf(`
models: [{name: fashion, batching: {max_batch: 4}}]
repository: {folder: %s, poll: 20ms, control: true}
`, folder)
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	base := start(t, nil, "-c", config).base()
	image := `{"features":[` + strings.TrimSuffix(strings.Repeat("0.5,", 784), ",") + `]}`
	var stop atomic.Bool
	var asked atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for !stop.Load() {
				resp, err := http.Post(base+"/predict", "application/json", strings.NewReader(image))
				if err != nil {
					t.Error(err)
					return
				}
				var answer struct {
					Version string `json:"model_version"`
				}
				err = json.NewDecoder(resp.Body).Decode(&answer)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || answer.Version != "1" && answer.Version != "2" {
					t.Errorf("%d %v, %v", resp.StatusCode, answer, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 10 {
		version := fmt.Sprint(1 + i%2)
		status, _, answer := ask(t, "POST", base+"/v2/repository/models/fashion/load", `{"parameters":{"versions":"`+version+`"}}`)
		if status != 200 || fmt.Sprint(answer["versions"]) != "["+version+"]" {
			t.Errorf("%d %v", status, answer)
		}
		before := asked.Load()
		for deadline := time.Now().Add(20 * time.Second); asked.Load() < before+8 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	clients.Wait()
	place(t, folder, "iris", "7", iris)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if status, _, _ := ask(t, "GET", base+"/v2/models/iris/versions/7/ready", ""); status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new model was never served")
		}
	}
}
