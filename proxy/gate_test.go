package proxy

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"weir/config"
)

// followed notes whether it is.
type followed struct{ starts, stops int }

func (*followed) Name() string        { return "followed" }
func (*followed) Fresh() bool         { return true }
func (f *followed) Start(*zap.Logger) { f.starts++ }
func (f *followed) Stop()             { f.stops++ }

// TestSourcesAreFollowedWhileNamed: from the first table that names them to the last.
func TestSourcesAreFollowedWhileNamed(t *testing.T) {
	p, one, two := New(Options{}), &followed{}, &followed{}
	tables := []*table{{}, {sources: map[sourceKey]source{{kind: "a"}: one}}, {sources: map[sourceKey]source{{kind: "a"}: one, {kind: "b"}: two}}, {sources: map[sourceKey]source{{kind: "b"}: two}}, {}}
	want := [][4]int{{1, 0, 0, 0}, {1, 0, 1, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}}
	for i := range want {
		p.followSources(tables[i], tables[i+1])
		if got := [4]int{one.starts, one.stops, two.starts, two.stops}; got != want[i] {
			t.Errorf("after table %d: %v, want %v", i+1, got, want[i])
		}
	}
}

// TestNetworksAgainstALookAtEach compares the search with netip's own answer for each prefix.
func TestNetworksAgainstALookAtEach(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var prefixes []netip.Prefix
		for range rng.IntN(40) {
			a := netip.AddrFrom4([4]byte{10, byte(rng.IntN(3)), byte(rng.IntN(256)), byte(rng.IntN(256))})
			if rng.IntN(3) == 0 {
				b := a.As16()
				b[0], b[15] = 0x20, byte(rng.IntN(4))
				a = netip.AddrFrom16(b)
			}
			prefixes = append(prefixes, netip.PrefixFrom(a, rng.IntN(a.BitLen()+1)|8*rng.IntN(4)&a.BitLen()))
		}
		ranges := newRanges(prefixes)
		for i := 1; i < len(ranges); i++ {
			if ranges[i].first.Compare(ranges[i-1].last) <= 0 {
				t.Fatalf("%v overlap", ranges)
			}
		}
		look := func(a netip.Addr) {
			want := false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := ranges.contain(a); got != want {
				t.Fatalf("%v in %v: %v", a, prefixes, got)
			}
		}
		for _, p := range prefixes {
			for _, a := range []netip.Addr{p.Masked().Addr(), lastOf(p), p.Addr()} {
				look(a)
				if a.Prev().IsValid() {
					look(a.Prev())
				}
				if a.Next().IsValid() {
					look(a.Next())
				}
			}
		}
		for range 50 {
			look(netip.AddrFrom4([4]byte{10, byte(rng.IntN(4)), byte(rng.IntN(256)), byte(rng.IntN(256))}))
		}
	}
}

func BenchmarkNetworks(b *testing.B) {
	for name, n := range map[string]int{"2": 2, "10000": 10000} {
		var prefixes []netip.Prefix
		for i := range n {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 8), byte(i), 2, 0}), 24))
		}
		networks := newNetworks(prefixes, nil)
		a := netip.MustParseAddr("7.7.2.9")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				networks.admit(a)
			}
		})
	}
}

// BenchmarkGate is what a gate costs a request of ten fields that it lets in.
func BenchmarkGate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("acme:0123456789abcdef\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]config.Route{
		"networks": {Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		"key":      {Auth: &config.Auth{APIKey: &config.APIKeyAuth{Header: "X-API-Key", File: path}}},
		"cors":     {CORS: &config.CORS{Origins: []string{"https://app.example.com"}}},
	} {
		g, err := (&table{}).newGate(c, &table{})
		if err != nil {
			b.Fatal(err)
		}
		r := aRequest(b, "/", headerLines(10)+"X-API-Key: 0123456789abcdef\r\nOrigin: https://app.example.com\r\n", nil)
		r.route.gate = g
		var buf []byte
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if k := g.meet(r); k != success {
					b.Fatal(k)
				}
				buf = r.appendCORS(buf[:0])
			}
		})
	}
}
