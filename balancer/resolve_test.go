package balancer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

// names is a name server. It knows no name until told.
type names struct {
	mu    sync.Mutex
	ips   []string
	err   error
	hang  bool
	asked []time.Time
}

func (n *names) answer(err error, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ips, n.err = ips, err
}

func (n *names) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked = append(n.asked, time.Now())
	ips, err, hang := n.ips, n.err, n.hang
	n.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var out []netip.Addr
	for _, ip := range ips {
		out = append(out, netip.MustParseAddr(ip))
	}
	return out, err
}

// count returns how many lookups came.
func (n *names) count() int { return len(n.gaps()) + 1 }

// gaps returns the times between lookups.
func (n *names) gaps() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []time.Duration
	for i := 1; i < len(n.asked); i++ {
		out = append(out, n.asked[i].Sub(n.asked[i-1]))
	}
	return out
}

// namedPool returns a pool of one endpoint by name, and its log.
func namedPool(n *names, log *backend) *Pool {
	c := config.Pool{Name: "blue", Policy: "round_robin", Endpoints: []config.Endpoint{{Address: "models:8001", Weight: 1}}}
	return NewPool(c, nil, PoolOptions{Resolve: n.lookup, Log: log.logf})
}

func addrsOf(p *Pool) string {
	var out []string
	for _, a := range p.endpoints[0].Addrs() {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func TestResolveKeepsAllAddressesInTheirOrder(t *testing.T) {
	var n names
	n.answer(nil, "::1", "::ffff:127.0.0.1", "127.0.0.1", "127.0.0.2")
	p := namedPool(&n, &backend{})
	if p.Usable() {
		t.Error("usable before its name is resolved")
	}
	if err := p.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := addrsOf(p), "[::1]:8001 127.0.0.1:8001 127.0.0.2:8001"; got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	if !p.Usable() || p.Pick(nil) == nil {
		t.Error("not usable after its name was resolved")
	}
}

func TestANameThatNeverResolvedIsNotUsable(t *testing.T) {
	var n names
	n.answer(errors.New("lookup models: no such host"))
	c := config.Pool{Name: "blue", Policy: "round_robin", Endpoints: []config.Endpoint{
		{Address: "models:8001", Weight: 1}, {Address: "127.0.0.1:8001", Weight: 1},
	}}
	p := NewPool(c, nil, PoolOptions{Resolve: n.lookup})
	err := p.Resolve(t.Context())
	want := "endpoint models:8001 of pool blue has no address yet: lookup models: no such host"
	if err == nil || err.Error() != want {
		t.Errorf("Resolve: %v, want %s", err, want)
	}
	e := p.endpoints[0]
	if e.Usable() || e.Healthy() || e.Addrs() != nil || e.ResolveError() != "lookup models: no such host" {
		t.Errorf("usable %v, healthy %v, addresses %v, error %q", e.Usable(), e.Healthy(), e.Addrs(), e.ResolveError())
	}
	for range 4 {
		if p.Pick(nil) != p.endpoints[1] {
			t.Fatal("an endpoint without an address was picked")
		}
	}
}

func TestResolveIsBoundedByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{hang: true}
		p := namedPool(&n, &backend{})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		if err := p.Resolve(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Resolve: %v, want the deadline", err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
	})
}

func TestTheLastGoodAnswerIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		var log backend
		n.answer(nil, "10.0.0.1")
		p := namedPool(&n, &log)
		if err := p.Resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Start()
		defer p.Stop()
		for _, bad := range []func(){
			func() { n.answer(errors.New("lookup models: no such host")) },
			func() { n.answer(nil) }, // an empty answer
		} {
			bad()
			wait(time.Minute)
			if got := addrsOf(p); got != "10.0.0.1:8001" || !p.Usable() {
				t.Errorf("addresses %q, usable %v; want the last good ones", got, p.Usable())
			}
		}
		n.answer(nil, "10.0.0.2")
		wait(12 * time.Second)
		if got := addrsOf(p); got != "10.0.0.2:8001" {
			t.Errorf("addresses %q, want the new ones", got)
		}
		want := []string{
			"endpoint models:8001 of pool blue resolves to [10.0.0.1:8001]",
			"endpoint models:8001 of pool blue: its name cannot be resolved, its last addresses stay in use: lookup models: no such host",
			"endpoint models:8001 of pool blue resolves to [10.0.0.2:8001]",
		}
		if got := log.lines(); !slices.Equal(got, want) {
			t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestLookupsComeEveryTenSecondsAndBackOffToThatOnFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		n.answer(errors.New("server misbehaving"))
		p := namedPool(&n, &backend{})
		p.Start()
		wait(2 * time.Minute)
		p.Stop()
		gaps := n.gaps()
		for i, want := range []time.Duration{1, 2, 4, 8, 10, 10, 10} {
			if off := gaps[i] - want*time.Second; off < -want*time.Second/10 || off > want*time.Second/10 {
				t.Errorf("failure %d: the next lookup came after %v, want %ds ± 10 %%", i+1, gaps[i], want)
			}
		}

		n = names{ips: []string{"10.0.0.1"}}
		p = namedPool(&n, &backend{})
		p.Start()
		wait(2 * time.Minute)
		p.Stop()
		for _, gap := range n.gaps() {
			if gap < 9*time.Second || gap > 11*time.Second {
				t.Errorf("lookups %v apart, want 10s ± 10 %%", gap)
			}
		}
	})
}

