package pipeline

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	token   = "operator-token-of-a-test"
	patient = 60 * time.Second
)

// cluster is two weirs and a model server of each colour.
type cluster struct {
	t       *testing.T
	folder  string
	kept    kept
	clients []string // where each weir takes requests
	broken  atomic.Bool
	env     []string
}

// model is a model server; the green one fails where the cluster says so.
func (c *cluster) model(colour string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/metrics" && colour == "green" && c.broken.Load():
			w.WriteHeader(http.StatusInternalServerError)
		case r.URL.Path == "/predict":
			fmt.Fprintf(w, `{"prediction":1,"colour":%q}`, colour)
		}
	}))
	c.t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, folder: t.TempDir()}
	// As make build does it, so that what that has compiled is used.
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(c.folder, "weir"), "./cmd/weir")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ./cmd/weir: %v\n%s", err, out)
	}
	c.kept = kept{Weir: filepath.Join(c.folder, "weir"), Tokens: filepath.Join(c.folder, "tokens"), Local: []string{
		`address: ":8080"`, `address: "127.0.0.1:0"`, `address: ":9901"`, `address: "127.0.0.1:0"`,
		`discover: {dns: "ml-api-blue:8000", interval: 5s}`, `endpoints: ["` + c.model("blue") + `"]`,
		`discover: {dns: "ml-api-green:8000", interval: 5s}`, `endpoints: ["` + c.model("green") + `"]`,
		"hold: 30s", "hold: 200ms", "hold: 10s", "hold: 200ms", "interval: 2s", "interval: 200ms",
	}}
	c.write("tokens", "operator:write:"+token+"\n")
	c.write("image-blue", "example/ml-api:v1")
	c.write("image-green", "example/ml-api:v2")
	text, err := os.ReadFile(filepath.Join(root, "docker/kubernetes/overlays/development/weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"weir-1", "weir-2"} {
		p := pod{Name: name, File: filepath.Join(c.folder, name, "weir.yaml"), State: filepath.Join(c.folder, name+".state.json")}
		if err := os.Mkdir(filepath.Dir(p.File), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := c.kept.give(p, string(text)); err != nil {
			t.Fatal(err)
		}
		p.Admin = c.serve(p)
		c.kept.Pods = append(c.kept.Pods, p)
	}
	known, err := json.Marshal(c.kept)
	if err != nil {
		t.Fatal(err)
	}
	c.write("cluster.json", string(known))

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.folder, "path")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(path, "kubectl")); err != nil {
		t.Fatal(err)
	}
	c.env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), folderVariable+"="+c.folder, "OUT="+filepath.Join(c.folder, "out"),
		"OVERLAY=development", "NAMESPACE=staging", "TIMEOUT=5m", "PATIENCE=300", "REASON=test")
	return c
}

// serve starts a weir and returns where its admin API is.
func (c *cluster) serve(p pod) (adminAt string) {
	cmd := exec.Command(c.kept.Weir, "serve", "-c", p.File)
	cmd.Stdout = io.Discard
	log, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	type line struct {
		Message, Admin string
		Addresses      []string
	}
	listening, drained := make(chan line, 1), make(chan struct{})
	var said strings.Builder // read once drained is closed
	go func() {
		defer close(drained)
		for s := bufio.NewScanner(log); s.Scan(); {
			fmt.Fprintln(&said, s.Text())
			var l line
			if json.Unmarshal(s.Bytes(), &l) == nil && l.Message == "listening" {
				select {
				case listening <- l:
				default:
				}
			}
		}
	}()
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = cmd.Wait()
		if c.t.Failed() {
			c.t.Logf("the log of %s:\n%s", p.Name, said.String())
		}
	})
	select {
	case l := <-listening:
		c.clients = append(c.clients, l.Addresses[0])
		return l.Admin
	case <-drained:
		c.t.Fatalf("%s ended:\n%s", p.Name, said.String())
	case <-time.After(patient):
		c.t.Fatalf("%s does not listen", p.Name)
	}
	return ""
}

func (c *cluster) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.folder, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(name string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.folder, name))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// run runs a script of the repository, and returns what it said and whether it succeeded.
func (c *cluster) run(script string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(root, script), args...)
	cmd.Env = append(c.env, "IMAGE=example/ml-api@sha256:new", "VERSION=v3.0.0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// step runs a step of the pipeline, which must succeed.
func (c *cluster) step(name string) string {
	c.t.Helper()
	out, err := c.run("docker/pipeline/pipeline.sh", name)
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

// weights are those of each weir, as blue/green.
func (c *cluster) weights() string {
	c.t.Helper()
	var all []string
	for _, p := range c.kept.Pods {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+p.Admin+"/api/v1/routes/predict", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			c.t.Fatal(err)
		}
		var route struct {
			Variants []struct {
				Pool   string
				Weight float64
			}
		}
		err = json.NewDecoder(answer.Body).Decode(&route)
		_ = answer.Body.Close()
		if err != nil || len(route.Variants) != 2 {
			c.t.Fatalf("%s answered %s: %+v, %v", p.Name, answer.Status, route, err)
		}
		all = append(all, fmt.Sprintf("%v/%v", route.Variants[0].Weight, route.Variants[1].Weight))
	}
	return strings.Join(all, " ")
}

// has fails unless the cluster is as said: weights at each weir, images, and lines in the file.
func (c *cluster) has(weights, blue, green string, lines ...string) {
	c.t.Helper()
	if got := c.weights(); got != weights {
		c.t.Errorf("the weights are %s, want %s", got, weights)
	}
	if got := c.read("image-blue"); got != blue {
		c.t.Errorf("blue is %s, want %s", got, blue)
	}
	if got := c.read("image-green"); got != green {
		c.t.Errorf("green is %s, want %s", got, green)
	}
	file := c.read("weir.yaml")
	for _, l := range lines {
		if !strings.Contains(file, l+"\n") {
			c.t.Errorf("the file has no line %q:\n%s", l, file)
		}
	}
}
