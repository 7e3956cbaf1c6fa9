package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
	"weir/proxy/enginetest"
)

// TestAReloadKeepsWhatItDoesNotChange: of a thousand routes (two hundred under the race detector) one changes, and only that one is made anew.
func TestAReloadKeepsWhatItDoesNotChange(t *testing.T) {
	l := large{routes: enginetest.Scaled(1000, 200), pools: 100, endpoints: 2, probe: "off"}
	p := New(Options{})
	defer stopPools(p)
	if _, _, err := p.Apply(l.parse(t)); err != nil {
		t.Fatal(err)
	}
	before := p.table.Load()
	l.first = "50"
	_, changes, err := p.Apply(l.parse(t))
	if err != nil || !slices.Equal(changes, []string{"routes.route-0.split.pool-0: 90 → 50"}) {
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
	if _, changes, err = p.Apply(l.parse(t)); err != nil || len(changes) != shownChanges+1 || changes[shownChanges] != fmt.Sprintf("and %d more", l.pools-shownChanges) {
		t.Fatalf("changes %q, %v; want one for each of %d pools, shortened", changes, err, l.pools)
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

// serveLarge serves l, whose first route leads to an endpoint that answers, and returns its versions v1
// and v2: between them every pool changes.
func serveLarge(tb testing.TB, l large) (*Proxy, [2][]byte) {
	tb.Helper()
	endpoint := costEndpoint(tb, costAnswer)
	var texts [2][]byte
	for i := range texts {
		l.version = fmt.Sprint("v", 1+i)
		text := string(l.yaml())
		for _, c := range [][2]string{
			{"    endpoints:\n", "    endpoints: [\"" + endpoint + "\"]\n  spare:\n    endpoints:\n"}, // pool-0's own go to spare
			{"pool-0: 90, pool-1: 10", "pool-0: 1"},
			{"/models/m0}", "/predict}"},
		} {
			text = strings.Replace(text, c[0], c[1], 1)
		}
		texts[i] = []byte(text)
	}
	p := New(Options{})
	reload(tb, p, texts[0])
	served := make(chan error, 1)
	go func() { served <- p.Serve(context.Background()) }()
	tb.Cleanup(func() {
		if err := p.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
		<-served
	})
	return p, texts
}

// reload is what weir does with a changed file.
func reload(tb testing.TB, p *Proxy, text []byte) {
	cfg, err := config.Parse("large.yaml", text)
	if err == nil {
		_, _, err = p.Apply(cfg)
	}
	if err != nil {
		tb.Error(err)
	}
}

// TestReloadsOfALargeConfigurationFailNoRequest: every request is answered while all of a thousand
// pools (two hundred under the race detector) change over and over. roundTrips fails the test on anything else.
func TestReloadsOfALargeConfigurationFailNoRequest(t *testing.T) {
	size := enginetest.Scaled(1000, 200)
	p, texts := serveLarge(t, large{routes: size, pools: size, endpoints: 10, probe: "off"})
	const clients = 4
	reloads := enginetest.Scaled(6, 4) // an even number
	var stop atomic.Bool
	var load sync.WaitGroup
	var answered atomic.Uint64
	for range clients {
		trip := roundTrips(t, p, "{\"prediction\":1}")
		load.Go(func() {
			for !stop.Load() {
				trip()
				answered.Add(1)
			}
		})
	}
	for i := range reloads {
		reload(t, p, texts[(i+1)%2])
	}
	stop.Store(true)
	load.Wait()
	v := p.table.Load().routes[0].variants[0]
	if counted := v.live.requests.Load(); v.version != "v1" || counted != answered.Load() || v.live.errors.Load() != 0 {
		t.Errorf("version %s after %d reloads; %d answered, counted %d with %d errors", v.version, reloads, answered.Load(), counted, v.live.errors.Load())
	}
}

// BenchmarkLatencyUnderReloads compares what one client sees in peace and while a file of a thousand
// routes, all of whose pools change, is read and applied five times a second.
func BenchmarkLatencyUnderReloads(b *testing.B) {
	p, texts := serveLarge(b, large{routes: 1000, pools: 1000, endpoints: 10, probe: "off"})
	for _, name := range []string{"quiet", "reloading"} {
		b.Run(name, func(b *testing.B) {
			ctx, stop := context.WithCancel(context.Background())
			var reloading sync.WaitGroup
			reloading.Go(func() {
				t := time.NewTicker(200 * time.Millisecond)
				defer t.Stop()
				for i := 1; name == "reloading"; i++ {
					select {
					case <-ctx.Done():
						return
					case <-t.C:
						reload(b, p, texts[i%2])
					}
				}
			})
			trip := roundTrips(b, p, "{\"prediction\":1}")
			trip()
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				trip()
				took = append(took, time.Since(start))
			}
			stop()
			reloading.Wait()
			slices.Sort(took)
			for _, q := range []struct {
				name  string
				share float64
			}{{"p50-µs", 0.5}, {"p99-µs", 0.99}, {"p99.9-µs", 0.999}} {
				b.ReportMetric(float64(took[int(q.share*float64(len(took)-1))].Nanoseconds())/1e3, q.name)
			}
		})
	}
}
