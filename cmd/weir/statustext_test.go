package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/enginetest"
)

func TestStatusText(t *testing.T) {
	var out strings.Builder
	v := exampleView()
	v.write(&out)
	wantText(t, "status.txt", out.String())
	out.Reset()
	v.colours = true
	v.write(&out)
	if !strings.Contains(out.String(), "\x1b[31mdegraded\x1b[0m") {
		t.Errorf("no colour: %q", out.String())
	}
}

// hardStatus has what is longest: names that differ in a letter, numbers, a regular expression.
func hardStatus() proxy.Status {
	s := exampleStatus()
	ms := 123456.0
	long := strings.Repeat("fashion-classifier-", 3)
	route := proxy.RouteStatus{
		Name: strings.Repeat("route-", 10) + "1", Match: `models.internal.example.com ~^/v[0-9]+/(predict|explain)/` + strings.Repeat("[a-z]", 12) + "$ X-Tenant=acme POST",
		Ramp: &proxy.RampStatus{To: []state.Weight{{Pool: long + "v1"}, {Pool: long + "v2", Weight: 100}}, By: "ops 2001:db8::1", Reason: strings.Repeat("why ", 30)},
	}
	pool := proxy.PoolStatus{Name: long + "v1", Policy: "least_request", Draining: true, Inflight: 12345}
	for i, version := range []string{"", "v1", "v0.0.0-20260304150405-0123456789ab+dirty"} {
		route.Variants = append(route.Variants, proxy.VariantStatus{
			Pool: fmt.Sprint(long, "v", i+1), Version: version, Weight: 33.333333333, Share: 1, Requests: 1 << 62, Errors: 1 << 40, P50: &ms, P95: &ms, P99: &ms,
			Streams: 12345, FirstByteP50: &ms, FirstByteP95: &ms, FirstByteP99: &ms,
		})
	}
	for _, address := range []string{
		"[2001:db8:85a3:8d3:1319:8a2e:370:7348]:8001", "[2001:db8:85a3:8d3:1319:8a2e:370:7349]:8001",
		"fashion-classifier-v2-0.fashion-classifier-v2.models.svc.cluster.local:8001", strings.Repeat("a.", 100) + "example.com:8001", "größe.模型.example:8001",
	} {
		pool.Endpoints = append(pool.Endpoints, proxy.EndpointStatus{
			Address: address, Weight: 1e9, EffectiveWeight: 0.123456789, Inflight: 12345678, Connections: 12345, Requests: 1 << 62, Errors: 1 << 40,
			Probe: strings.Repeat("/health/ready answered 503 ", 5), Load: exampleLoad(),
		})
	}
	s.Version = "v0.0.0-20260304150405-0123456789ab+dirty"
	s.Routes, s.Pools = append(s.Routes, route), append(s.Pools, pool)
	s.Reasons = append(s.Reasons, strings.Repeat("a long reason ", 10))
	return s
}

// TestStatusFits holds every line to the width of the terminal, to the same text with colours as without, and
// at 80 columns and more to all that there is to say.
func TestStatusFits(t *testing.T) {
	paint := regexp.MustCompile("\x1b\\[[0-9]*m")
	words := func(s string) string { return strings.Join(strings.Fields(s), "") }
	for _, s := range []proxy.Status{exampleStatus(), hardStatus(), {}} {
		for width := 1; width < 250; width += enginetest.Scaled(1, 9) {
			v := exampleView()
			v.Status, v.width = s, width
			var plain, painted strings.Builder
			v.write(&plain)
			v.colours = true
			if v.write(&painted); paint.ReplaceAllString(painted.String(), "") != plain.String() {
				t.Errorf("width %d: with colours\n%s\nwithout\n%s", width, painted.String(), plain.String())
			}
			for line := range strings.Lines(plain.String()) {
				if n := cells(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("width %d: %d columns: %s", width, n, line)
				}
			}
			if width < plainWidth {
				continue
			}
			all := words(plain.String())
			if strings.Contains(all, "…") {
				t.Errorf("width %d: cut off:\n%s", width, plain.String())
			}
			for _, r := range s.Routes {
				for _, variant := range r.Variants {
					if !strings.Contains(all, words(r.Name+r.Match)) || !strings.Contains(all, variant.Pool+variant.Version) {
						t.Errorf("width %d: no %s %s %s %s in\n%s", width, r.Name, r.Match, variant.Pool, variant.Version, plain.String())
					}
				}
			}
			for _, p := range s.Pools {
				for _, e := range p.Endpoints {
					state, _ := endpointState(e)
					if !strings.Contains(all, p.Name+p.Policy) || !strings.Contains(all, e.Address+state) || !strings.Contains(all, words(e.Probe)) {
						t.Errorf("width %d: no %s %s in\n%s", width, p.Name, e.Address, plain.String())
					}
				}
			}
		}
	}
}

// TestLastChangeIsShort: a reload of a thousand routes leaves the state in view.
func TestLastChangeIsShort(t *testing.T) {
	v := exampleView()
	for i := range 1000 {
		v.last.Routes = append(v.last.Routes, state.RouteChange{Route: fmt.Sprint("route-", i), After: []state.Weight{{Pool: "blue", Weight: 1}}})
	}
	var out strings.Builder
	v.write(&out)
	for _, text := range []string{out.String(), strings.Join(v.live(), "\n") + "\n"} {
		if n := strings.Count(text, "\n"); n > 45 || !strings.HasSuffix(text, "\n  … (\"weir history -n 1\" shows all)\n") {
			t.Errorf("%d lines:\n%s", n, text)
		}
	}
}

func TestNumbersThatFit(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999999: "999999", 1000000: "1.00M", 12345678: "12.3M", 999600000: "1.00G", 1 << 63: "9.22E"} {
		if got := count(n, 6); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	for f, want := range map[float64]string{0: "0", 99.5: "99.5", 1e9: "1e+09", 33.33333333: "33.3333", 0.000012345: "1.2e-05", 1234567.5: "1.2e+06"} {
		if got := weight(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

func TestDiscoveryLine(t *testing.T) {
	if text, colour := discoveryLine(&proxy.DiscoveryStatus{DNS: "ml-api:8000", Found: 3}); text != "3 endpoints found at ml-api:8000" || colour != "" {
		t.Errorf("%s (%s)", text, colour)
	}
	text, colour := discoveryLine(&proxy.DiscoveryStatus{DNS: "ml-api:8000", Found: 1, Error: "no such host"})
	if text != "1 endpoint found at ml-api:8000; the last look-up failed: no such host" || colour != red {
		t.Errorf("%s (%s)", text, colour)
	}
}
