package balancer

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// model is what inferences find.
type model struct {
	mu    sync.Mutex
	err   error
	asked []time.Time
	hang  bool
}

func (m *model) infer(ctx context.Context, _ *Endpoint, _ Addr, _ config.Probe) error {
	m.mu.Lock()
	m.asked = append(m.asked, time.Now())
	err, hang := m.err, m.hang
	m.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (m *model) set(err error, hang bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.hang = err, hang
}

func (m *model) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.asked)
}

func inferringConfig() config.Pool {
	c := probedConfig(1)
	c.Probe.Inference = &config.Inference{Path: "/predict", Body: "{}", Interval: 30 * time.Second, MaxLatency: 200 * time.Millisecond}
	return c
}

func TestAWrongInferenceMakesUnhealthyWhileProbesSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		var m model
		options := b.hears(b.options())
		options.Infer = m.infer
		p := NewPool(inferringConfig(), nil, options)
		e := p.endpoints[0]
		p.Start()
		defer p.Stop()
		wait(time.Second)
		if m.count() != 1 {
			t.Fatalf("%d inferences after the first probe, want one at once", m.count())
		}
		wait(10 * time.Minute)
		if n := m.count(); n < 19 || n > 23 {
			t.Errorf("%d inferences in 10 minutes, want one in 30s", n)
		}
		more := func(n int) {
			for n += m.count(); m.count() < n; {
				wait(time.Second)
			}
		}
		m.set(errors.New("inference: prediction is 4; want 3"), false)
		more(2)
		if !e.Healthy() || e.ProbeError() != "inference: prediction is 4; want 3" {
			t.Errorf("after two failures: healthy %v, %q; want fall 3", e.Healthy(), e.ProbeError())
		}
		more(1)
		if e.Healthy() || p.Usable() {
			t.Error("healthy after three failures")
		}
		b.want(t, "when it fell",
			"WARN endpoint 127.0.0.1:8001 of pool blue is unhealthy and gets no new requests: inference: prediction is 4; want 3",
			"told 127.0.0.1:8001 false: inference: prediction is 4; want 3")

		// A reload that asks the same changes nothing, and inferences go on although it is unhealthy.
		next := NewPool(inferringConfig(), p, options)
		next.Start()
		defer next.Stop()
		p.Stop()
		if e.Healthy() {
			t.Error("healthy after a reload")
		}
		m.set(nil, false)
		more(1)
		if e.Healthy() {
			t.Error("healthy after one success, want rise 2")
		}
		more(1)
		if !e.Healthy() || e.ProbeError() != "" {
			t.Errorf("unhealthy after two successes: %q", e.ProbeError())
		}
		if lines := b.lines(); len(lines) != 4 || lines[3] != "told 127.0.0.1:8001 true: its inference succeeds" {
			t.Errorf("heard %q", lines)
		}
		if e.Requests() != 0 || e.Errors() != 0 || e.Inflight() != 0 || e.Latency().Count() != 0 {
			t.Error("inferences count as requests")
		}
		if c := e.Checked(Inference); c.Failed() != 3 || c.Succeeded()+3 != uint64(m.count()) || c.Latency().Count() != uint64(m.count()) {
			t.Errorf("counted %d failed and %d well of %d", c.Failed(), c.Succeeded(), m.count())
		}
		if c := e.Checked(Probe); c.Failed() != 0 || c.Succeeded() < 100 {
			t.Errorf("%d probes succeeded, %d failed", c.Succeeded(), c.Failed())
		}
	})
}

func TestNobodyIsAskedForAnInferenceWhoseProbesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		var m model
		options := b.hears(b.options())
		options.Infer = m.infer
		b.set("127.0.0.1:8001", errors.New("GET /health/ready answered 503"))
		p := NewPool(inferringConfig(), nil, options)
		e := p.endpoints[0]
		p.Start()
		defer p.Stop()
		wait(5 * time.Minute)
		if m.count() != 0 {
			t.Errorf("%d inferences while its probes fail", m.count())
		}
		// What comes back may have another model: its first answer decides alone, and comes at once.
		m.set(nil, true)
		b.set("127.0.0.1:8001", nil)
		wait(15 * time.Second)
		if want := "inference: no answer from 127.0.0.1:8001 to POST /predict within 1.2s"; m.count() != 1 || e.Healthy() || e.ProbeError() != want {
			t.Errorf("%d inferences, healthy %v, %q; want %q", m.count(), e.Healthy(), e.ProbeError(), want)
		}
		m.set(nil, false)
		b.set("127.0.0.1:8001", errors.New("GET /health/ready answered 503"))
		wait(20 * time.Second) // its probes fall
		b.set("127.0.0.1:8001", nil)
		wait(12 * time.Second)
		if !e.Healthy() {
			t.Errorf("unhealthy after a restart: %q", e.ProbeError())
		}
		// A reload without the inference ends its verdict.
		m.set(errors.New("inference: prediction is 4; want 3"), false)
		wait(3 * time.Minute)
		if e.Healthy() {
			t.Fatal("healthy although its inference fails")
		}
		next := NewPool(probedConfig(1), p, options)
		next.Start()
		defer next.Stop()
		p.Stop()
		n := m.count()
		wait(time.Minute)
		if !e.Healthy() || m.count() != n {
			t.Errorf("healthy %v, %d more inferences; want it healthy and none", e.Healthy(), m.count()-n)
		}
		if lines := b.lines(); lines[len(lines)-1] != "told 127.0.0.1:8001 true: its model is not asked any more" {
			t.Errorf("heard %q", lines)
		}
	})
}
