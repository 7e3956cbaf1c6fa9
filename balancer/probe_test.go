package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// backend is what a pool's probes find. Its zero value answers every probe well.
type backend struct {
	mu    sync.Mutex
	down  map[string]error // by address
	hang  bool             // until the probe's time is over
	asked []time.Time
	log   []string
}

func (b *backend) set(address string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down == nil {
		b.down = map[string]error{}
	}
	b.down[address] = err
}

func (b *backend) probe(ctx context.Context, _ *Endpoint, addr Addr, _ config.Probe) error {
	b.mu.Lock()
	b.asked = append(b.asked, time.Now())
	err, hang := b.down[addr.String()], b.hang
	b.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (b *backend) logf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, fmt.Sprintf(format, args...))
}

// times returns when probes came, since start.
func (b *backend) times(start time.Time) []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []time.Duration
	for _, at := range b.asked {
		out = append(out, at.Sub(start))
	}
	return out
}

func (b *backend) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.log)
}

func (b *backend) options() PoolOptions { return PoolOptions{Probe: b.probe, Log: b.logf} }

func probedConfig(weights ...float64) config.Pool {
	c := poolConfig("blue", "round_robin", weights...)
	c.Probe = &config.Probe{
		Path: "/health/ready", Interval: 5 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3,
		Status: config.StatusRange{Low: 200, High: 299},
	}
	return c
}

// wait lets d pass in a synctest bubble, and what is due by then happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestProbesComeAtOnceAndThenByIntervalWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1), nil, b.options())
		start := time.Now()
		p.Start()
		defer p.Stop()
		wait(10 * time.Minute)
		times := b.times(start)
		if times[0] != 0 {
			t.Errorf("the first probe came after %v, want at once", times[0])
		}
		shortest, longest := time.Hour, time.Duration(0)
		for i := 1; i < len(times); i++ {
			gap := times[i] - times[i-1]
			shortest, longest = min(shortest, gap), max(longest, gap)
		}
		if shortest < 4500*time.Millisecond || longest > 5500*time.Millisecond || longest-shortest < 500*time.Millisecond {
			t.Errorf("%d probes %v to %v apart, want 5s ± 10 %%, spread out", len(times), shortest, longest)
		}
		if lines := b.lines(); len(lines) != 0 {
			t.Errorf("logged %q, want nothing while nothing changes", lines)
		}
	})
}

func TestFirstProbesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		options := b.options()
		options.Spread = 2 * time.Second
		p := NewPool(probedConfig(slices.Repeat([]float64{1}, 200)...), nil, options)
		start := time.Now()
		p.Start()
		defer p.Stop()
		wait(2 * time.Second)
		times := b.times(start)
		half := 0
		for _, at := range times {
			if at < time.Second {
				half++
			}
		}
		if len(times) != 200 || half < 60 || half > 140 {
			t.Errorf("%d of 200 first probes came within 2s, %d of them in the first half; want all, about half", len(times), half)
		}
	})
}

func TestNoProbeComesAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1, 1, 1), nil, b.options())
		start := time.Now()
		p.Start()
		wait(12 * time.Second)
		p.Stop()
		n := len(b.times(start))
		wait(time.Minute)
		if after := len(b.times(start)); n < 6 || after != n {
			t.Errorf("%d probes until Stop, %d a minute later", n, after)
		}
	})
}

func TestTheFirstProbeDecidesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		b.set("127.0.0.1:8001", errors.New("GET /health/ready answered 404"))
		var changes int
		options := b.options()
		options.Changed = func(*Pool) { changes++ }
		p := NewPool(probedConfig(1, 1), nil, options)
		if !p.endpoints[0].Healthy() {
			t.Error("unhealthy before the first probe, want healthy")
		}
		p.Start()
		defer p.Stop()
		synctest.Wait()
		if p.endpoints[0].Healthy() || !p.endpoints[1].Healthy() {
			t.Error("want the first result to decide alone: unhealthy, healthy")
		}
		if changes != 1 {
			t.Errorf("Changed was called %d times, want once", changes)
		}
		for range 4 {
			if e := p.Pick(nil); e != p.endpoints[1] {
				t.Fatal("the unhealthy endpoint was picked")
			}
		}
		if got := p.endpoints[0].ProbeError(); got != "GET /health/ready answered 404" {
			t.Errorf("ProbeError = %q", got)
		}
		b.set("127.0.0.1:8001", nil)
		wait(6 * time.Second)
		if p.endpoints[0].Healthy() {
			t.Error("healthy after one success, want rise 2")
		}
		wait(6 * time.Second)
		if !p.endpoints[0].Healthy() {
			t.Error("unhealthy after two successes")
		}
		want := []string{
			"endpoint 127.0.0.1:8001 of pool blue is unhealthy and gets no new requests: GET /health/ready answered 404",
			"endpoint 127.0.0.1:8001 of pool blue is healthy again",
		}
		if got := b.lines(); !slices.Equal(got, want) {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestAHangingEndpointFallsByTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1), nil, b.options())
		p.Start()
		defer p.Stop()
		synctest.Wait()
		b.mu.Lock()
		b.hang = true
		b.mu.Unlock()
		wait(11*time.Second + 2*time.Second) // two probes failed at the latest, no third
		if !p.endpoints[0].Healthy() {
			t.Error("unhealthy before three failures")
		}
		wait(7 * time.Second)
		if p.endpoints[0].Healthy() {
			t.Error("healthy after three probes without an answer")
		}
		want := "no answer from 127.0.0.1:8001 to GET /health/ready within 1s"
		if got := p.endpoints[0].ProbeError(); got != want {
			t.Errorf("ProbeError = %q, want %q", got, want)
		}
	})
}

func TestAProbeGivenUpByStopCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend{hang: true}
		p := NewPool(probedConfig(1), nil, b.options())
		p.Start()
		synctest.Wait()
		p.Stop()
		if e := p.endpoints[0]; !e.Healthy() || e.ProbeError() != "" {
			t.Errorf("healthy %v, error %q after a probe that never ended", e.Healthy(), e.ProbeError())
		}
	})
}

func TestReloadKeepsHealthAndSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		b.set("127.0.0.1:8001", errors.New("connection refused"))
		p := NewPool(probedConfig(1, 1), nil, b.options())
		p.Start()
		synctest.Wait()
		start := time.Now()
		before := len(b.times(start))
		for range 40 { // a reload each 100 ms
			wait(100 * time.Millisecond)
			next := NewPool(probedConfig(1, 1), p, b.options())
			next.Start()
			p.Stop()
			p = next
			if p.endpoints[0].Healthy() {
				t.Fatal("a reload made an unhealthy endpoint healthy")
			}
		}
		if n := len(b.times(start)) - before; n != 0 {
			t.Errorf("%d probes during 4 s of reloads, want the schedule of 5 s to hold", n)
		}
		wait(2 * time.Second)
		if n := len(b.times(start)) - before; n != 2 {
			t.Errorf("%d probes in 6 s, want one for each endpoint", n)
		}
		p.Stop()
	})
}

func TestReloadThatAsksSomethingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1), nil, b.options())
		p.Start()
		wait(time.Second)
		b.set("127.0.0.1:8001", errors.New("answered 404"))

		other := probedConfig(1)
		other.Probe.Path = "/ready"
		next := NewPool(other, p, b.options())
		next.Start()
		p.Stop()
		synctest.Wait()
		if next.endpoints[0].Healthy() {
			t.Error("the first probe of another path came late or did not decide alone")
		}

		off := probedConfig(1)
		off.Probe = nil
		last := NewPool(off, next, b.options())
		last.Start()
		next.Stop()
		if !last.Usable() || last.endpoints[0].ProbeError() != "" {
			t.Error("probe: off did not make the endpoint healthy")
		}
		asked := len(b.times(time.Now()))
		wait(time.Minute)
		if n := len(b.times(time.Now())); n != asked {
			t.Errorf("%d probes although probes are off", n-asked)
		}
		last.Stop()
	})
}

func TestAReplacedPoolNoLongerJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		old := NewPool(probedConfig(1), nil, b.options())
		old.Start()
		synctest.Wait()
		next := NewPool(probedConfig(1), old, b.options())
		next.Start()
		old.observe(old.endpoints[0], errors.New("late"))
		if e := next.endpoints[0]; e.ProbeError() != "" {
			t.Errorf("the old pool's probe counted: %q", e.ProbeError())
		}
		old.Stop()
		next.Stop()
	})
}

func TestOneGoodAddressIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		c := probedConfig()
		c.Endpoints = []config.Endpoint{{Address: "models:8001", Weight: 1}}
		options := b.options()
		options.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
		}
		b.set("[::1]:8001", errors.New("connection refused"))
		p := NewPool(c, nil, options)
		p.Start()
		defer p.Stop()
		synctest.Wait()
		if !p.Usable() {
			t.Errorf("not usable although 127.0.0.1 answers: %s", p.endpoints[0].ProbeError())
		}
		b.set("127.0.0.1:8001", errors.New("connection reset"))
		wait(20 * time.Second)
		if p.Usable() {
			t.Error("usable although no address answers")
		}
	})
}

func TestAFlappingEndpointIsNotProbedIntoTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1), nil, b.options())
		p.Start()
		defer p.Stop()
		for i := range 600 { // up and down each second for ten minutes
			if i%2 == 0 {
				b.set("127.0.0.1:8001", errors.New("connection refused"))
			} else {
				b.set("127.0.0.1:8001", nil)
			}
			wait(time.Second)
		}
		if n := len(b.lines()); n > 60 {
			t.Errorf("%d changes of health in 120 probes of a flapping endpoint, want few", n)
		}
	})
}
