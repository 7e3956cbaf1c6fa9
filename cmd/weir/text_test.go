package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/internal/state"
	"weir/proxy"
)

// exampleNow is the time of all examples, in no zone of the machine's.
func exampleNow() time.Time {
	return time.Date(2026, 3, 4, 15, 4, 5, 0, time.FixedZone("", 2*60*60))
}

func exampleStatus() proxy.Status {
	ms := func(v float64) *float64 { return &v }
	return proxy.Status{
		Version: "v1.2.3", Generation: 7, Uptime: 7384.2, Degraded: true, Connections: 1,
		Reasons: []string{"pool green: endpoint 127.0.0.1:8003 is not healthy: /health/ready answered 404"},
		Routes: []proxy.RouteStatus{
			{
				Name: "predict", Match: "/predict POST", Generation: 7, Overlay: true,
				Variants: []proxy.VariantStatus{
					{
						Pool: "blue", Version: "v1.0.0", Weight: 99.5, Share: 0.99478, Usable: true, Requests: 123456, Errors: 2,
						P50: ms(1.24), P95: ms(3.5), P99: ms(12),
						Recent: proxy.Recent{Seconds: 12, Rate: 1234.5, Errors: 1.25, P50: ms(1.239), P95: ms(12.34), P99: ms(1234)},
					},
					{Pool: "green", Version: "v2.0.0", Weight: 0.5, Share: 0.00522},
				},
				Ramp: &proxy.RampStatus{
					To: []state.Weight{{Pool: "blue"}, {Pool: "green", Weight: 100}}, Ends: exampleNow().Add(260 * time.Second),
					By: "ops 10.0.0.7", Reason: "v2 for all",
				},
			},
			{
				Name: "search", Match: "/search/*",
				Variants: []proxy.VariantStatus{
					{Pool: "blue", Weight: 1, Share: 0.7, Usable: true, Recent: proxy.Recent{Rate: 3.21, P50: ms(0.4), P95: ms(99.96), P99: ms(999.4)}},
					{Pool: "a-pool-with-a-long-name", Weight: 1, Share: 0.3, Usable: true, Recent: proxy.Recent{Rate: 123456}},
				},
			},
		},
		Pools: []proxy.PoolStatus{
			{Name: "blue", Policy: "least_request", Endpoints: []proxy.EndpointStatus{
				{Address: "127.0.0.1:8001", Weight: 1, EffectiveWeight: 1, Inflight: 3, Connections: 4, Healthy: true, Requests: 100000, Errors: 2},
				{Address: "127.0.0.1:8002", Weight: 2, Healthy: true, Draining: true},
			}},
			{Name: "green", Policy: "random", Endpoints: []proxy.EndpointStatus{
				{Address: "127.0.0.1:8003", Weight: 1, Probe: "/health/ready answered 404"},
				{Address: "127.0.0.1:8004", Weight: 1, Healthy: true, Ejected: true},
			}},
			{Name: "a-pool-with-a-long-name", Policy: "random", Draining: true, Inflight: 1, Endpoints: []proxy.EndpointStatus{
				{Address: "models.internal.example.com:8003", Weight: 1, Healthy: true, Draining: true, Inflight: 1, Connections: 1},
			}},
		},
	}
}

func exampleHistory() []state.Change {
	at := func(before time.Duration) time.Time { return exampleNow().Add(-before).UTC() }
	set := func(blue, green float64) []state.Weight {
		return []state.Weight{{Pool: "blue", Weight: blue}, {Pool: "green", Weight: green}}
	}
	return []state.Change{
		{Generation: 1, Time: at(400 * 24 * time.Hour), Kind: state.KindStart, By: "file", Routes: []state.RouteChange{{Route: "predict", After: set(90, 10)}}},
		{
			Generation: 2, Time: at(30 * time.Hour), Kind: state.KindWeights, By: "ops 10.0.0.7", Reason: "v2 answers as fast as v1 and with fewer errors; half of it, then",
			Routes: []state.RouteChange{{Route: "predict", Before: set(90, 10), After: set(50, 50)}},
		},
		{Generation: 3, Time: at(time.Hour), Kind: state.KindDrain, By: "continuous-delivery 10.0.0.7", Drains: []state.DrainChange{
			{Pool: "blue", Draining: true}, {Pool: "green", Endpoint: "127.0.0.1:8003"},
		}},
		{Generation: 4, Time: at(time.Minute), Kind: state.KindReload, By: "file", Notes: []string{"listeners changed"}, Routes: []state.RouteChange{
			{Route: "predict", Before: set(50, 50), After: []state.Weight{{Pool: "green", Weight: 99.5}, {Pool: "gold", Weight: 0.5}}},
			{Route: "search", Before: set(1, 0)},
		}},
		{
			Generation: 7, Time: at(5 * time.Second), Kind: state.KindRollback, By: "ops 10.0.0.7", To: 1,
			Routes: []state.RouteChange{{Route: "predict", Before: set(50, 50), After: set(90, 10)}},
		},
	}
}

