package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"weir/backend/inference"
	"weir/backend/onnx"
	"weir/backend/onnx/onnxtest"
)

// asProgram makes the test binary be the program: these tests run it as users do, as a process.
const asProgram = "WEIR_BACKEND_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	iris    = "../../backend/models/iris-forest.onnx"
	fashion = "../../backend/models/fashion-v1.onnx"
)

// program is a running weir-backend.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	port string // the port file

	mu    sync.Mutex
	log   []map[string]any
	plain string // lines on stderr that are no JSON
	ended chan struct{}
}

// start runs the program on a port of its choice. env are further variables.
func start(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, port: filepath.Join(t.TempDir(), "port"), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], append([]string{"--listen", "127.0.0.1:0", "--port-file", p.port}, args...)...)
	p.cmd.Env = append([]string{asProgram + "=1", onnx.LibraryEnv + "=" + onnxtest.Library(t)}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(stderr)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // does nothing when it has ended
		<-p.ended
	})
	return p
}

func (p *program) read(stderr io.Reader) {
	defer close(p.ended)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		var entry map[string]any
		p.mu.Lock()
		if json.Unmarshal(lines.Bytes(), &entry) == nil {
			p.log = append(p.log, entry)
		} else {
			p.plain += lines.Text() + "\n"
		}
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // its outcome is in cmd.ProcessState
}

// base waits until the program is ready and returns the base of its URLs.
func (p *program) base() string {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if port, err := os.ReadFile(p.port); err == nil {
			base := "http://127.0.0.1:" + strings.TrimSpace(string(port))
			if resp, err := http.Get(base + "/health/ready"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == 200 {
					return base
				}
			}
		}
		select {
		case <-p.ended:
			p.t.Fatalf("it ended with %v: %s", p.cmd.ProcessState, p.plain)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatal("it was never ready")
		}
	}
}

// wait waits for the program's end and returns its exit status and what it said plainly.
func (p *program) wait() (status int, message string) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Fatal("it did not end")
	}
	return p.cmd.ProcessState.ExitCode(), p.plain
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// said returns the log entry with this message, nil without one.
func (p *program) said(message string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, entry := range p.log {
		if entry["message"] == message {
			return entry
		}
	}
	return nil
}

func ask(t *testing.T, method, url, body string) (int, http.Header, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return resp.StatusCode, resp.Header, answer
}

// TestFromStartToStop is one life: start, a prediction, SIGTERM.
func TestFromStartToStop(t *testing.T) {
	p := start(t, nil, "--model", "iris="+iris, "--version", "v1.0.0", "--environment", "test", "--log-level", "debug")
	base := p.base()
	status, header, answer := ask(t, "POST", base+"/predict", `{"features":[5.1,3.5,1.4,0.2]}`)
	if status != 200 || answer["prediction"] != 0.0 || answer["model_version"] != "v1.0.0" || header.Get("X-Model-Version") != "v1.0.0" {
		t.Errorf("%d %v", status, answer)
	}
	p.signal(syscall.SIGTERM)
	if status, message := p.wait(); status != 0 || message != "" {
		t.Errorf("it ended with %d: %s", status, message)
	}
	if _, err := os.Stat(p.port); !os.IsNotExist(err) {
		t.Errorf("the port file is still there: %v", err)
	}
	if entry := p.said("listening"); entry == nil || "http://"+entry["address"].(string) != base {
		t.Errorf("the log says %v, the port file %s", entry, base)
	}
	if entry := p.said("model loaded"); entry == nil || entry["model"] != "iris" || entry["model_version"] != "v1.0.0" {
		t.Errorf("the log says %v", entry)
	}
	if entry := p.said("prediction completed"); entry == nil || entry["prediction"] != 0.0 || entry["logger"] != "weir.backend" {
		t.Errorf("the log says %v", entry)
	}
	if p.said("weir-backend has stopped") == nil {
		t.Error("the log does not end")
	}
}

// TestGRPC is a life with gRPC: it is served beside HTTP/1.1, and the program stops although a
// client stays connected.
func TestGRPC(t *testing.T) {
	p := start(t, nil, "--model", "iris="+iris, "--grpc-listen", "127.0.0.1:0")
	p.base()
	entry := p.said("listening for gRPC")
	if entry == nil {
		t.Fatal("the log does not say where gRPC is")
	}
	c, err := grpc.NewClient("passthrough:///"+entry["address"].(string), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := inference.NewGRPCInferenceServiceClient(c).ModelInfer(t.Context(), &inference.ModelInferRequest{
		ModelName: "iris",
		Inputs: []*inference.ModelInferRequest_InferInputTensor{{
			Name: "X", Datatype: "FP32", Shape: []int64{1, 4}, Contents: &inference.InferTensorContents{Fp32Contents: []float32{6.3, 3.3, 6.0, 2.5}},
		}},
	})
	if err != nil || answer.Outputs[0].Contents.Int64Contents[0] != 2 {
		t.Errorf("%v, %v; want species 2", answer, err)
	}
	watch, err := grpc_health_v1.NewHealthClient(c).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "iris"})
	if err != nil {
		t.Fatal(err)
	}
	const serving, not = grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if got, err := watch.Recv(); err != nil || got.Status != serving {
		t.Errorf("%v, %v; want %s", got, err, serving)
	}
	p.signal(syscall.SIGTERM)
	// Without a delay the watch may end before it tells that the server is not ready.
	if got, err := watch.Recv(); got.GetStatus() != not && status.Code(err) != codes.Unavailable {
		t.Errorf("%v, %v; want %s", got, err, not)
	}
	if status, message := p.wait(); status != 0 {
		t.Errorf("it ended with %d: %s", status, message)
	}
}

