package balancer

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func TestADrainingEndpointFinishesAndGetsNothingNew(t *testing.T) {
	for _, policy := range config.Policies() {
		t.Run(policy, func(t *testing.T) {
			p := testPool(policy, 1, 2, 3)
			e := p.endpoints[1]
			running := p.Pick([]*Endpoint{p.endpoints[0], p.endpoints[2]})
			if running != e || !p.DrainEndpoint(e.Address, true) {
				t.Fatal("the second endpoint was not picked, or not found")
			}
			if counts := shares(p, 200); counts[1] != 0 {
				t.Errorf("picked %v while the second drains", counts)
			}
			if got := p.Pick([]*Endpoint{p.endpoints[0], p.endpoints[2]}); got == e {
				t.Error("a retry was sent to it when all others were tried")
			} else {
				got.Done(Success, 0)
			}
			if !e.Draining() || !e.DrainsItself() || p.Draining() || e.Usable() || !e.Healthy() {
				t.Errorf("endpoint draining %v, by itself %v, pool draining %v, usable %v, healthy %v; want true, true, false, false, true",
					e.Draining(), e.DrainsItself(), p.Draining(), e.Usable(), e.Healthy())
			}
			if e.Weight() != 2 || e.EffectiveWeight() != 0 {
				t.Errorf("weight %v, effective %v; want 2, 0", e.Weight(), e.EffectiveWeight())
			}
			if got := p.UsableEndpoints(); !slices.Equal(got, []*Endpoint{p.endpoints[0], p.endpoints[2]}) {
				t.Errorf("%d usable endpoints, want the first and the third", len(got))
			}
			if p.Inflight() != 1 {
				t.Errorf("%d in flight, want the one that runs", p.Inflight())
			}
			running.Done(Success, 0)
			if p.Inflight() != 0 {
				t.Errorf("%d in flight after it ended", p.Inflight())
			}
			p.DrainEndpoint(e.Address, false)
			if counts := shares(p, 200); counts[1] == 0 || e.EffectiveWeight() != 2 {
				t.Errorf("picked %v after the drain, effective weight %v", counts, e.EffectiveWeight())
			}
		})
	}
}

func TestDrainingAnUnknownEndpoint(t *testing.T) {
	p := testPool("random", 1)
	if p.DrainEndpoint("127.0.0.1:9999", true) {
		t.Error("an endpoint that the pool does not have was found")
	}
	if !p.Usable() {
		t.Error("it drained another")
	}
}

func TestADrainingPoolIsNotUsable(t *testing.T) {
	p := testPool("round_robin", 1, 1)
	a, b := p.endpoints[0], p.endpoints[1]
	p.DrainEndpoint(b.Address, true)
	p.Drain(true)
	if p.Usable() || p.Pick(nil) != nil || p.UsableEndpoints() != nil {
		t.Error("a draining pool is usable")
	}
	if !p.Draining() || !a.Draining() || a.DrainsItself() || !b.DrainsItself() || a.EffectiveWeight() != 0 {
		t.Errorf("pool draining %v; first: draining %v, by itself %v, effective weight %v; second by itself: %v",
			p.Draining(), a.Draining(), a.DrainsItself(), a.EffectiveWeight(), b.DrainsItself())
	}
	p.DrainEndpoint(a.Address, false)
	if p.Usable() {
		t.Error("an endpoint of a draining pool came back before the pool did")
	}
	p.Drain(false)
	if got := shares(p, 10); !slices.Equal(got, []int{10, 0}) || p.Draining() || a.Draining() {
		t.Errorf("picked %v after the pool's drain, want only the one that does not drain by itself", got)
	}
}

func TestAPoolOfDrainingEndpointsDoesNotDrainItself(t *testing.T) {
	p := testPool("round_robin", 1)
	p.DrainEndpoint(p.endpoints[0].Address, true)
	if p.Usable() || p.Draining() {
		t.Errorf("usable %v, draining %v; want neither", p.Usable(), p.Draining())
	}
}

