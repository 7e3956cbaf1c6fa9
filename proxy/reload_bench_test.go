package proxy

import (
	"fmt"
	"strings"
	"testing"

	"weir/config"
)

// large describes a configuration as a benchmark needs it: many routes over many pools.
type large struct {
	routes, pools, endpoints int    // endpoints of each pool
	probe                    string // "off", or a mapping
	top                      string // top-level lines
	version                  string // of every pool
	first                    string // weight of the first route's first variant, "" for 90
}

// yaml writes it. Route i is a prefix of its own, with two variants where there are two pools.
func (l large) yaml() []byte {
	var b strings.Builder
	b.WriteString("listeners: [{address: \"127.0.0.1:0\"}]\n" + l.top + "pools:\n")
	for i := range l.pools {
		fmt.Fprintf(&b, "  pool-%d:\n    version: %q\n    probe: %s\n    endpoints:\n", i, l.version, l.probe)
		for k := range l.endpoints {
			fmt.Fprintf(&b, "      - \"127.%d.%d.%d:%d\"\n", 1+i/250, i%250, 1+k, 8001)
		}
	}
	b.WriteString("routes:\n")
	for i := range l.routes {
		weight := "90"
		if i == 0 && l.first != "" {
			weight = l.first
		}
		fmt.Fprintf(&b, "  - name: route-%d\n    match: {path_prefix: /models/m%d}\n    split: {pool-%d: %s, pool-%d: 10}\n    affinity: {key: \"header:X-User-ID\"}\n",
			i, i, i%l.pools, weight, (i+1)%l.pools)
	}
	return []byte(b.String())
}

func (l large) parse(tb testing.TB) *config.Config {
	tb.Helper()
	cfg, err := config.Parse("large.yaml", l.yaml())
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

func shapes() map[string]large {
	return map[string]large{
		"1000_pools": {routes: 1000, pools: 1000, endpoints: 10, probe: "off"},
		"100_pools":  {routes: 1000, pools: 100, endpoints: 10, probe: "off"},
		"10_routes":  {routes: 10, pools: 10, endpoints: 10, probe: "off"},
		"probed":     {routes: 1000, pools: 1000, endpoints: 10, probe: "{interval: 60s}"},
	}
}

// stopPools ends what Apply started, for a proxy that never serves.
func stopPools(p *Proxy) {
	for _, l := range *p.listeners.Load() {
		l.closeAddress()
	}
	for _, pl := range p.table.Load().pools {
		pl.Stop()
	}
}

func BenchmarkApply(b *testing.B) {
	for name, l := range shapes() {
		b.Run(name+"/first", func(b *testing.B) {
			cfg := l.parse(b)
			b.ReportAllocs()
			for b.Loop() {
				p := New(Options{})
				if _, _, err := p.Apply(cfg); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				stopPools(p)
				b.StartTimer()
			}
		})
		all, one, section := l, l, l
		all.version = "v2"
		one.first = "50"
		section.top = "trusted_proxies: [10.0.0.0/8]\n"
		for _, c := range []struct {
			name string
			next large
		}{{"same", l}, {"section", section}, {"one_route", one}, {"all_pools", all}} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				p := New(Options{})
				defer stopPools(p)
				cfgs := [2]*config.Config{l.parse(b), c.next.parse(b)}
				if _, _, err := p.Apply(cfgs[0]); err != nil {
					b.Fatal(err)
				}
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					if _, _, err := p.Apply(cfgs[i%2]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(name+"/set_weights", func(b *testing.B) {
			p := New(Options{})
			defer stopPools(p)
			if _, _, err := p.Apply(l.parse(b)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0.0
			for b.Loop() {
				i++
				if _, err := setWeights(p, "route-7", map[string]float64{"pool-7": i, "pool-8": 10}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/check", func(b *testing.B) {
			cfg := l.parse(b)
			b.ReportAllocs()
			for b.Loop() {
				if err := Check(cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parse", func(b *testing.B) {
			data := l.yaml()
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := config.Parse("large.yaml", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
