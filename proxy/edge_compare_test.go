package proxy_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeMirrorCompares: agreement, and the disagreements that are kept.
func TestEdgeMirrorCompares(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Latency: 100 * time.Millisecond})
	r := mirrored(t, comparing(), primary.Addr(), shadow.Addr())
	c := r.dial(t)
	answer := func(s *backendtest.Server, status int, body string, chunked bool) {
		b := s.Behaviour()
		b.Status, b.Body, b.Chunked = status, []byte(body), chunked
		b.Header = []backendtest.Field{{Name: "Content-Type", Value: "application/json"}}
		s.SetBehaviour(b)
	}
	for i, x := range []struct {
		primary, shadow string
		status          int // of the shadow
		chunked         bool
	}{
		{`{"prediction":1,"latency_ms":5}`, `{"prediction":1,"latency_ms":9}`, 200, false},
		{`{"prediction":1.0000001}`, `{"prediction": 1.0}`, 200, true},
		{`{"prediction":[0.25,0.75]}`, `{"prediction":[0.25,0.5]}`, 200, true},
		{`{"prediction":3}`, `{"error":"down"}`, 503, false},
		{`{"prediction":"` + strings.Repeat("x", 1<<20) + `"}`, `{"prediction":1}`, 200, false}, // too large
		{`{"prediction":4}`, `{"prediction":5}`, 200, false},
		{`{"prediction":6}`, `{"prediction":7}`, 201, false},
		{`{"prediction":8}`, `nonsense`, 200, false},
	} {
		answer(primary, 200, x.primary, x.chunked)
		answer(shadow, x.status, x.shadow, x.chunked)
		c.send(fmt.Sprintf("GET /predict?secret=1 HTTP/1.1\r\nHost: h\r\nX-Request-ID: id-%d\r\n\r\n", i))
		if m := c.answer("GET"); string(m.body) != x.primary {
			t.Fatalf("the client got %.100q", m.body)
		}
		r.settled(t)
	}
	got := r.mirror(t)
	if got.Sent != 8 || got.Compared != 6 || got.Agreed != 2 || got.Agreement == nil || math.Abs(*got.Agreement-1./3) > 1e-9 || got.ErrorsShadow != 1 || got.ErrorsPrimary != 0 {
		t.Errorf("%+v", got)
	}
	if got.P50 == nil || *got.P50 < 20 || got.P95 == nil || *got.P95 < *got.P50 {
		t.Errorf("differences %v and %v, want at least 20 ms", got.P50, got.P95)
	}
	values := r.metrics(t)
	for result, want := range map[string]float64{"agree": 2, "disagree": 4, "incomparable": 2} {
		if n := sum(values, "weir_mirror_comparisons_total", fmt.Sprintf("result=%q", result)); n != want {
			t.Errorf("%v are %s, want %v", n, result, want)
		}
	}
	if sum(values, "weir_mirror_statuses_total", `primary="2xx"`, `shadow="5xx"`) != 1 || sum(values, "weir_mirror_statuses_total", `primary="2xx"`, `shadow="2xx"`) != 7 || sum(values, "weir_mirror_latency_difference_seconds") != 7 {
		t.Errorf("statuses or differences are wrong")
	}
	report, err := r.Mirror("all")
	if err != nil || report.Route != "all" || len(report.Disagreements) != 3 {
		t.Fatalf("%+v (%v), want 3 disagreements", report, err)
	}
	for i, id := range []string{"id-7", "id-6", "id-5"} {
		d := report.Disagreements[i]
		if d.RequestID != id || d.Path != "/predict" || d.Method != "GET" || d.Endpoint != shadow.Addr() || d.PrimaryStatus != 200 || time.Since(d.Time) > patience {
			t.Errorf("%+v, want that of %s", d, id)
		}
	}
	if d := report.Disagreements[1]; d.ShadowStatus != 201 || d.Field != "prediction" || d.Primary != "6" || d.Shadow != "7" || d.Reason == "" {
		t.Errorf("%+v", d)
	}
}