func exampleView() *view {
	h := exampleHistory()
	return &view{Status: exampleStatus(), last: &h[len(h)-1], now: exampleNow(), width: 80}
}

// wantText compares a text with testdata/text/name, where ^ stands for the escape character.
func wantText(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", "text", name))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.ReplaceAll(got, "\x1b", "^")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestLiveText(t *testing.T) {
	v := exampleView()
	wantText(t, "live.txt", strings.Join(v.live(), "\n")+"\n")
	v.colours = true
	v.Routes, v.Pools = v.Routes[:1], v.Pools[:2]
	wantText(t, "colour.txt", strings.Join(v.live(), "\n")+"\n")
}

// TestLiveFits holds every line to the width of the terminal, and to the same text with colours as without.
func TestLiveFits(t *testing.T) {
	paint := regexp.MustCompile("\x1b\\[[0-9]*m")
	for width := 1; width < 200; width++ {
		v := exampleView()
		v.width = width
		plain := v.live()
		v.colours = true
		for i, line := range v.live() {
			if bare := paint.ReplaceAllString(line, ""); bare != plain[i] || strings.Contains(bare, "\x1b") {
				t.Errorf("width %d: with colours %q, without %q", width, bare, plain[i])
			}
			if n := cells(plain[i]); n > width && width >= 10 { // below, words are not wrapped
				t.Errorf("width %d: %d columns: %s", width, n, plain[i])
			}
			if strings.Count(line, "\x1b[") > 0 && !strings.Contains(line, "\x1b[0m") {
				t.Errorf("width %d: the paint of %q does not end", width, line)
			}
		}
	}
}

func TestShareBar(t *testing.T) {
	for _, tt := range []struct {
		share, expected float64
		want            string
	}{
		{0, 0, "··········"},
		{0, 1, "·········┃"},
		{1, 0, "██████████"},
		{0.5, 0.5, "████┃·····"},
		{0.004, 0.01, "┃·········"}, // what is there at all can be seen
		{0.004, 0, "█·········"},
		{0.9, 0.2, "█┃███████·"},
		{0.2, 0.9, "██······┃·"},
	} {
		if got := shareBar(tt.share, tt.expected, 10); got != tt.want {
			t.Errorf("%v of %v: %s, want %s", tt.share, tt.expected, got, tt.want)
		}
	}
	if got := shareBar(0.5, 0.5, 0); got != "" {
		t.Errorf("no room: %q", got)
	}
}