func TestDrainsSurviveReloads(t *testing.T) {
	first := testPool("round_robin", 1, 1, 1)
	first.DrainEndpoint(first.endpoints[1].Address, true)
	second := NewPool(poolConfig("blue", "least_request", 1, 1), first, PoolOptions{})
	if counts := shares(second, 10); counts[1] != 0 {
		t.Errorf("picked %v after a reload, want nothing of the second", counts)
	}
	second.Drain(true)
	third := NewPool(poolConfig("blue", "random", 1, 1, 1, 1), second, PoolOptions{})
	if third.Usable() || !third.Draining() {
		t.Error("the pool's drain was lost in a reload")
	}
	if e := third.endpoints[3]; !e.Draining() || e.DrainsItself() {
		t.Error("an endpoint that came with the reload does not drain with its pool")
	}
	if other := NewPool(poolConfig("green", "random", 1), third, PoolOptions{}); other.Draining() || !other.Usable() {
		t.Error("a pool of another name took the drain over")
	}
	third.Drain(false)
	if counts := shares(third, 1000); counts[1] != 0 || counts[2] == 0 {
		t.Errorf("picked %v, want all but the second, which still drains by itself", counts)
	}
}

// TestADrainWhileTheNextPoolIsPrepared is a drain through the API while a reload looks names up.
func TestADrainWhileTheNextPoolIsPrepared(t *testing.T) {
	changes := map[string]func(p *Pool, draining bool){
		"pool":     (*Pool).Drain,
		"endpoint": func(p *Pool, draining bool) { p.DrainEndpoint(p.endpoints[0].Address, draining) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			old := testPool("round_robin", 1)
			old.Start()
			for _, draining := range []bool{true, false} {
				next := NewPool(poolConfig("blue", "round_robin", 2), old, PoolOptions{})
				change(old, draining)
				if old.Usable() == draining {
					t.Errorf("draining %v: the pool in force is usable %v", draining, old.Usable())
				}
				next.Start()
				old.Stop()
				if next.Usable() == draining || next.endpoints[0].Draining() != draining {
					t.Errorf("draining %v: lost when the next pool started", draining)
				}
				old = next
			}
			// One who still holds the old pool reaches the one in force, too.
			next := NewPool(poolConfig("blue", "round_robin", 2), old, PoolOptions{})
			next.Start()
			old.Stop()
			change(old, true)
			if next.Usable() {
				t.Error("a drain of the replaced pool did not reach the one in force")
			}
			next.Stop()
		})
	}
}

// TestAnotherSetWhileThePoolDrains has no endpoint in common with the pool before.
func TestAnotherSetWhileThePoolDrains(t *testing.T) {
	old := testPool("round_robin", 1)
	old.Start()
	c := poolConfig("blue", "round_robin", 1, 1)
	c.Endpoints = c.Endpoints[1:]
	next := NewPool(c, old, PoolOptions{})
	next.Start()
	old.Stop()
	old.Drain(true)
	if next.Usable() {
		t.Error("the pool in force does not drain")
	}
	next.Stop()
}

func TestDrainsAndStartsAtTheSameTime(t *testing.T) {
	pool := testPool("least_request", 1, 1)
	pool.Start()
	for i := range 200 {
		next := NewPool(poolConfig("blue", "least_request", 1, float64(1+i%2)), pool, PoolOptions{})
		draining := i%2 == 0
		var both sync.WaitGroup
		both.Go(next.Start)
		both.Go(func() { pool.Drain(draining) })
		both.Wait()
		if next.Usable() == draining {
			t.Fatalf("round %d: draining %v, usable %v", i, draining, next.Usable())
		}
		pool.Stop()
		pool = next
	}
	pool.Stop()
}

func TestProbesGoOnWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		p := NewPool(probedConfig(1, 1), nil, b.options())
		p.Start()
		defer p.Stop()
		p.Drain(true)
		e := p.endpoints[0]
		wait(time.Minute)
		if !e.Healthy() || p.Usable() {
			t.Errorf("healthy %v, pool usable %v; want what the probes say, and not", e.Healthy(), p.Usable())
		}
		b.set(e.Address, errors.New("answered 503"))
		wait(time.Minute)
		if e.Healthy() || p.endpoints[1].Usable() {
			t.Error("the probes of a draining endpoint do not count, or a failure revived the other")
		}
		p.Drain(false)
		if got := shares(p, 4); !slices.Equal(got, []int{0, 4}) {
			t.Errorf("picked %v after the drain, want only the healthy one", got)
		}
	})
}