func TestANameThatResolvesLaterIsProbedAndUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		var b backend
		n.answer(errors.New("lookup models: no such host"))
		c := probedConfig()
		c.Endpoints = []config.Endpoint{{Address: "models:8001", Weight: 1}}
		options := b.options()
		options.Resolve = n.lookup
		p := NewPool(c, nil, options)
		p.Start()
		defer p.Stop()
		wait(30 * time.Second)
		if p.Usable() || len(b.times(time.Now())) != 0 {
			t.Error("an endpoint without an address was usable or probed")
		}
		b.set("10.0.0.1:8001", errors.New("connection refused"))
		n.answer(nil, "10.0.0.1")
		wait(12 * time.Second)
		if p.Usable() || p.endpoints[0].ProbeError() != "connection refused" {
			t.Errorf("usable %v, probe error %q; want it probed as soon as it has an address", p.Usable(), p.endpoints[0].ProbeError())
		}
		b.set("10.0.0.1:8001", nil)
		wait(12 * time.Second)
		if !p.Usable() {
			t.Error("not usable although it answers")
		}
	})
}

func TestARotatedAnswerIsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		var changes int
		c := config.Pool{Name: "blue", Policy: "random", Endpoints: []config.Endpoint{{Address: "models:8001", Weight: 1}}}
		n.answer(nil, "10.0.0.1", "10.0.0.2")
		p := NewPool(c, nil, PoolOptions{Resolve: n.lookup, Changed: func(*Pool) { changes++ }})
		p.Start()
		defer p.Stop()
		synctest.Wait()
		n.answer(nil, "10.0.0.2", "10.0.0.1")
		wait(time.Minute)
		if got := addrsOf(p); changes != 1 || got != "10.0.0.1:8001 10.0.0.2:8001" {
			t.Errorf("%d changes, addresses %s; want one change and the first order", changes, got)
		}
	})
}

func TestReloadsKeepAddressesAndDoNotAskMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n names
		n.answer(nil, "10.0.0.1")
		p := namedPool(&n, &backend{})
		if err := p.Resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Start()
		for range 50 {
			wait(100 * time.Millisecond)
			next := NewPool(p.Config(), p, p.options)
			if err := next.Resolve(t.Context()); err != nil {
				t.Fatal(err)
			}
			next.Start()
			p.Stop()
			p = next
		}
		if n.count() != 1 || addrsOf(p) != "10.0.0.1:8001" {
			t.Errorf("%d lookups over 50 reloads in 5 s, addresses %q; want 1", n.count(), addrsOf(p))
		}
		wait(7 * time.Second)
		if n.count() != 2 {
			t.Errorf("%d lookups after 12 s, want 2", n.count())
		}
		p.Stop()
	})
}

func TestALookupGivenUpByStopCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{hang: true}
		var log backend
		p := namedPool(&n, &log)
		p.Start()
		synctest.Wait()
		p.Stop()
		if lines := log.lines(); len(lines) != 0 || p.endpoints[0].ResolveError() != "" {
			t.Errorf("logged %q, error %q after a lookup that never ended", lines, p.endpoints[0].ResolveError())
		}
	})
}

func TestASlowLookupIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := names{hang: true}
		p := namedPool(&n, &backend{})
		p.Start()
		defer p.Stop()
		wait(resolveTimeout + time.Millisecond)
		if got, want := p.endpoints[0].ResolveError(), context.DeadlineExceeded.Error(); got != want {
			t.Errorf("ResolveError = %q, want %q", got, want)
		}
	})
}
