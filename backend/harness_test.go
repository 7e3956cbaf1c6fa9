package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/backend/tensor"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp leaves two sleepers of its own behind: the one that frees idle workers, up to
		// 10 s after the last server has stopped, and the clock of the Date header.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	)
}

// scripted is a Runner without a runtime.
type scripted struct {
	signature tensor.Signature
	run       func(inputs []tensor.Tensor) ([]tensor.Tensor, error)
	// within, when it is set, runs instead of run.
	within func(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error)

	mu     sync.Mutex
	closed int
}

func (r *scripted) Signature() tensor.Signature { return r.signature }

func (r *scripted) Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	if r.within != nil {
		return r.within(ctx, inputs)
	}
	return r.run(inputs)
}

func (r *scripted) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
	return nil
}

// doubler gives back twice its two numbers a row.
func doubler() *scripted {
	return &scripted{
		signature: tensor.Signature{
			Inputs:   []tensor.Spec{{Name: "x", Type: tensor.FP64, Shape: []int64{-1, 2}}},
			Outputs:  []tensor.Spec{{Name: "y", Type: tensor.FP64, Shape: []int64{-1, 2}}},
			Platform: "test",
		},
		run: func(inputs []tensor.Tensor) ([]tensor.Tensor, error) {
			out := tensor.Tensor{Name: "y", Type: tensor.FP64, Shape: inputs[0].Shape}
			s := elements{t: &out}
			for i := range inputs[0].Len() {
				s.s = &scanner{data: fmt.Appendf(nil, "%v", 2*inputs[0].Float64(i))}
				if err := s.float(); err != nil {
					return nil, err
				}
			}
			return []tensor.Tensor{out}, nil
		},
	}
}

// gated is a doubler whose runs each say on entered that they have begun, and then wait for proceed.
func gated() (m *scripted, entered, proceed chan struct{}) {
	m, entered, proceed = doubler(), make(chan struct{}), make(chan struct{})
	double := m.run
	m.run = func(in []tensor.Tensor) ([]tensor.Tensor, error) {
		entered <- struct{}{}
		<-proceed
		return double(in)
	}
	return m, entered, proceed
}

func source(name, version string, r Runner) Source {
	return Source{Name: name, Version: version, Path: name + ".onnx", Open: func() (Runner, error) { return r, nil }}
}

// running is a server on a port of its own.
type running struct {
	t      *testing.T
	server *Server
	base   string
	beside sync.WaitGroup // what else serves
}

// start serves with these options; load says whether its models are loaded.
func start(t *testing.T, o Options, load bool) *running {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	r := &running{t: t, server: s, base: "http://" + ln.Addr().String()}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		r.beside.Wait()
	})
	if load {
		if err := s.Load(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// response is a response read to its end.
type response struct {
	status int
	header http.Header
	body   string
	last   bool // the server closes the connection after it
}

func (r *running) send(method, path, body string, header ...string) response {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if at := strings.IndexByte(path, '%'); at >= 0 {
		req.URL.Opaque = path // as it is, not as net/url would write it
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(content), resp.Close}
}

func (r *running) get(path string, header ...string) response {
	r.t.Helper()
	return r.send(http.MethodGet, path, "", header...)
}

func (r *running) post(path, body string, header ...string) response {
	r.t.Helper()
	return r.send(http.MethodPost, path, body, header...)
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, r response) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(r.body))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q is no JSON: %v", r.body, err)
	}
	return v
}

// wantError checks an error answer: its status and a part of its message.
func wantError(t *testing.T, r response, status int, message string) {
	t.Helper()
	var v map[string]string
	if err := json.Unmarshal([]byte(r.body), &v); err != nil || len(v) != 1 {
		t.Errorf("the body is %q; want {\"error\": …}", r.body)
	}
	if r.status != status || !strings.Contains(v["error"], message) {
		t.Errorf("got %d %q; want %d and %q in it", r.status, v["error"], status, message)
	}
}

// raw sends text on a connection of its own, ends it, and returns all that comes back.
func (r *running) raw(text string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		r.t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

// await polls the metrics until they hold the line.
func (r *running) await(line string) {
	r.t.Helper()
	r.awaitOne(line)
}

// awaitOne polls the metrics until they hold one of the lines.
func (r *running) awaitOne(lines ...string) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		page := "\n" + r.get("/metrics").body
		if slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(page, "\n"+line+"\n") }) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the metrics never had %s", strings.Join(lines, " or "))
		}
	}
}

func (r *running) wantMetric(line string) {
	r.t.Helper()
	page := r.get("/metrics").body
	if !strings.Contains("\n"+page, "\n"+line+"\n") {
		family, _, _ := strings.Cut(line, "{")
		family, _, _ = strings.Cut(family, " ")
		var have []string
		for l := range strings.Lines(page) {
			if strings.HasPrefix(l, family) {
				have = append(have, l)
			}
		}
		r.t.Errorf("no line %s; have\n%s", line, strings.Join(have, ""))
	}
}