func TestShortNumbers(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 0.001: "0.00", 9.99: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 12345.6: "12346", 123456: "123k"} {
		if got := three(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
	for ms, want := range map[float64]string{0.4: "0.40ms", 99.96: "100ms", 999.4: "999ms", 999.6: "1.00s", 61234: "61.2s"} {
		if got := shortMillis(&ms); got != want || cells(got) > liveMillis {
			t.Errorf("%v: %s, want %s", ms, got, want)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct {
		s     string
		width int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcdef", 5, "ab…ef"},
		{"abcdef", 4, "a…ef"},
		{"abcdef", 2, "a…"},
		{"abcdef", 0, ""},
		{"模型模型", 5, "模…型"},
		{"模型模型", 4, "…型"},
	} {
		if got := shorten(tt.s, tt.width); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.s, tt.width, got, tt.want)
		}
	}
}

func TestHistoryText(t *testing.T) {
	var out strings.Builder
	writeHistory(&out, exampleHistory(), 80, exampleNow())
	wantText(t, "history.txt", out.String())
	for line := range strings.Lines(out.String()) {
		if n := cells(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	out.Reset()
	if writeHistory(&out, nil, 80, exampleNow()); out.String() != "GEN  TIME  KIND  BY  CHANGE\n" {
		t.Errorf("nothing: %q", out.String())
	}
}

func TestCells(t *testing.T) {
	for s, want := range map[string]int{"": 0, "größe": 5, "ü": 1, "模型": 4, "\x1b[31mred\x1b[0m": 3, "█┃·…→": 5, "a👍": 3} {
		if got := cells(s); got != want {
			t.Errorf("%q: %d columns, want %d", s, got, want)
		}
	}
	for _, tt := range []struct {
		s     string
		width int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"模型模", 4, "模…"},
		{"\x1b[31mabcd\x1b[0m", 3, "\x1b[31mab\x1b[0m…"},
		{"abcd", 0, ""},
	} {
		if got := clip(tt.s, tt.width); got != tt.want {
			t.Errorf("%q in %d: %q, want %q", tt.s, tt.width, got, tt.want)
		}
	}
	for _, tt := range []struct {
		s    string
		want []string
	}{
		{"", nil},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "  three"}},
		{"incomprehensible", []string{"incompre", "  hensib", "  le"}},
		{"a 模型模型模型", []string{"a", "  模型模", "  型模型"}},
	} {
		if got := wrap(tt.s, 8); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.s, got, tt.want)
		}
	}
}

func TestTimes(t *testing.T) {
	now := exampleNow()
	for _, tt := range []struct {
		t    time.Time
		want string
	}{
		{now, "15:04:05"},
		{now.UTC(), "15:04:05"},
		{now.Add(-16 * time.Hour), "Mar  3 23:04"},
		{now.Add(9 * time.Hour), "Mar  5 00:04"},
		{now.Add(-200 * 24 * time.Hour), "Aug 16  2025"},
	} {
		if got := shortTime(tt.t, now); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.t, got, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1600 * time.Millisecond: "2s", 59700 * time.Millisecond: "1m", 90 * time.Second: "1m30s",
		2 * time.Hour: "2h", 2*time.Hour + 5*time.Minute + time.Second: "2h5m", 24 * time.Hour: "1d", 75 * time.Hour: "3d3h",
	} {
		if got := about(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTableCleansCells(t *testing.T) {
	var out bytes.Buffer
	table := newTable("NAME", ">N")
	table.row("größe\x1b[2J\r\n", "1")
	table.write(&out)
	if diff := cmp.Diff("NAME         N\ngröße·[2J··  1\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestYAMLSaysTheSameAsJSON(t *testing.T) {
	in := json.RawMessage(`{"z":{"text":"true","number":"12","empty":"","colon":"a: b","lines":"a\nb","null":null,"list":[1,0.5,[]]},"a":"last"}`)
	var out bytes.Buffer
	if err := writeYAML(&out, in); err != nil {
		t.Fatal(err)
	}
	want := `z:
  text: 'true'
  number: '12'
  empty: ''
  colon: 'a: b'
  lines: |-
    a
    b
  'null': null
  list:
  - 1
  - 0.5
  - []
a: last
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestAdminAddress(t *testing.T) {
	for _, tt := range []struct{ flag, env, want string }{
		{"", "", defaultAdmin},
		{"", "10.0.0.1:9901", "http://10.0.0.1:9901"},
		{"http://[::1]:1/", "10.0.0.1:9901", "http://[::1]:1"},
		{"https://weir.example.com", "", "https://weir.example.com"},
		{"weir.example.com:1/prefix/", "", "http://weir.example.com:1/prefix"},
	} {
		c := newCLI(nil, nil, func(name string) string { return map[string]string{"WEIR_ADMIN": tt.env}[name] })
		c.admin = tt.flag
		api, err := c.client()
		if err != nil {
			t.Error(err)
		} else if api.base != tt.want {
			t.Errorf("--admin %q, WEIR_ADMIN %q: %s, want %s", tt.flag, tt.env, api.base, tt.want)
		}
	}
}
