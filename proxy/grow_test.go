package proxy

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestAReloadKeepsWhatItDoesNotChange: of a thousand routes one changes, and only that one is made anew.
func TestAReloadKeepsWhatItDoesNotChange(t *testing.T) {
	l := large{routes: 1000, pools: 100, endpoints: 2, probe: "off"}
	p := New(Options{})
	defer stopPools(p)
	if _, _, err := p.Apply(l.parse(t)); err != nil {
		t.Fatal(err)
	}
	before := p.table.Load()
	l.first = "50"
	_, changes, err := p.Apply(l.parse(t))
	if err != nil || !slices.Equal(changes, []string{"route route-0 changed"}) {
		t.Fatalf("changes %q, %v", changes, err)
	}
	after := p.table.Load()
	if !slices.Equal(after.pools, before.pools) || !slices.Equal(after.routes[1:], before.routes[1:]) || after.routes[0] == before.routes[0] {
		t.Error("more than the changed route was made anew")
	}
	if len(after.live) != len(before.live) || len(after.live) != 3*l.routes {
		t.Errorf("figures of %d variants before, of %d after; want %d", len(before.live), len(after.live), 3*l.routes)
	}

	l.version = "v2"
	if _, changes, err = p.Apply(l.parse(t)); err != nil || len(changes) != l.pools {
		t.Fatalf("%d changes, %v; want one for each pool", len(changes), err)
	}
	last := p.table.Load()
	for i, r := range last.routes {
		if r.generation != after.routes[i].generation || r.variants[0].version != "v2" || r.variants[0].live != after.routes[i].variants[0].live {
			t.Fatalf("route %d over changed pools: generation %d, version %q; want %d, v2 and the same figures", i, r.generation, r.variants[0].version, after.routes[i].generation)
		}
	}
}

// TestNamesOfAllPoolsAreAskedAtOnce: a slow name server holds a start up once, not once for each pool.
func TestNamesOfAllPoolsAreAskedAtOnce(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	met := make(chan struct{})
	go func() { both.Wait(); close(met) }()
	p := New(Options{Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
		both.Done()
		select {
		case <-met:
		case <-time.After(4 * time.Second):
			t.Errorf("%s is asked for alone", host)
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}})
	defer stopPools(p)
	if _, _, err := p.Apply(twoPools{blue: "blue.example:80", green: "green.example:80", split: "blue: 1, green: 0"}.parse(t)); err != nil {
		t.Fatal(err)
	}
}
