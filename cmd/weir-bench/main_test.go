package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weir/bench"
)

// TestMain makes the test binary weir-bench itself when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

const asProgram = "WEIR_TEST_AS_WEIR_BENCH"

// weirBench is weir-bench as a process of its own.
func weirBench(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// outcome runs weir-bench to its end.
func outcome(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := weirBench(t, args...)
	var out, messages strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), messages.String(), cmd.ProcessState.ExitCode()
}

// server answers every other request with green, and every hundredth with 503 when failing.
func server(t *testing.T, failing bool) string {
	t.Helper()
	n := make(chan int, 1)
	n <- 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := <-n + 1
		n <- i
		w.Header().Set("X-Weir-Variant", []string{"blue", "green"}[i%2])
		if failing && i%100 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestRunReportsAsJSON(t *testing.T) {
	stdout, stderr, code := outcome(t, "run", "--target", server(t, false), "--rate", "500", "--duration", "400ms",
		"--arrivals", "constant", "--users", "10", "--max-error-rate", "0", "-o", "json")
	var report bench.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %v, stderr %q", code, err, stderr)
	}
	if report.Total.Requests != 200 || report.Total.OK != 200 || len(report.Variants) != 2 || report.Variants[0].Requests != 100 {
		t.Errorf("report %+v, want 200 requests, half of them for blue", report)
	}
	// Variants alternate, so users see both.
	if report.Users == nil || report.Users.Seen != 10 || report.Users.Moved != 10 {
		t.Errorf("users %+v, want 10 seen and all on more than one variant", report.Users)
	}
}

func TestExitStatus(t *testing.T) {
	good, failing := server(t, false), server(t, true)
	quick := []string{"--rate", "1000", "--duration", "200ms", "--arrivals", "constant"}
	for _, tt := range []struct {
		name string
		args []string
		code int
		said string
	}{
		{"all well", []string{"run", "--target", good}, 0, ""},
		{"errors without a threshold", []string{"run", "--target", failing}, 0, ""},
		{"errors below the threshold", []string{"run", "--target", failing, "--max-error-rate", "5%"}, 0, ""},
		{"errors above the threshold", []string{"run", "--target", failing, "--max-error-rate", "0.5%"}, 1, "error rate 1% is above the threshold of 0.5%"},
		{"slow", []string{"run", "--target", good, "--max-p99", "1ns"}, 1, "p99"},
		{"nobody there", []string{"run", "--target", "http://127.0.0.1:1"}, 1, "connection refused"},
		{"no target", []string{"run"}, 2, `"target" not set`},
		{"bad target", []string{"run", "--target", "ftp://x"}, 2, "must be http://"},
		{"bad rate", []string{"run", "--target", good, "--rate", "-1"}, 2, "rate"},
		{"too slow a rate", []string{"run", "--target", good, "--min-rate", "2000"}, 1, "below the threshold of 2000.0/s"},
		{"too little goodput", []string{"run", "--target", good, "--slo", "1ns", "--min-goodput", "1"}, 1, "goodput 0.0/s is below"},
		{"a split as expected", []string{"run", "--target", good, "--expect", "blue=1,green=1"}, 0, ""},
		{"a split as not expected", []string{"run", "--target", good, "--expect", "blue=90,green=10"}, 1, "DEVIATES"},
		{"bad weights", []string{"run", "--target", good, "--expect", "blue"}, 2, "VARIANT=WEIGHT"},
		{"bad arrivals", []string{"run", "--target", good, "--arrivals", "waves"}, 2, "bursts, ramp, steps or trace"},
		{"no burst", []string{"run", "--target", good, "--arrivals", "bursts"}, 2, "needs --burst"},
		{"bad burst", []string{"run", "--target", good, "--arrivals", "bursts", "--burst", "50"}, 2, "REQUESTS/PERIOD"},
		{"steps without their arrivals", []string{"run", "--target", good, "--steps", "1:1s"}, 2, "goes with --arrivals steps"},
		{"bad steps", []string{"run", "--target", good, "--arrivals", "steps", "--steps", "1"}, 2, "RATE:DURATION"},
		{"a ramp to nowhere", []string{"run", "--target", good, "--arrivals", "ramp", "--rate", "0"}, 2, "nothing would be due"},
		{"no trace", []string{"run", "--target", good, "--arrivals", "trace", "--trace", "/no/such/file"}, 2, "no such file"},
		{"even and poisson", []string{"run", "--target", good, "--even"}, 2, "--even goes with"},
		{"bad tensor", []string{"run", "--target", good, "--tensor", "x"}, 2, "NAME:DATATYPE:SHAPE"},
		{"tensor and body", []string{"run", "--target", good, "--tensor", "x:FP32:1", "--body", "y"}, 2, "--tensor makes the body"},
		{"template and body", []string{"run", "--target", good, "--template", "x", "--body", "y"}, 2, "exclude each other"},
		{"saturate without an objective", []string{"run", "--target", good, "--saturate"}, 2, "an SLO is needed"},
		{"saturate a ramp", []string{"run", "--target", good, "--saturate", "--slo", "1s", "--arrivals", "ramp"}, 2, "--saturate goes with"},
		{"bad precision", []string{"run", "--target", good, "--saturate", "--slo", "1s", "--precision", "x"}, 2, "precision"},
		{"bad header", []string{"run", "--target", good, "--header", "x"}, 2, "NAME: VALUE"},
		{"bad threshold", []string{"run", "--target", good, "--max-error-rate", "many"}, 2, "percentage"},
		{"bad output", []string{"run", "--target", good, "-o", "pdf"}, 2, "text, json or html"},
		{"no such file", []string{"run", "--target", good, "--body", "/no/such/file"}, 2, "no such file"},
		{"images and body", []string{"run", "--target", good, "--images", "x", "--body", "y"}, 2, "--images makes the body"},
		{"unknown flag", []string{"run", "--speed", "1"}, 2, "unknown flag"},
		{"streams of HTTP/1.1", []string{"run", "--target", good, "--streams", "2"}, 2, "--streams 2: must be 1, or more with --http2"},
		{"HTTP/2 to a server without", []string{"run", "--target", good, "--http2"}, 1, "HTTP/2"},
		{"authorities without TLS", []string{"run", "--target", good, "--ca-file", "x"}, 2, "go with a target of https://"},
		{"authorities and none", []string{"run", "--target", "https://127.0.0.1:1", "--ca-file", "x", "--insecure"}, 2, "exclude each other"},
		{"no authorities", []string{"run", "--target", "https://127.0.0.1:1", "--ca-file", "/no/such/file"}, 2, "no such file"},
		{"authorities of another kind", []string{"run", "--target", "https://127.0.0.1:1", "--ca-file", file(t, "ca.crt", "x")}, 2, "certificates in PEM"},
		{"gRPC with a path", []string{"run", "--target", good + "/x", "--grpc", "/a.B/C"}, 2, "leave it out"},
		{"gRPC without a method", []string{"run", "--target", good, "--grpc", "a.B"}, 2, "/PACKAGE.SERVICE/METHOD"},
		{"gRPC and a template", []string{"run", "--target", good, "--grpc", "/a.B/C", "--template", "x"}, 2, "--grpc sends the message in --body"},
		{"gRPC tensors of nothing", []string{"run", "--target", good, "--tensors", "grpc"}, 2, "goes with --tensor or --images"},
		{"unknown command", []string{"walk"}, 2, "unknown command"},
		{"bad workload", []string{"compare", "--workloads", "z"}, 2, "must be one of"},
		{"bad duration", []string{"demo", "--duration", "-1s"}, 2, "must not be negative"},
		{"no programs", []string{"demo", "--duration", "1s"}, 1, "make build"},
	} {
		args := tt.args
		if args[0] == "run" && len(args) > 1 && tt.code != 2 {
			args = append(args, quick...)
		}
		_, stderr, code := outcome(t, args...)
		if code != tt.code || !strings.Contains(stderr, tt.said) {
			t.Errorf("%s: exit status %d, said %q; want %d and %q", tt.name, code, stderr, tt.code, tt.said)
		}
	}
}

