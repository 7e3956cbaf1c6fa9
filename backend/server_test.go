package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/load"
	"weir/backend/tensor"
)

func TestNewRefuses(t *testing.T) {
	f := func(want string, models ...Source) {
		t.Helper()
		_, err := New(Options{Models: models})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
	}
	f("no model to serve")
	f(`the model name "" is not valid`, source("", "1", nil))
	f(`the model name "a/b" is not valid; want 1 to 128 of`, source("a/b", "1", nil))
	f(`the model name ".." is not valid`, source("..", "1", nil))
	f(`the version "v 1" is not valid`, source("a", "v 1", nil))
	f("is not valid", source(strings.Repeat("x", 129), "1", nil))
}

func TestLoadIsAllOrNothing(t *testing.T) {
	good := doubler()
	broken := Source{Name: "broken", Open: func() (Runner, error) { return nil, errors.New("no such file") }}
	f := func(want string, models ...Source) {
		t.Helper()
		before := good.closed
		s, err := New(Options{Models: models})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
		if s.repository.Load() != nil || good.closed == before {
			t.Error("the models that were loaded before the error are still there")
		}
	}
	f("model broken: no such file", source("a", "1", good), broken)
	f("version v1 is given twice", source("a", "v1", good), source("a", "v1", good))
	good.signature.Metadata = map[string]string{"version": "a b"}
	f(`metadata gives the version "a b"`, source("a", "", good))
}

func TestVersionFromMetadata(t *testing.T) {
	noted := doubler()
	noted.signature.Metadata = map[string]string{"version": "v9"}
	r := start(t, Options{Models: []Source{source("a", "", noted), source("b", "", doubler())}}, true)
	for name, version := range map[string]string{"a": "v9", "b": "1"} {
		if got := decode[v2ModelAnswer](t, r.get("/v2/models/"+name)).Versions; !cmp.Equal(got, []string{version}) {
			t.Errorf("%s has versions %v, want %s", name, got, version)
		}
	}
}

func TestPathsAndMethods(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	wantError(t, r.get("/"), 404, "there is nothing at \"/\"")
	wantError(t, r.get("/nothing"), 404, "/nothing")
	wantError(t, r.get("/v2/models/a/nothing"), 404, "nothing")
	wantError(t, r.get("/v2/models/a/ready/more"), 404, "nothing")
	wantError(t, r.get("/v2/models/a/versions/v1/ready/more"), 404, "nothing")
	wantError(t, r.get("/predict"), 405, "want POST")
	wantError(t, r.post("/health", ""), 405, "want GET")
	wantError(t, r.get("/v2/models/a/infer"), 405, "want POST")
	if got := r.send(http.MethodDelete, "/predict", ""); got.header.Get("Allow") != "POST" {
		t.Errorf("Allow is %q", got.header.Get("Allow"))
	}
	if got := r.send(http.MethodHead, "/health", ""); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
	for _, path := range []string{
		"/v2/models/..%2f..%2fetc/infer", "/v2/models/%2e%2e/infer", "/v2/models/a%00/infer", "/v2/models//infer",
		"/v2/models/a/versions/..%2f1/infer", "/v2/models/" + strings.Repeat("a", 129) + "/infer", "/v2/models/a b/infer",
	} {
		got := r.post(strings.ReplaceAll(path, " ", "%20"), "{}")
		wantError(t, got, 400, "is not valid; want 1 to 128 of A-Z a-z 0-9 . _ -")
	}
	wantError(t, r.post("/v2/models/a/versions//infer", "{}"), 400, "the version is empty")
	wantError(t, r.get("/v2/models/b"), 404, "there is no model b (have a)")
	wantError(t, r.get("/v2/models/a/versions/v2"), 404, "model a has no version v2 (have v1)")
}

// TestDotSegments sends dot segments as they are, which net/http would resolve.
func TestDotSegments(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	for _, target := range []string{"/v2/models/../../etc/passwd", "/v2/models/a/../a", "/v2/models/./infer", "/../predict", "//predict"} {
		answer := r.raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 40") {
			t.Errorf("%s: %q; want 400 or 404", target, answer)
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}, BodyLimit: 1 << 20}, true)
	f := func(request, status, message string) {
		t.Helper()
		answer := r.raw(request)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status) || !strings.Contains(answer, message) || !strings.Contains(answer, `{"error":"`) {
			t.Errorf("%.60q: %q; want %s and %q", request, answer, status, message)
		}
	}
	f("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"features\":", "400", "ends before its body does")
	f("POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"fea", "400", "")
	f("POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400", "not valid HTTP/1.1")
	f("GET /health HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("y", maxHead)+"\r\n\r\n", "431", "head is larger than 32 KiB")
	f("nonsense\r\n\r\n", "400", "not valid HTTP/1.1")
	f("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n", "413", "the body is larger than 1 MiB")
}

// TestTooLargeBody sends far more than the limit and more than the sockets hold, and still
// wants to read why it was refused.
func TestTooLargeBody(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}, BodyLimit: 1 << 20}, true)
	body := bytes.Repeat([]byte{' '}, 32<<20)
	for _, chunked := range []bool{false, true} {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		head := fmt.Sprintf("POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
		if chunked {
			head = fmt.Sprintf("POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", len(body))
		}
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = io.WriteString(c, head)
			_, _ = c.Write(body)
			_ = c.(*net.TCPConn).CloseWrite()
		})
		answer, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413") || !strings.Contains(string(answer), "the body is larger than 1 MiB") {
			t.Errorf("chunked %v: %q, %v", chunked, answer, err)
		}
		sending.Wait()
		c.Close()
	}
}