// TestEdgeMirrorComparesWhatEndpointsSay: what weir compresses for the client is compared as the endpoint sent it.
func TestEdgeMirrorComparesWhatEndpointsSay(t *testing.T) {
	body := []byte(`{"prediction":[` + strings.Repeat("0.125,", 5000) + `1]}`)
	json := []backendtest.Field{{Name: "Content-Type", Value: "application/json"}}
	primary := backendtest.NewServer(t, backendtest.Behaviour{Body: body, Header: json})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Body: body, Header: json, Chunked: true})
	r := start(t, setup{endpoints: []string{primary.Addr()}, options: patientMirrors, change: func(cfg *config.Config) {
		mirroring(comparing(), shadow.Addr())(cfg)
		cfg.Routes[0].Compress = &config.Compress{Encodings: []string{"gzip"}, Types: []string{"application/json"}}
	}})
	c := r.dial(t)
	for _, chunked := range []bool{false, true} {
		primary.SetBehaviour(backendtest.Behaviour{Body: body, Header: json, Chunked: chunked})
		c.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
		if m := c.answer("GET"); m.get("Content-Encoding") != "gzip" {
			t.Fatalf("the answer is not compressed: %v", m.start)
		}
	}
	if got := r.settled(t); got.Agreed != 2 {
		t.Errorf("%+v, want 2 that agree", got)
	}
}

// TestEdgeMirrorReload: figures go on while they mean the same, and a pool that changed is the one that copies go
// to.
func TestEdgeMirrorReload(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("x")})
	other := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("x")})
	r := mirrored(t, comparing(), s.Addr(), s.Addr())
	c := r.dial(t)
	c.get("/")
	r.settled(t)
	generation := byte(1)
	apply := func(m config.Mirror, shadow string) {
		t.Helper()
		cfg := parse(t, r.yaml)
		mirroring(m, shadow)(cfg)
		generation++
		cfg.TrustedProxies = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, generation}), 32)}
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
	}
	apply(comparing(), other.Addr()) // the route itself has not changed
	c.get("/")
	if got := r.settled(t); got.Sent != 2 || got.Agreed != 2 || other.Counts().Requests != 1 {
		t.Errorf("after another endpoint: %+v, and %d requests there", got, other.Counts().Requests)
	}
	m := comparing()
	m.Percent, m.MaxActive = 0, 1
	apply(m, other.Addr())
	c.get("/")
	if got := r.settled(t); got.Sent != 2 || got.Percent != 0 || other.Counts().Requests != 1 {
		t.Errorf("after percent 0: %+v", got)
	}
	m = comparing()
	m.Compare.TopLabel = true
	apply(m, other.Addr())
	c.get("/")
	if got := r.settled(t); got.Sent != 1 || got.Agreed != 1 {
		t.Errorf("after other rules: %+v", got)
	}
	cfg := parse(t, r.yaml)
	m = all()
	m.Pool = "nowhere"
	cfg.Routes[0].Mirror = &m
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.99/32")}
	if _, _, err := r.Apply(cfg); err == nil || !strings.Contains(err.Error(), `routes.all.mirror.pool: unknown pool "nowhere"`) {
		t.Errorf("a mirror to a pool that is not there: %v", err)
	}
	if _, _, err := r.Apply(parse(t, r.yaml)); err != nil {
		t.Fatal(err)
	}
	c.get("/")
	if _, err := r.Mirror("all"); err == nil {
		t.Error("the mirror is still there")
	}
	if _, err := r.Mirror("none"); err == nil {
		t.Error("a mirror of a route that is not there")
	}
	if st, ok := r.Route("all"); !ok || st.Mirror != nil || other.Counts().Requests != 2 || sum(r.metrics(t), "weir_mirror_requests_total") != 0 {
		t.Errorf("%+v", st)
	}
}

// TestEdgeMirrorEndsWithWeir: copies under way hold nothing up, and nothing of them is left.
func TestEdgeMirrorEndsWithWeir(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	before := goleak.IgnoreCurrent()
	var r *running
	t.Run("weir", func(t *testing.T) {
		r = mirrored(t, comparing(), primary.Addr(), shadow.Addr())
		c := r.dial(t)
		for range 5 {
			c.get("/")
		}
		shadow.Await("the copies", func(n backendtest.Counts) bool { return n.Requests == 5 })
		shadow.SetBehaviour(backendtest.Behaviour{})
		c.get("/") // and an idle connection
		eventually(t, "its copy", func() bool { return r.mirror(t).Active == 5 })
	})
	if got := r.mirror(t); got.Sent != 1 || got.Active != 0 || got.ErrorsShadow != 0 {
		t.Errorf("copies that weir ended: %+v", got)
	}
	shadow.Await("the end of the connections", func(n backendtest.Counts) bool { return n.Open == 0 })
	goleak.VerifyNone(t, before)
}
