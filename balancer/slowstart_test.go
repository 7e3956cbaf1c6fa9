package balancer

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func TestTenths(t *testing.T) {
	r := ramp{since: start, window: 30 * time.Second}
	for _, test := range []struct {
		after time.Duration
		want  uint32
	}{
		{-time.Second, 1}, {0, 1}, {3 * time.Second, 1}, {6*time.Second - 1, 1}, {6*time.Second + 1, 2},
		{15*time.Second + 1, 5}, {30*time.Second - 1, 9}, {30 * time.Second, 10}, {time.Hour, 10},
	} {
		if got := r.tenths(start.Add(test.after)); got != test.want {
			t.Errorf("after %v: %d tenths, want %d", test.after, got, test.want)
		}
	}
	if got := (ramp{}).tenths(start); got != 10 {
		t.Errorf("without a ramp: %d tenths, want 10", got)
	}
}

// TestStepsOfARamp goes from each step to the next, for windows of every size.
func TestStepsOfARamp(t *testing.T) {
	for _, window := range []time.Duration{3, 10, 17, time.Microsecond, 7 * time.Millisecond, 5 * time.Second, 24 * time.Hour} {
		r := ramp{since: start, window: window}
		var steps []uint32
		for now := start; !now.IsZero() && len(steps) < 20; now = r.next(steps[len(steps)-1]) {
			steps = append(steps, r.tenths(now))
		}
		if last := steps[len(steps)-1]; last != 10 || !slices.IsSorted(steps) || len(slices.Compact(slices.Clone(steps))) != len(steps) {
			t.Errorf("window %v: steps %v, want growing ones up to 10", window, steps)
		}
		if window > time.Microsecond && len(steps) != 10 {
			t.Errorf("window %v: steps %v, want all ten", window, steps)
		}
	}
}

// weightsFor notes the effective weight of e every tenth of window, in the middle of the steps.
func weightsFor(e *Endpoint, window time.Duration) (weights []float64) {
	wait(window / 20)
	for range 11 {
		weights = append(weights, e.EffectiveWeight())
		wait(window / 10)
	}
	return weights
}

func checkRamp(t *testing.T, when string, e *Endpoint, window time.Duration) {
	t.Helper()
	want := []float64{0.4, 0.4, 0.8, 1.2, 1.6, 2, 2.4, 2.8, 3.2, 3.6, 4}
	got := weightsFor(e, window)
	for i := range got {
		got[i] = float64(int(got[i]*100+0.5)) / 100
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: weights %v, want %v", when, got, want)
	}
}

func TestSlowStartAfterAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		c := probedConfig(4, 4)
		c.SlowStart = 20 * time.Second
		p := NewPool(c, nil, b.options())
		p.Start()
		defer p.Stop()
		e := p.endpoints[0]
		wait(time.Second)
		if e.EffectiveWeight() != 4 {
			t.Errorf("effective weight %v as the pool starts, want all of it: nobody was there before", e.EffectiveWeight())
		}
		b.set(e.Address, errors.New("answered 503"))
		for e.Healthy() {
			wait(time.Millisecond)
		}
		b.set(e.Address, nil)
		for !e.Healthy() {
			wait(time.Millisecond)
		}
		// 0.4 beside 4: one of eleven.
		if got := shares(p, 110); !slices.Equal(got, []int{10, 100}) {
			t.Errorf("picked %v at the begin, want the recovered one once in eleven", got)
		}
		checkRamp(t, "a recovery", e, c.SlowStart)
		if got := shares(p, 10); !slices.Equal(got, []int{5, 5}) {
			t.Errorf("picked %v at the end, want halves", got)
		}
	})
}

func TestSlowStartOfAnEndpointThatJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poolConfig("blue", "round_robin", 4)
		c.SlowStart = 20 * time.Second
		p := NewPool(c, nil, PoolOptions{})
		p.Start()
		wait(time.Second)
		more := poolConfig("blue", "round_robin", 4, 4)
		more.SlowStart = c.SlowStart
		next := NewPool(more, p, PoolOptions{})
		next.Start()
		p.Stop()
		if w := next.endpoints[0].EffectiveWeight(); w != 4 {
			t.Errorf("effective weight %v of the one that was there, want 4", w)
		}
		// A reload in its middle does not start it again.
		checkRamp(t, "a join", next.endpoints[1], c.SlowStart)
		third := NewPool(more, next, PoolOptions{})
		third.Start()
		next.Stop()
		if w := third.endpoints[1].EffectiveWeight(); w != 4 {
			t.Errorf("effective weight %v after another reload, want 4", w)
		}
		third.Stop()
	})
}

func TestAReloadGoesOnWithASlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poolConfig("blue", "round_robin", 4)
		c.SlowStart = 20 * time.Second
		p := NewPool(c, nil, PoolOptions{})
		p.Start()
		more := poolConfig("blue", "round_robin", 4, 4)
		more.SlowStart = c.SlowStart
		for range 11 {
			next := NewPool(more, p, PoolOptions{})
			next.Start()
			p.Stop()
			p = next
			wait(time.Second)
		}
		if w := p.endpoints[1].EffectiveWeight(); w != 2 {
			t.Errorf("effective weight %v 11 of 20 s after the join, want 2", w)
		}
		wait(10 * time.Second)
		if w := p.endpoints[1].EffectiveWeight(); w != 4 {
			t.Errorf("effective weight %v in the end, want 4", w)
		}
		p.Stop()
	})
}

func TestSlowStartAfterTheFirstAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		n.answer(errors.New("no such host"))
		c := poolConfig("blue", "round_robin", 4)
		c.Endpoints = append(c.Endpoints, config.Endpoint{Address: "models.example.com:8001", Weight: 4})
		c.SlowStart = 20 * time.Second
		p := NewPool(c, nil, PoolOptions{Resolve: n.lookup})
		p.Start()
		defer p.Stop()
		wait(time.Minute)
		n.answer(nil, "10.0.0.1")
		for !p.endpoints[1].Healthy() {
			wait(time.Millisecond)
		}
		checkRamp(t, "an address", p.endpoints[1], c.SlowStart)
		n.answer(nil, "10.0.0.2")
		wait(11 * time.Second)
		if got := p.endpoints[1].Addrs(); !slices.Equal(got, []Addr{{AddrPort: netip.MustParseAddrPort("10.0.0.2:8001")}}) {
			t.Fatalf("addresses %v", got)
		}
		if w := p.endpoints[1].EffectiveWeight(); w != 4 {
			t.Errorf("effective weight %v after another address, want 4", w)
		}
	})
}

func TestWithoutSlowStartWeightsAreWholeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(4, 4), nil, b.options())
		p.Start()
		defer p.Stop()
		b.set(p.endpoints[0].Address, errors.New("answered 503"))
		wait(time.Minute)
		b.set(p.endpoints[0].Address, nil)
		for !p.endpoints[0].Healthy() {
			wait(time.Millisecond)
		}
		if w := p.endpoints[0].EffectiveWeight(); w != 4 {
			t.Errorf("effective weight %v, want 4", w)
		}
		p.timing.Lock()
		defer p.timing.Unlock()
		if p.tender != nil {
			t.Error("there is a timer although nothing is to come")
		}
	})
}

// TestASlowStartRebuildsTheSelectionFewTimes is why weights grow in steps.
func TestASlowStartRebuildsTheSelectionFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poolConfig("blue", "round_robin", 1)
		c.SlowStart = 20 * time.Second
		p := NewPool(c, nil, PoolOptions{})
		p.Start()
		c.Endpoints = poolConfig("blue", "", 1, 1, 1).Endpoints
		next := NewPool(c, p, PoolOptions{})
		next.Start()
		p.Stop()
		defer next.Stop()
		seen := next.selection.Load()
		rebuilt := 0
		for range 30_000 {
			wait(time.Millisecond)
			if now := next.selection.Load(); now != seen {
				rebuilt, seen = rebuilt+1, now
			}
		}
		if rebuilt != 9 {
			t.Errorf("rebuilt %d times, want 9 for both newcomers together", rebuilt)
		}
	})
}
