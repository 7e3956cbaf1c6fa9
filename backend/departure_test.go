package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"weir/backend/inference"
	"weir/backend/tensor"
)

// held is a model whose runs go on until the test lets them, or their context ends.
type held struct {
	*scripted
	entered chan context.Context
	proceed chan struct{}
	ended   chan error
}

func newHeld() *held {
	h := &held{scripted: doubler(), entered: make(chan context.Context), proceed: make(chan struct{}), ended: make(chan error, 99)}
	double := h.run
	h.within = func(ctx context.Context, in []tensor.Tensor) (out []tensor.Tensor, err error) {
		defer func() { h.ended <- err }()
		h.entered <- ctx
		select {
		case <-h.proceed:
			return double(in)
		case <-ctx.Done():
			return nil, fmt.Errorf("broken off: %w", context.Cause(ctx))
		}
	}
	return h
}

// connect sends a request for the model a on a connection of its own.
func (r *running) connect() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "POST /v2/models/a/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inferBody), inferBody); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// TestClientLeaves closes connections of requests that wait, and of one that runs.
func TestClientLeaves(t *testing.T) {
	h := newHeld()
	r := start(t, Options{Models: []Source{source("a", "v1", h)}, Workers: 1}, true)
	running := r.connect()
	<-h.entered
	waiting, half, stays := r.connect(), r.connect(), r.connect()
	r.await("ml_queued_requests 3")
	r.wantMetric(`ml_queue_depth{model="a",model_version="v1"} 3`)
	if err := waiting.Close(); err != nil {
		t.Fatal(err)
	}
	r.await("ml_queued_requests 2")
	if err := half.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.await("ml_queued_requests 1")
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the run of a client that left ended with %v", err)
	}
	<-h.entered // the one that stays
	h.proceed <- struct{}{}
	answer := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(stays, answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Errorf("who stayed got %q, %v", answer, err)
	}
	r.await(`ml_errors_total{error_type="canceled",model_version="v1"} 3`)
	r.wantMetric(`ml_predictions_total{model_type="classifier",model_version="v1",status="error"} 0`)
	r.await("ml_active_requests 0")
}

// TestCallIsCanceled cancels the only call of a run.
func TestCallIsCanceled(t *testing.T) {
	h := newHeld()
	r := start(t, Options{Models: []Source{source("a", "v1", h)}, Workers: 1}, true)
	ctx, cancel := context.WithCancel(patient(t))
	ended := make(chan error, 1)
	c := r.grpc()
	go func() {
		_, err := c.ModelInfer(ctx, doubled())
		ended <- err
	}()
	<-h.entered
	cancel()
	wantStatus(t, <-ended, codes.Canceled, "")
	if err := <-h.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the run ended with %v", err)
	}
	r.await(`ml_errors_total{error_type="canceled",model_version="v1"} 1`)
}

// TestTimeOfARequest gives requests less time than they need, in every way there is.
func TestTimeOfARequest(t *testing.T) {
	h := newHeld()
	r := start(t, Options{Models: []Source{source("a", "v1", h)}, Workers: 1}, true)
	c := r.grpc()
	stays := r.connect()
	first := <-h.entered
	if _, ok := first.Deadline(); ok {
		t.Error("a request that gives no time has a deadline")
	}
	const over = "the time that the client gave the request is over"
	timed := strings.Replace(inferBody, `{`, `{"parameters":{"timeout":5000,"other":{}},`, 1)
	wantError(t, r.post("/v2/models/a/infer", inferBody, timeoutHeader, "5ms"), 504, over)
	wantError(t, r.post("/predict", `{"features":[1,2]}`, timeoutHeader, "0.005"), 504, over)
	wantError(t, r.post("/v2/models/a/infer", timed), 504, over)
	call := doubled()
	call.Parameters = map[string]*inference.InferParameter{"timeout": {ParameterChoice: &inference.InferParameter_Int64Param{Int64Param: 5000}}}
	_, err := c.ModelInfer(patient(t), call)
	wantStatus(t, err, codes.DeadlineExceeded, over)
	r.await(`ml_errors_total{error_type="deadline",model_version="v1"} 4`)
	h.proceed <- struct{}{}
	<-h.ended
	if err := stays.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stays, make([]byte, 12)); err != nil {
		t.Error(err)
	}
	// A run ends with the time of the only request in it.
	answered := make(chan response, 1)
	for entered, d := false, time.Second; !entered; d *= 2 { // more time where the machine is slow
		go func() { answered <- r.post("/v2/models/a/infer", inferBody, timeoutHeader, d.String()) }()
		select {
		case ctx := <-h.entered:
			entered = true
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the run does not know the request's time")
			}
		case <-answered:
		}
	}
	wantError(t, <-answered, 504, over)
	if err := <-h.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the run ended with %v", err)
	}
}

