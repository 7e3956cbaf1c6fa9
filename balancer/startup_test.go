package balancer

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func startingConfig(weights ...float64) config.Pool {
	c := probedConfig(weights...)
	c.Probe.Startup = &config.Startup{Budget: time.Minute, Interval: time.Second, Timeout: 500 * time.Millisecond}
	return c
}

// heard notes what PoolOptions.Health, Log and Warn are told.
func (b *backend) hears(o PoolOptions) PoolOptions {
	o.Health = func(e *Endpoint, healthy bool, why string) { b.logf("told %s %v: %s", e.Address, healthy, why) }
	o.Warn = func(format string, args ...any) { b.logf("WARN "+format, args...) }
	return o
}

func (b *backend) want(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := b.lines(); !slices.Equal(got, want) {
		t.Errorf("%s: heard\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnEndpointThatStartsGetsNoRequestsUntilItsFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		b.set("127.0.0.1:8001", errors.New("GET /health/ready answered 503"))
		p := NewPool(startingConfig(1), nil, b.hears(b.options()))
		e := p.endpoints[0]
		if p.Usable() || !e.Starting() || e.ProbeError() != "starting: not probed yet" {
			t.Errorf("before Start: usable %v, starting %v, %q", p.Usable(), e.Starting(), e.ProbeError())
		}
		start := time.Now()
		p.Start()
		defer p.Stop()
		wait(20500 * time.Millisecond)
		if n := len(b.times(start)); n < 18 || n > 24 {
			t.Errorf("%d probes in 20.5s, want one a second", n)
		}
		if p.Usable() || e.Healthy() || e.ProbeError() != "starting: GET /health/ready answered 503" {
			t.Errorf("while it starts: usable %v, healthy %v, %q", p.Usable(), e.Healthy(), e.ProbeError())
		}
		b.want(t, "while it starts")

		// A reload does not begin its time anew.
		next := NewPool(startingConfig(1), p, b.hears(b.options()))
		next.Start()
		defer next.Stop()
		p.Stop()
		b.set("127.0.0.1:8001", nil)
		wait(1100 * time.Millisecond)
		if !next.Usable() || !e.Healthy() || e.Starting() || e.ProbeError() != "" {
			t.Errorf("after its first success: usable %v, starting %v, %q", next.Usable(), e.Starting(), e.ProbeError())
		}
		lines := b.lines()
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "endpoint 127.0.0.1:8001 of pool blue is ready after 2") ||
			lines[1] != "told 127.0.0.1:8001 true: its first probe succeeded" {
			t.Errorf("heard %q", lines)
		}
		before := len(b.times(start))
		wait(20 * time.Second)
		if n := len(b.times(start)) - before; n < 3 || n > 5 {
			t.Errorf("%d probes in 20s after that, want one in 5s", n)
		}
		// From now on fall counts, as always.
		b.set("127.0.0.1:8001", errors.New("GET /health/ready answered 503"))
		wait(6 * time.Second)
		if !e.Healthy() {
			t.Error("unhealthy after one failure, want fall 3")
		}
	})
}

func TestAnEndpointThatDoesNotStartIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		b.hang = true
		p := NewPool(startingConfig(1), nil, b.hears(b.options()))
		e := p.endpoints[0]
		p.Start()
		defer p.Stop()
		wait(58 * time.Second)
		if want := "starting: no answer from 127.0.0.1:8001 to GET /health/ready within 500ms"; e.ProbeError() != want {
			t.Errorf("%q, want %q", e.ProbeError(), want)
		}
		b.want(t, "within the budget")
		wait(2 * time.Minute)
		if e.Starting() || e.Healthy() || e.ProbeError() != "no answer from 127.0.0.1:8001 to GET /health/ready within 1s" {
			t.Errorf("beyond the budget: starting %v, healthy %v, %q", e.Starting(), e.Healthy(), e.ProbeError())
		}
		b.want(t, "beyond the budget", "WARN endpoint 127.0.0.1:8001 of pool blue has not become ready within 1m0s and counts as unhealthy: "+
			"no answer from 127.0.0.1:8001 to GET /health/ready within 500ms")
		b.mu.Lock()
		b.hang = false
		b.mu.Unlock()
		for e.Checked(Probe).Succeeded() == 0 {
			wait(time.Second)
		}
		if e.Healthy() {
			t.Error("healthy after one success, want rise 2")
		}
		wait(6 * time.Second)
		if !e.Healthy() {
			t.Error("unhealthy after two successes")
		}
	})
}

// TestStartupIsForNewEndpoints, not for those that a reload keeps.
func TestStartupIsForNewEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		b.set("127.0.0.1:8002", errors.New("GET /health/ready answered 503"))
		first := NewPool(probedConfig(1), nil, b.options())
		first.Start()
		synctest.Wait()
		p := NewPool(startingConfig(1, 1), first, b.options())
		p.Start()
		first.Stop()
		synctest.Wait()
		if !p.endpoints[0].Healthy() || p.endpoints[0].Starting() || p.endpoints[1].Healthy() || !p.endpoints[1].Starting() {
			t.Error("want the old endpoint healthy and the new one starting")
		}
		last := NewPool(probedConfig(1, 1), p, b.options())
		last.Start()
		p.Stop()
		wait(6 * time.Second)
		if e := last.endpoints[1]; e.Starting() || e.Healthy() || e.ProbeError() != "GET /health/ready answered 503" {
			t.Errorf("without startup: starting %v, healthy %v, %q", e.Starting(), e.Healthy(), e.ProbeError())
		}
		last.Stop()
	})
}
