package proxy_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend"
	"weir/backend/tensor"
	"weir/balancer"
)

// gatedModel is a model of weir-backend whose runs each say on entered that they have begun, and then wait for proceed.
type gatedModel struct{ entered, proceed chan struct{} }

func (h *gatedModel) Signature() tensor.Signature {
	number := func(name string) []tensor.Spec {
		return []tensor.Spec{{Name: name, Type: tensor.FP64, Shape: []int64{-1, 1}}}
	}
	return tensor.Signature{Inputs: number("x"), Outputs: number("y")}
}

func (h *gatedModel) Run(_ context.Context, in []tensor.Tensor) ([]tensor.Tensor, error) {
	h.entered <- struct{}{}
	<-h.proceed
	out := in[0]
	out.Name = "y"
	return []tensor.Tensor{out}, nil
}

func (h *gatedModel) Close() error { return nil }

// TestEdgeBackendQueue has requests wait in weir-backend, and weir know for how long: what the server reports in seconds are the
// milliseconds of the signal. The server's time is the test's, so that the number is known.
func TestEdgeBackendQueue(t *testing.T) {
	began := time.Now()
	var passed atomic.Int64
	h := &gatedModel{make(chan struct{}), make(chan struct{})}
	s, err := backend.New(backend.Options{
		Models:  []backend.Source{{Name: "m", Version: "v1", Open: func() (backend.Runner, error) { return h, nil }}},
		Workers: 1, Now: func() time.Time { return began.Add(time.Duration(passed.Load())) },
	})
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
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	address := ln.Addr().String()
	r := start(t, setup{endpoints: []string{address}, pool: reporting})
	var asking sync.WaitGroup
	ask := func() {
		cl := r.dial(t)
		asking.Go(func() {
			if m := cl.predict(`{"features":[1]}`, ""); m.status() != 200 {
				t.Errorf("%s %s", m.start, m.body)
			}
		})
	}
	queued := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d in the queue", n), func() bool {
			resp, err := http.Get("http://" + address + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			page, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Contains(string(page), fmt.Sprintf("\nml_queued_requests %d\n", n))
		})
	}
	ask()
	<-h.entered
	ask()
	ask()
	queued(2)
	passed.Store(int64(400 * time.Millisecond))
	for range 2 {
		h.proceed <- struct{}{}
		<-h.entered
	}
	h.proceed <- struct{}{}
	asking.Wait()
	// Two of four requests, this one included, waited for 0.4 s each. The queue is empty, of which Little's law would say 0.
	ask()
	<-h.entered
	h.proceed <- struct{}{}
	asking.Wait()
	p, _ := r.Pool("blue")
	if p.Endpoints[0].Load == nil {
		t.Fatal("weir knows nothing of the endpoint's load")
	}
	for _, signal := range p.Endpoints[0].Load.Signals {
		if signal.Name == balancer.QueueTime.String() {
			if math.Abs(signal.Value-200) > 0.01 || signal.Source != "orca" {
				t.Errorf("the status has %s=%v from %s, want 200 (ms) from orca", signal.Name, signal.Value, signal.Source)
			}
			return
		}
	}
	t.Errorf("the status has no time in the queue: %+v", p.Endpoints[0].Load.Signals)
}
