package balancer

import (
	"slices"
	"sync"
	"testing"
	"time"
)

func TestPoolWithoutAUsableEndpoint(t *testing.T) {
	p := testPool("round_robin", 1, 1, 0)
	if !p.Usable() {
		t.Error("not usable with two healthy endpoints")
	}
	setDown(p, 0, true)
	setDown(p, 1, true)
	if p.Usable() {
		t.Error("usable with only an endpoint of weight 0")
	}
	if e := p.Pick(nil); e != nil {
		t.Errorf("picked %s, want nil", e.Address)
	}
	setDown(p, 1, false)
	if e := p.Pick(p.endpoints); e != p.endpoints[1] {
		t.Errorf("picked %v, want the only usable one although it was tried", e)
	}
}

func TestEffectiveWeight(t *testing.T) {
	p := testPool("round_robin", 3)
	e := p.Endpoints()[0]
	if e.Weight() != 3 || e.EffectiveWeight() != 3 {
		t.Errorf("weight %v, effective %v; want 3, 3", e.Weight(), e.EffectiveWeight())
	}
	setDown(p, 0, true)
	if e.Weight() != 3 || e.EffectiveWeight() != 0 {
		t.Errorf("unhealthy: weight %v, effective %v; want 3, 0", e.Weight(), e.EffectiveWeight())
	}
}

func TestReloadKeepsWhatIsKnownOfAnEndpoint(t *testing.T) {
	made := 0
	options := PoolOptions{NewTransport: func(e *Endpoint) any { made++; return e.Pool + "/" + e.Address }}
	old := NewPool(poolConfig("blue", "round_robin", 1, 1), nil, options)
	old.Start()
	running := old.Pick(nil)
	old.Pick(nil).Done(Status, time.Millisecond)
	setDown(old, 1, true)

	next := NewPool(poolConfig("blue", "least_request", 1, 1, 1), old, options)
	if !slices.Equal(next.endpoints[:2], old.endpoints) {
		t.Fatal("the endpoints of the same addresses are not the same")
	}
	if made != 3 || next.endpoints[2].Transport != "blue/127.0.0.1:8003" {
		t.Errorf("%d transports made, the third is %v", made, next.endpoints[2].Transport)
	}
	if next.endpoints[0].Inflight() != 1 || next.endpoints[1].Errors() != 1 || next.endpoints[1].Healthy() {
		t.Error("in flight, errors or health were lost")
	}
	for range 10 {
		if e := next.Pick(nil); e == next.endpoints[1] {
			t.Fatal("the unhealthy endpoint was picked")
		}
	}
	next.Start()
	old.Stop()
	running.Done(Success, time.Millisecond)
	if got := next.endpoints[0].Requests(); got != 1 {
		t.Errorf("%d requests on the endpoint, want that of before the reload", got)
	}
	next.Stop()
}

func TestAnotherPoolOfTheSameAddressIsAnotherEndpoint(t *testing.T) {
	blue := testPool("round_robin", 1)
	green := NewPool(poolConfig("green", "round_robin", 1), blue, PoolOptions{})
	if green.endpoints[0] == blue.endpoints[0] {
		t.Error("pool green took over an endpoint of pool blue")
	}
}

func TestWeightsOfTheNextPoolHoldFromItsStart(t *testing.T) {
	old := testPool("round_robin", 1, 1)
	old.Start()
	next := NewPool(poolConfig("blue", "round_robin", 3, 0), old, PoolOptions{})
	if got := shares(old, 10); !slices.Equal(got, []int{5, 5}) {
		t.Errorf("the pool in force picks %v of 10, want its own weights 1:1", got)
	}
	if w := old.endpoints[0].Weight(); w != 1 {
		t.Errorf("weight %v shown before Start, want 1", w)
	}
	if got := shares(next, 10); !slices.Equal(got, []int{10, 0}) {
		t.Errorf("the next pool picks %v of 10, want its own weights 3:0", got)
	}
	next.Start()
	old.Stop()
	if got := shares(old, 10); !slices.Equal(got, []int{5, 5}) {
		t.Errorf("the replaced pool picks %v of 10 for its last requests, want its own weights", got)
	}
	if w := old.endpoints[0].Weight(); w != 3 {
		t.Errorf("weight %v shown after Start, want 3", w)
	}
	next.Stop()
}

func TestReloadsInTheMiddleOfRequestsLoseNothing(t *testing.T) {
	const workers, each, reloads = 4, 1000, 50
	var (
		mu      sync.Mutex
		pool    = testPool("least_request", 1, 1, 1)
		load    sync.WaitGroup
		current = func() *Pool { mu.Lock(); defer mu.Unlock(); return pool }
	)
	pool.Start()
	for range workers {
		load.Go(func() {
			for range each {
				first := current().Pick(nil)
				second := current().Pick([]*Endpoint{first})
				first.Done(Connect, 0)
				second.Done(Success, 0)
			}
		})
	}
	for i := range reloads {
		next := NewPool(poolConfig("blue", []string{"round_robin", "least_request"}[i%2], 1, float64(i%3), 1), current(), PoolOptions{})
		next.Start()
		mu.Lock()
		old := pool
		pool = next
		mu.Unlock()
		old.Stop()
	}
	load.Wait()
	defer pool.Stop()
	var ended uint64
	for _, e := range pool.Endpoints() {
		ended += e.Requests()
		if n := e.Inflight(); n != 0 {
			t.Errorf("%s has %d in flight after all ended", e.Address, n)
		}
	}
	if ended != 2*workers*each {
		t.Errorf("%d attempts counted over the reloads, want %d", ended, 2*workers*each)
	}
}

func TestStopWithoutStart(t *testing.T) {
	p := testPool("random", 1)
	p.Stop()
	p.Start()
	p.Stop()
	p.Stop()
}
