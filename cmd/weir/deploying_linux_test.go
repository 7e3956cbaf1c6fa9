package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"weir/config"
	"weir/internal/mlflowtest"
	"weir/proxy/enginetest"
)

// TestDeployingModels plays docs/deploying-models.md against two weir-backends with a real model, and a stand-in for MLflow.
// The engine makes no difference to it: once is enough.
func TestDeployingModels(t *testing.T) {
	if enginetest.Name() != config.EngineLoop {
		return
	}
	o := newOperator(t, deploying)
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "weir-backend"), "weir/cmd/weir-backend")
	build.Dir, build.Env = filepath.Dir(o.page), append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root := filepath.Dir(filepath.Dir(o.page))
	for port, version := range map[string]string{"8001": "v1.0.0", "8002": "v2.0.0"} {
		file := filepath.Join(dir, version)
		cmd := exec.Command(filepath.Join(dir, "weir-backend"), "--listen", "127.0.0.1:0", "--port-file", file,
			"--model", "iris="+filepath.Join(root, "backend", "models", "iris-forest.onnx"), "--version", version, "--onnxruntime", onnxruntime(root))
		var log lockedLog
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		eventually(t, "weir-backend is ready", func() bool {
			at, err := os.ReadFile(file)
			if err != nil || len(at) == 0 {
				return false
			}
			o.ports[port] = strings.TrimSpace(string(at))
			resp, err := http.Get("http://127.0.0.1:" + o.ports[port] + "/health/ready")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
	o.registry = mlflowtest.New(t)
	o.ports["5000"] = portOf(o.registry.URL)
	o.play()
	o.stopAsking()
	if n := o.failed.Load(); n > 0 {
		t.Errorf("%d requests failed: nobody was to notice anything", n)
	}
}

// onnxruntime is where the shared library is: make setup fetches it into bin.
func onnxruntime(root string) string {
	if path := os.Getenv("ORT_DYLIB_PATH"); path != "" {
		return path
	}
	return filepath.Join(root, "bin", "lib")
}

// lockedLog is what a program prints.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// asking is load that goes on while a page is played.
type asking struct {
	stop    chan struct{}
	running sync.WaitGroup
	failed  atomic.Int64
}

// keepAsking has four clients ask for predictions of many users, one after the other, until stopAsking.
func (o *operator) keepAsking() {
	o.stop = make(chan struct{})
	url := o.real("http://127.0.0.1:8080/predict")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	for c := range 4 {
		o.asking.running.Go(func() {
			for i := c; ; i += 4 {
				select {
				case <-o.stop:
					return
				default:
				}
				req, err := http.NewRequest("POST", url, strings.NewReader(`{"features":[5.1,3.5,1.4,0.2]}`))
				if err != nil {
					o.failed.Add(1)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-User-ID", fmt.Sprint("user-", i%5000))
				resp, err := client.Do(req)
				if err != nil {
					o.failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					o.failed.Add(1)
				}
			}
		})
	}
	o.t.Cleanup(o.stopAsking)
}

func (o *operator) stopAsking() {
	if o.stop != nil {
		close(o.stop)
		o.asking.running.Wait()
		o.stop = nil
	}
}