func TestEncodedBody(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	for _, path := range []string{"/predict", "/v2/models/a/infer"} {
		wantError(t, r.post(path, "{}", "Content-Encoding", "gzip"), 415, `the body is encoded as "gzip"`)
	}
}

func TestBeforeModelsAreLoaded(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, false)
	for _, got := range []response{r.post("/predict", "{}"), r.post("/v2/models/a/infer", "{}"), r.get("/v2/models/a")} {
		wantError(t, got, 503, "the models are being loaded")
		if got.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

// TestPanic checks that a panic in a run answers 500, frees the worker and ends nothing.
func TestPanic(t *testing.T) {
	m := doubler()
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { panic("at the model") }
	r := start(t, Options{Models: []Source{source("a", "v1", m)}, Workers: 1}, true)
	for range 3 {
		wantError(t, r.post("/v2/models/a/infer", inferBody), 500, "internal error")
	}
	r.wantMetric(`ml_errors_total{error_type="panic",model_version=""} 3`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 3`)
	r.wantMetric("ml_active_requests 0")
}

const inferBody = `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}]}`

func TestModelThatFails(t *testing.T) {
	m := doubler()
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { return nil, errors.New("out of range") }
	r := start(t, Options{Models: []Source{source("a", "v1", m)}}, true)
	wantError(t, r.post("/v2/models/a/infer", inferBody), 500, "the model failed: out of range")
	wantError(t, r.post("/predict", `{"features":[1,2]}`), 500, "the model failed: out of range")
	r.wantMetric(`ml_errors_total{error_type="model",model_version="v1"} 2`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 2`)
	wantError(t, r.post("/v2/models/a/infer", "{}"), 400, `no "inputs"`)
	r.wantMetric(`ml_errors_total{error_type="invalid_request",model_version="v1"} 1`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 2`)
}

// TestOverload fills one worker and a queue of one.
func TestOverload(t *testing.T) {
	m, entered, proceed := gated()
	r := start(t, Options{Models: []Source{source("a", "v1", m)}, Workers: 1, Queue: 1}, true)
	answers := make(chan response, 2)
	go func() { answers <- r.post("/v2/models/a/infer", inferBody) }()
	<-entered
	go func() { answers <- r.post("/v2/models/a/infer", inferBody) }()
	r.await("ml_queued_requests 1")
	r.wantMetric("ml_active_requests 2")
	refused := r.post("/v2/models/a/infer", inferBody, load.RequestHeader, "text")
	wantError(t, refused, 503, "too many requests wait already")
	report, err := load.Parse(refused.header.Get(load.ResponseHeader))
	if err != nil {
		t.Fatal(err)
	}
	if queue, _ := load.Find(report.Named, "queue"); queue != 1 || report.EPS <= 0 || report.ApplicationUtilization <= 0 {
		t.Errorf("the load is %+v", report)
	}
	close(proceed)
	<-entered
	for range 2 {
		if got := <-answers; got.status != 200 {
			t.Errorf("a request that waited: %d %s", got.status, got.body)
		}
	}
	r.wantMetric(`ml_errors_total{error_type="overload",model_version="v1"} 1`)
	r.wantMetric("ml_queued_requests 0")
	r.wantMetric("ml_active_requests 0")
}

func TestLoadReport(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	for _, format := range []string{"text", "TEXT", "json", "JSON"} {
		for _, got := range []response{
			r.post("/v2/models/a/infer", inferBody, load.RequestHeader, format),
			r.post("/predict", "nonsense", load.RequestHeader, format),
			r.get("/health", load.RequestHeader, format),
		} {
			header := got.header.Get(load.ResponseHeader)
			if !strings.HasPrefix(header, strings.ToUpper(format)+" ") {
				t.Errorf("%s: %q", format, header)
			}
			report, err := load.Parse(header)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := load.Find(report.Named, "in_flight"); !ok {
				t.Errorf("no in_flight in %q", header)
			}
		}
	}
	for _, header := range []string{"", "bin", "nonsense"} {
		if got := r.get("/health", load.RequestHeader, header).header.Get(load.ResponseHeader); got != "" {
			t.Errorf("format %q was answered by %q", header, got)
		}
	}
}

// TestShutdownBesideServe stops servers that have hardly begun to serve, or not at all.
func TestShutdownBesideServe(t *testing.T) {
	for i := range 100 {
		s, err := New(Options{Models: []Source{source("a", "v1", doubler())}})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		serve := func() { served <- s.Serve(ln) }
		if i%2 == 0 {
			go serve()
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if i%2 == 1 {
			go serve()
		}
		select {
		case err := <-served:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("Serve did not return")
		}
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			c.Close()
			t.Fatal("the listener is still open")
		}
	}
}

// TestShutdown stops the server while a request runs and others rest on idle connections.
func TestShutdown(t *testing.T) {
	m, entered, proceed := gated()
	s, err := New(Options{Models: []Source{source("a", "v1", m)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	r := &running{t: t, server: s, base: "http://" + ln.Addr().String()}
	r.get("/health") // leaves an idle connection
	fresh, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	answer := make(chan response, 1)
	go func() { answer <- r.post("/v2/models/a/infer", inferBody) }()
	<-entered

	hurried, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(hurried); !errors.Is(err, context.Canceled) || m.closed != 0 {
		t.Errorf("a Shutdown without patience: %v, and the model was closed %d times", err, m.closed)
	}
	if a := s.readiness(); a.Ready || a.Reason != "the server is stopping" {
		t.Errorf("readiness while stopping: %+v", a)
	}
	close(proceed)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil || m.closed != 1 {
		t.Errorf("Shutdown: %v, and the model was closed %d times", err, m.closed)
	}
	if got := <-answer; got.status != 200 || !got.last {
		t.Errorf("the running request: %d, last on its connection: %v", got.status, got.last)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
