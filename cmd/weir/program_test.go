package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

	"weir/backend/backendtest"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// program is the path of the weir that TestMain built; the tests of this folder run it as a process.
var program string

// raceOptions is the environment variable with the options of the race detector.
const raceOptions = "GORACE"

func TestMain(m *testing.M) {
	if address := os.Getenv(modelAddress); address != "" {
		os.Exit(serveModel(address))
	}
	if os.Getenv(raceOptions) == "" {
		// What is built with the race detector stays a second at its end, for reports of what goes on meanwhile: hundreds
		// of commands need none.
		_ = os.Setenv(raceOptions, "atexit_sleep_ms=50")
	}
	os.Exit(buildAndRun(m))
}

// builtProgram is the environment variable with the path of a weir that another process has built.
const builtProgram = "WEIR_TEST_PROGRAM"

// buildAndRun builds weir once for both engines.
func buildAndRun(m *testing.M) int {
	if program = os.Getenv(builtProgram); program != "" {
		return enginetest.Run(m.Run)
	}
	dir, err := os.MkdirTemp("", "weir-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "weir")
	build := exec.Command("go", "build", "-o", program, "-ldflags", "-X main.version=v0.0.0-test", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if underRace {
		build.Args = append(build.Args[:2], append([]string{"-race"}, build.Args[2:]...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	_ = os.Setenv(builtProgram, program)
	return enginetest.Run(m.Run)
}

// deadline bounds every wait; nothing here takes that long unless it hangs.
const deadline = time.Minute

// eventually polls until ok, and ends the test when that takes too long.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited %s in vain: %s", deadline, what)
		}
	}
}

// weir is a running program.
type weir struct {
	t     testing.TB
	file  string // its configuration
	cmd   *exec.Cmd
	log   *lines // stderr
	out   *lines // stdout: the access log
	addr  string // of the first listener
	admin string // URL
	ended chan struct{}
}

// lines collects what a program writes, by line.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		l.mu.Lock()
		l.all = append(l.all, s.Text())
		l.mu.Unlock()
	}
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// find returns the lines with this text in the key message, decoded.
func (l *lines) find(t testing.TB, message string) (found []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("no JSON in the log: %q", line)
		}
		if strings.Contains(fmt.Sprint(m["message"]), message) {
			found = append(found, m)
		}
	}
	return found
}

// serve writes text to a weir.yaml, runs "weir serve" on it, and waits until it listens.
func serve(t testing.TB, text string, args ...string) *weir {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.yaml")
	writeFile(t, file, text)
	return serveFile(t, file, args...)
}

func serveFile(t testing.TB, file string, args ...string) *weir {
	t.Helper()
	w := start(t, append([]string{"serve", "-c", file}, args...)...)
	w.file = file
	eventually(t, "weir listens", func() bool {
		select {
		case <-w.ended:
			t.Fatalf("weir ended: %s\n%s", w.cmd.ProcessState, w.log.text())
		default:
		}
		return len(w.log.find(t, "listening")) > 0
	})
	line := w.log.find(t, "listening")[0]
	w.addr = line["addresses"].([]any)[0].(string)
	w.admin = "http://" + line["admin"].(string)
	return w
}

// start runs the program with these arguments; it is stopped at the latest when the test ends.
func start(t testing.TB, args ...string) *weir {
	t.Helper()
	w := &weir{t: t, cmd: exec.Command(program, args...), log: new(lines), out: new(lines), ended: make(chan struct{})}
	stderr, err := w.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { w.log.read(stderr) })
	readers.Go(func() { w.out.read(stdout) })
	go func() {
		readers.Wait()
		_ = w.cmd.Wait() // the state is read from ProcessState
		close(w.ended)
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections() // a stopping weir leaves them open for a second
		w.signal(syscall.SIGTERM)
		select {
		case <-w.ended:
		case <-time.After(deadline):
			_ = w.cmd.Process.Kill()
			t.Errorf("weir did not stop within %s", deadline)
		}
		if t.Failed() {
			t.Logf("log of weir:\n%s", w.log.text())
		}
		if strings.Contains(w.log.text(), "DATA RACE") {
			t.Error("a data race in weir")
		}
	})
	return w
}

func (w *weir) signal(s os.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.t.Error(err)
	}
}

// exit waits for the end of the program and returns its status.
func (w *weir) exit() int {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(deadline):
		w.t.Fatalf("weir did not end within %s", deadline)
	}
	return w.cmd.ProcessState.ExitCode()
}

// command runs another weir that steers this one.
func (w *weir) command(args ...string) (stdout, stderr string, status int) {
	w.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "WEIR_ADMIN="+w.admin)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		w.t.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// mustCommand is command for one that has to succeed; it returns stdout.
func (w *weir) mustCommand(args ...string) string {
	w.t.Helper()
	stdout, stderr, status := w.command(args...)
	if status != 0 {
		w.t.Fatalf("weir %s: exit %d\n%s%s", strings.Join(args, " "), status, stdout, stderr)
	}
	return stdout
}

// api calls the admin API and decodes the answer into out unless that is nil.
func (w *weir) api(method, path, body string, out any) int {
	w.t.Helper()
	req, err := http.NewRequest(method, w.admin+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			w.t.Fatalf("%s %s: %s: %q", method, path, err, text)
		}
	}
	return resp.StatusCode
}

func (w *weir) state() proxy.Status {
	w.t.Helper()
	var s proxy.Status
	if code := w.api("GET", "/api/v1/status", "", &s); code != 200 {
		w.t.Fatalf("status: %d", code)
	}
	return s
}

// get makes one request through weir on a connection of c and returns the variant that answered.
func (w *weir) get(c *http.Client, path string) string {
	w.t.Helper()
	resp, err := c.Get("http://" + w.addr + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		w.t.Fatalf("GET %s: %s: %s", path, resp.Status, body)
	}
	return resp.Header.Get("X-Weir-Variant")
}

// variants makes n requests one after the other and counts who answered.
func (w *weir) variants(n int) map[string]int {
	w.t.Helper()
	count := map[string]int{}
	for range n {
		count[w.get(http.DefaultClient, "/predict")]++
	}
	return count
}

// endpoint is a model server that answers with its name.
func endpoint(t testing.TB, name string) *backendtest.Server {
	return backendtest.NewServer(t, backendtest.Behaviour{Body: []byte(name)})
}

// blueGreen is a configuration with the route predict over the pools blue and green.
func blueGreen(blue, green *backendtest.Server, split string) string {
	return fmt.Sprintf(`
engine: "${WEIR_TEST_ENGINE:-auto}"
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
pools:
  blue: {version: v1.0.0, endpoints: [%q], probe: off}
  green: {version: v2.0.0, endpoints: [%q], probe: off}
routes:
  - name: predict
    match: {path: /predict}
    split: {%s}
`, blue.Addr(), green.Addr(), split)
}

// writeFile writes a file the way an editor does: beside it first, then renamed over it.
func writeFile(t testing.TB, file, text string) {
	t.Helper()
	next := file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns an address that nothing listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