func TestRunInterruptedReportsSoFar(t *testing.T) {
	served := make(chan struct{})
	first := sync.OnceFunc(func() { close(served) })
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { first() }))
	defer s.Close()
	cmd := weirBench(t, "run", "--target", s.URL, "--rate", "500", "--duration", "1h", "-o", "json")
	var out strings.Builder
	cmd.Stdout = &out
	started := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-served
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted run: %v, want exit status 0", err)
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if took := time.Since(started).Seconds(); !report.Interrupted || report.Total.Requests == 0 || report.Seconds > took {
		t.Errorf("interrupted %v, %d requests in %.1f s of %.1f; want a partial report", report.Interrupted, report.Total.Requests, report.Seconds, took)
	}
}

func TestEndpointAnswersAndStops(t *testing.T) {
	cmd := weirBench(t, "endpoint", "--listen", "127.0.0.1:0,127.0.0.1:0", "--size", "33")
	messages, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(messages)
	for range 2 {
		if !lines.Scan() {
			t.Fatal("the endpoint does not say where it is")
		}
		resp, err := http.Post(strings.TrimPrefix(lines.Text(), "endpoint on "), "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ContentLength != 33 {
			t.Errorf("status %d, %d bytes; want 200, 33", resp.StatusCode, resp.ContentLength)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the endpoint ended with %v", err)
	}
}

func TestBesideFindsTheRepositorysFolder(t *testing.T) {
	root := t.TempDir()
	t.Chdir(t.TempDir())
	programs, models := filepath.Join(root, "bin"), filepath.Join("backend", "models")
	if got := beside(models, programs); got != models {
		t.Errorf("beside = %q when there is none, want %q for the message", got, models)
	}
	if err := os.MkdirAll(filepath.Join(root, models), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := beside(models, programs), filepath.Join(root, models); got != want {
		t.Errorf("beside = %q, want %q", got, want)
	}
	if got := shown(filepath.Join(programs, "weir")); got != filepath.Join(programs, "weir") {
		t.Errorf("shown = %q for a program elsewhere", got)
	}
	t.Chdir(root)
	if got, want := shown(filepath.Join(programs, "weir")), filepath.Join("bin", "weir"); got != want {
		t.Errorf("shown = %q, want %q", got, want)
	}
}