// TestNoTimeForARun refuses at once what a run would be too long for, and says when to come again.
func TestNoTimeForARun(t *testing.T) {
	m := doubler()
	r := start(t, Options{Models: []Source{source("a", "v1", m)}}, true)
	l := r.server.repository.Load().models[0].line
	l.s.mu.Lock()
	l.costs.add(1, 90*time.Second)
	l.s.mu.Unlock()
	const late = "the model would not answer within the time that the client gives the request"
	got := r.post("/v2/models/a/infer", inferBody, timeoutHeader, "80s")
	wantError(t, got, 503, late)
	if after := got.header.Get("Retry-After"); after != "1" {
		t.Errorf("Retry-After: %q; want 1: nothing waits", after)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	defer cancel()
	_, err := r.grpc().ModelInfer(ctx, doubled())
	wantStatus(t, err, codes.Unavailable, late)
	r.wantMetric(`ml_errors_total{error_type="deadline",model_version="v1"} 2`)
	if got := r.post("/v2/models/a/infer", inferBody, timeoutHeader, "2m"); got.status != 200 {
		t.Errorf("with time enough: %d %s", got.status, got.body)
	}
}

func TestPatienceRefused(t *testing.T) {
	r := start(t, Options{Models: []Source{source("a", "v1", doubler())}}, true)
	f := func(want, parameters string) {
		t.Helper()
		body := strings.Replace(inferBody, `{`, `{"parameters":`+parameters+`,`, 1)
		wantError(t, r.post("/v2/models/a/infer", body), 400, want)
	}
	f("parameters: priority: it is -1; want a level from 1", `{"priority":-1}`)
	f("parameters: timeout: it is -1; want microseconds", `{"timeout":-1}`)
	f(`parameters: the key "timeout" is given twice`, `{"timeout":1,"timeout":1}`)
	f("parameters: priority: ", `{"priority":"high"}`)
	call := doubled()
	call.Parameters = map[string]*inference.InferParameter{"priority": {ParameterChoice: &inference.InferParameter_StringParam{StringParam: "high"}}}
	_, err := r.grpc().ModelInfer(patient(t), call)
	wantStatus(t, err, codes.InvalidArgument, "parameters: priority: want an int64_param or a uint64_param")
}

// TestPriorityOfARequest lets requests wait that name their priority in every way there is.
func TestPriorityOfARequest(t *testing.T) {
	h := newHeld()
	var order []string
	inner := h.within
	h.within = func(ctx context.Context, in []tensor.Tensor) ([]tensor.Tensor, error) {
		order = append(order, fmt.Sprint(in[0].Float64(0))) // one run at a time
		return inner(ctx, in)
	}
	a := source("a", "v1", h)
	a.Serving.Priorities = 3
	r := start(t, Options{Models: []Source{a}, Workers: 1}, true)
	body := func(parameters string, x int) string {
		return fmt.Sprintf(`{"parameters":{%s},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[%d,0]}]}`, parameters, x)
	}
	answers := make(chan int)
	waits := 0
	post := func(body string, header ...string) {
		go func() { answers <- r.post("/v2/models/a/infer", body, header...).status }()
		if waits++; waits == 1 {
			<-h.entered
			return
		}
		r.await(fmt.Sprintf("ml_queued_requests %d", waits-1))
	}
	post(body("", 0))
	post(body("", 20), priorityHeader, "low")
	post(body("", 10))
	post(body(`"priority":9`, 11)) // a level that there is not
	post(body(`"priority":1`, 1), priorityHeader, "low")
	post(body("", 2), priorityHeader, "high")
	post(body("", 3), priorityHeader, "1")
	go func() {
		call := doubled()
		call.Inputs[0].Contents.Fp64Contents[0] = 21
		call.Parameters = map[string]*inference.InferParameter{"priority": {ParameterChoice: &inference.InferParameter_Uint64Param{Uint64Param: 3}}}
		if _, err := r.grpc().ModelInfer(patient(t), call); err != nil {
			t.Error(err)
		}
		answers <- 200
	}()
	r.await("ml_queued_requests 7")
	for i := range 8 {
		if i > 0 {
			<-h.entered
		}
		h.proceed <- struct{}{}
		if status := <-answers; status != 200 {
			t.Errorf("a request was answered %d", status)
		}
	}
	if got := strings.Join(order, " "); got != "0 1 2 3 10 11 20 21" {
		t.Errorf("the order is %s", got)
	}
}

func TestParseTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"2.5": 2500 * time.Millisecond, "500ms": 500 * time.Millisecond, "2s": 2 * time.Second, "1m": time.Minute, "1h": time.Hour,
		"0": 0, "1e9": -1, "": -1, "s": -1, "soon": -1, "-1": -1, "1.2.3": -1, "inf": -1, "99999999999999h": longestTimeout,
	} {
		if got, ok := parseTimeout(text); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
}