// TestShutdownDelay serves on after SIGTERM, but not ready, as load balancers need it.
func TestShutdownDelay(t *testing.T) {
	p := start(t, nil, "--model", iris, "--shutdown-delay", "1s")
	base := p.base()
	p.signal(syscall.SIGTERM)
	deadline := time.Now().Add(10 * time.Second)
	for p.said("stopping") == nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if status, _, answer := ask(t, "GET", base+"/health/ready", ""); status != 503 || answer["reason"] != "the server is stopping" {
		t.Errorf("ready: %d %v", status, answer)
	}
	if status, _, answer := ask(t, "POST", base+"/predict", `{"features":[6.3,3.3,6.0,2.5]}`); status != 200 || answer["prediction"] != 2.0 {
		t.Errorf("a request during the delay: %d %v", status, answer)
	}
	if status, message := p.wait(); status != 0 {
		t.Errorf("it ended with %d: %s", status, message)
	}
}

func TestGuideEnvironment(t *testing.T) {
	absolute, err := filepath.Abs(fashion)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Symlink(absolute, filepath.Join(folder, "only.onnx")); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"MODEL_PATH=" + folder, "MODEL_VERSION=v7", "ENVIRONMENT=blue", "LOG_LEVEL=WARNING"})
	base := p.base()
	status, _, answer := ask(t, "GET", base+"/v2/models/model/versions/v7", "")
	if status != 200 || answer["name"] != "model" {
		t.Errorf("%d %v", status, answer)
	}
	page := text(t, base+"/metrics")
	if want := `ml_model_info{environment="blue",model="model",model_type="classifier",model_version="v7",platform="onnxruntime_onnx"} 1`; !strings.Contains(page, want) {
		t.Errorf("the metrics have no %s", want)
	}
	if p.said("listening") != nil {
		t.Error("a line of level info was logged at level WARNING")
	}
}

func text(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestSeveralModelsFromAFile(t *testing.T) {
	folder := t.TempDir()
	for _, path := range []string{iris, fashion} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, filepath.Base(path)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(folder, "backend.yaml")
	content := `
models:
  - {name: fashion, path: fashion-v1.onnx}
  - {name: iris, version: a, path: iris-forest.onnx}
  - {name: iris, version: b, path: iris-forest.onnx}
limits: {body: 1KiB}
workers: 1
`
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	base := start(t, nil, "-c", config).base()
	_, _, answer := ask(t, "GET", base+"/v2/models/iris", "")
	if versions, _ := json.Marshal(answer["versions"]); string(versions) != `["a","b"]` {
		t.Errorf("iris has versions %s", versions)
	}
	_, _, answer = ask(t, "GET", base+"/v2/models/fashion", "")
	if versions, _ := json.Marshal(answer["versions"]); string(versions) != `["v1.0.0"]` {
		t.Errorf("fashion has versions %s; its metadata says v1.0.0", versions)
	}
	if status, _, answer := ask(t, "POST", base+"/predict", strings.Repeat(" ", 1025)); status != 413 {
		t.Errorf("1025 bytes: %d %v", status, answer)
	}
}

// TestFailures checks that what goes wrong while starting ends with status 1 and a message that
// says what to do.
func TestFailures(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f := func(want string, args ...string) {
		t.Helper()
		status, message := start(t, nil, args...).wait()
		if status != 1 || !strings.HasPrefix(message, "weir-backend: ") || !strings.Contains(message, want) {
			t.Errorf("%v: status %d, %q; want 1 and %q", args, status, message, want)
		}
	}
	f("sherpa-onnx-linux-x64@1.13.8", "--model", iris, "--onnxruntime", "/no/such/library.so")
	f("no such file or directory", "--model", "no-such.onnx")
	f("holds 0 .onnx files; want one", "--model", t.TempDir())
	f("cannot load the model", "--model", "main.go")
	f("address already in use", "--model", iris, "--listen", taken.Addr().String())
	f("cannot listen for gRPC", "--model", iris, "--grpc-listen", taken.Addr().String())
	f(`the model name "a/b" is not valid`, "--model", "a/b="+iris)
	f("version 1 is given twice", "--model", "a="+iris, "--model", "a="+iris)
	f("cannot write the port file", "--model", iris, "--port-file", "/no/such/folder/port")
}

func TestVersionCommand(t *testing.T) {
	var out, errors bytes.Buffer
	if status := execute(t.Context(), []string{"version"}, &out, &errors); status != 0 || out.String() != "weir-backend unknown\n" {
		t.Errorf("%d %q %q", status, out.String(), errors.String())
	}
}
