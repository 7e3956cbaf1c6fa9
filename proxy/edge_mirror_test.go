package proxy_test

import (
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy"
)

// mirroring adds pool shadow with these endpoints, and has the only route mirrored to it.
func mirroring(m config.Mirror, shadows ...string) func(*config.Config) {
	return func(cfg *config.Config) {
		pl := cfg.Pools[0]
		pl.Name, pl.Endpoints = "shadow", nil
		for _, a := range shadows {
			pl.Endpoints = append(pl.Endpoints, config.Endpoint{Address: a, Weight: 1})
		}
		cfg.Pools = append(cfg.Pools, pl)
		m.Pool = "shadow"
		if m.Timeout == 0 {
			m.Timeout = patience
		}
		cfg.Routes[0].Mirror = &m
	}
}

func patientMirrors(o *proxy.Options) { proxy.MirrorPatience(o, time.Minute) }

// all is a mirror of every request.
func all() config.Mirror { return config.Mirror{Percent: 100, MaxActive: 64, MaxBody: 1 << 20} }

func comparing() config.Mirror {
	m := all()
	m.Compare = &config.Compare{Tolerance: 1e-6, Samples: 3}
	return m
}

// mirrored is a proxy between one endpoint and one shadow.
func mirrored(t testing.TB, m config.Mirror, primary, shadow string) *running {
	t.Helper()
	return start(t, setup{endpoints: []string{primary}, change: mirroring(m, shadow), options: patientMirrors, pool: "outlier: off\n", route: "retry: off\n"})
}

func (r *running) mirror(t testing.TB) proxy.MirrorStatus {
	t.Helper()
	m, err := r.Mirror("all")
	if err != nil {
		t.Fatal(err)
	}
	return m.Mirror
}

// settled waits until no copy is under way.
func (r *running) settled(t testing.TB) proxy.MirrorStatus {
	t.Helper()
	eventually(t, "the end of all copies", func() bool { return r.mirror(t).Active == 0 })
	return r.mirror(t)
}

// TestEdgeMirrorSendsTheSame: the shadow gets what the endpoint got, byte for byte, and the mark.
func TestEdgeMirrorSendsTheSame(t *testing.T) {
	large, huge := strings.Repeat("0123456789abcdef", 7_000), strings.Repeat("0123456789abcdef", 60_000)
	tooLarge := strings.Repeat("0123456789abcdef", 70_000)
	for _, c := range []struct{ name, request string }{
		{"no body", "GET /x?secret=1 HTTP/1.1\r\nHost: h\r\nX-Odd:  a  b \r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"},
		{"HEAD", "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"empty body", post("/x", "", false)},
		{"small", post("/x", "abc", false)},
		{"expected", "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"},
		{"large", post("/x", large, false)},
		{"huge", post("/x", huge, false)},
		{"small in chunks", post("/x", "abc", true)},
		{"none in chunks", post("/x", "", true)},
		{"large in chunks", post("/x", large, true)},
		{"huge in chunks", post("/x", huge, true)},
		{"too large", post("/x", tooLarge, false)},
		{"too large in chunks", post("/x", tooLarge, true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			primary := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("primary")})
			shadow := backendtest.NewServer(t, backendtest.Behaviour{Status: 404, Body: []byte("shadow")})
			r := mirrored(t, all(), primary.Addr(), shadow.Addr())
			cl := r.dial(t)
			method, _, _ := strings.Cut(c.request, " ")
			for range 2 {
				go cl.send(c.request)
				if m := cl.answer(method); m.status() != 200 || method != "HEAD" && string(m.body) != "primary" {
					t.Fatalf("%d %q", m.status(), m.body)
				}
			}
			m := r.settled(t)
			if strings.HasPrefix(c.name, "too large") {
				if m.Skipped != 2 || m.Sent != 0 || sum(r.metrics(t), "weir_mirror_skipped_total", `reason="too_large"`) != 2 {
					t.Errorf("%+v, want 2 skipped", m)
				}
				return
			}
			if m.Sent != 2 || m.Skipped != 0 || m.ErrorsShadow != 0 {
				t.Fatalf("%+v", m)
			}
			a, b := primary.Requests(), shadow.Requests()
			if len(a) != 2 || len(b) != 2 {
				t.Fatalf("%d and %d requests", len(a), len(b))
			}
			for i := range a { // the copies may have overtaken each other
				if a[0].Get("X-Request-ID") != b[0].Get("X-Request-ID") {
					b[0], b[1] = b[1], b[0]
				}
				want := strings.TrimSuffix(string(a[i].RawHead), "\r\n") + "X-Weir-Mirror: true\r\n\r\n"
				if string(b[i].RawHead) != want {
					t.Errorf("the shadow got\n%s, want\n%s", b[i].RawHead, want)
				}
				if !b[i].Complete || a[i].BodySum != b[i].BodySum || a[i].BodyBytes != b[i].BodyBytes || fmt.Sprint(a[i].Trailer) != fmt.Sprint(b[i].Trailer) {
					t.Errorf("bodies of %d and %d bytes, trailers %v and %v", a[i].BodyBytes, b[i].BodyBytes, a[i].Trailer, b[i].Trailer)
				}
			}
			if complaints := shadow.Complaints(); len(complaints) > 0 {
				t.Error(complaints)
			}
		})
	}
}

// TestEdgeMirrorOfInspectedBodies: those are read before the endpoint is chosen, also in chunks, also partly.
func TestEdgeMirrorOfInspectedBodies(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{})
	r := start(t, setup{endpoints: []string{primary.Addr()}, options: patientMirrors, change: func(cfg *config.Config) {
		mirroring(all(), shadow.Addr())(cfg)
		cfg.Routes[0].Affinity = &config.Affinity{Source: config.AffinityJSON, Name: "user"}
	}})
	c := r.dial(t)
	for i, request := range []string{
		post("/", `{"user":"x"}`, false), post("/", `{"user":"x"}`, true), post("/", "", true),
		strings.Replace(post("/", `{"user":"y"}`, true), "Trailer: X-Sum\r\n", "", 1),
		post("/", strings.Repeat("0123456789abcdef", 60_000), true), post("/", strings.Repeat("0123456789abcdef", 60_000), false),
	} {
		c.send(request)
		if m := c.answer("POST"); m.status() != 200 {
			t.Fatal(m.start)
		}
		if got := r.settled(t); got.Sent != uint64(i)+1 {
			t.Fatalf("request %d: %+v", i, got)
		}
		a, b := primary.Last(), shadow.Last()
		if !b.Complete || a.BodySum != b.BodySum || a.Length != b.Length || a.Chunked != b.Chunked || fmt.Sprint(a.Trailer) != fmt.Sprint(b.Trailer) {
			t.Errorf("request %d: bodies of %d and %d bytes", i, a.BodyBytes, b.BodyBytes)
		}
	}
	for _, chunked := range []bool{true, false} {
		c.send(post("/", strings.Repeat("0123456789abcdef", 70_000), chunked))
		c.answer("POST")
	}
	if got := r.settled(t); got.Sent != 6 || got.Skipped != 2 {
		t.Errorf("%+v, want 2 that are too large", got)
	}
}

// TestEdgeMirrorPercent: within five standard deviations, so that one run in a million fails by chance.
func TestEdgeMirrorPercent(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{})
	m := all()
	m.Percent = 30
	r := mirrored(t, m, s.Addr(), s.Addr())
	c := r.dial(t)
	const n = 2000
	for range n {
		c.get("/")
	}
	got := r.settled(t)
	drawn, sd := float64(got.Sent+got.Skipped), math.Sqrt(n*.3*.7)
	if math.Abs(drawn-n*.3) > 5*sd {
		t.Errorf("%v of %d requests were drawn, want 30 %%", drawn, n)
	}
	values := r.metrics(t)
	if got := sum(values, "weir_requests_total"); got != n {
		t.Errorf("%v requests are counted, want %d: copies are none", got, n)
	}
	if got, want := sum(values, "weir_attempts_total", `pool="shadow"`), float64(got.Sent); got != want {
		t.Errorf("%v attempts at the shadow are counted, want %v", got, want)
	}
}

// TestEdgeMirrorShadowFails: the client gets its answers, whatever the shadow does.
func TestEdgeMirrorShadowFails(t *testing.T) {
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	for name, c := range map[string]struct {
		b       backendtest.Behaviour
		addr    string
		outcome string
	}{
		"hangs":          {b: backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead}, outcome: "timeout"},
		"does not read":  {b: backendtest.Behaviour{Fault: backendtest.FaultHangReading}, outcome: "timeout"},
		"hangs mid body": {b: backendtest.Behaviour{Fault: backendtest.FaultHangMidBody, Body: []byte("123"), FaultAfter: 1}, outcome: "timeout"},
		"slow":           {b: backendtest.Behaviour{Latency: 50 * time.Millisecond}, outcome: "2xx"},
		"resets":         {b: backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead}, outcome: "reset"},
		"closes":         {b: backendtest.Behaviour{Fault: backendtest.FaultCloseMidBody, Body: []byte("123"), FaultAfter: 1}, outcome: "reset"},
		"garbage":        {b: backendtest.Behaviour{Raw: []byte("\x16\x03\x01nonsense\r\n\r\n"), CloseAfterResponse: true}, outcome: "protocol"},
		"errors":         {b: backendtest.Behaviour{Status: 503}, outcome: "5xx"},
		"refuses":        {addr: refusing.Addr().String(), outcome: "connect"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("primary")})
			if c.addr == "" {
				c.addr = backendtest.NewServer(t, c.b).Addr()
			}
			m := comparing()
			if c.outcome == "timeout" { // a busy machine may take long for all else
				m.Timeout = 300 * time.Millisecond
			}
			r := mirrored(t, m, primary.Addr(), c.addr)
			cl := r.dial(t)
			large := post("/predict", strings.Repeat("x", 300_000), false)
			for range 5 {
				cl.get("/x")
				cl.send(large)
				if m := cl.answer("POST"); m.status() != 200 || string(m.body) != "primary" {
					t.Fatalf("%d %q", m.status(), m.body)
				}
			}
			got := r.settled(t)
			values := r.metrics(t)
			if n := sum(values, "weir_mirror_requests_total", fmt.Sprintf("outcome=%q", c.outcome)); n != 10 || got.Sent != 10 {
				t.Errorf("%v copies ended with %s, and %d were sent; want 10\n%+v", n, c.outcome, got.Sent, got)
			}
			failed := uint64(10)
			if c.outcome == "2xx" {
				failed = 0
			}
			if got.ErrorsShadow != failed || got.ErrorsPrimary != 0 || sum(values, "weir_mirror_inflight") != 0 {
				t.Errorf("%+v", got)
			}
			if n := sum(values, "weir_mirror_comparisons_total"); n != 10 {
				t.Errorf("%v comparisons, want 10", n)
			}
			if n := sum(values, "weir_requests_total", `code="200"`); n != 10 {
				t.Errorf("%v requests with 200, want 10", n)
			}
		})
	}
}

// TestEdgeMirrorIsBounded: beyond max_active no copies are made.
func TestEdgeMirrorIsBounded(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	m := all()
	m.MaxActive = 3
	r := mirrored(t, m, primary.Addr(), shadow.Addr())
	c := r.dial(t)
	for range 50 {
		c.get("/")
		if n := r.mirror(t).Active; n > 3 {
			t.Fatalf("%d copies under way", n)
		}
	}
	shadow.Await("the copies", func(n backendtest.Counts) bool { return n.Requests == 3 })
	if got := r.mirror(t); got.Skipped != 47 || got.Active != 3 || sum(r.metrics(t), "weir_mirror_skipped_total", `reason="busy"`) != 47 {
		t.Errorf("%+v, want 3 under way and 47 skipped", got)
	}
	shadow.SetBehaviour(backendtest.Behaviour{})
	shadow.ResetAll()
	r.settled(t)
	c.get("/")
	if got := r.settled(t); got.Sent != 4 {
		t.Errorf("%+v, want copies again", got)
	}
}

// TestEdgeMirrorSkips: what is not copied, and why.
func TestEdgeMirrorSkips(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{})
	r := mirrored(t, all(), primary.Addr(), shadow.Addr())
	c := r.dial(t)
	reason := func(name string, want float64) {
		t.Helper()
		eventually(t, name, func() bool {
			return r.mirror(t).Active == 0 && sum(r.metrics(t), "weir_mirror_skipped_total", fmt.Sprintf("reason=%q", name)) == want
		})
	}
	c.send("GET / HTTP/1.1\r\nHost: h\r\nx-weir-mirror: true\r\n\r\n")
	c.answer("GET")
	reason("mirrored", 1)

	gone := r.dial(t)
	gone.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000))
	eventually(t, "the request", func() bool { return primary.Counts().Requests == 2 })
	gone.Close()
	reason("incomplete", 1)

	gone = r.dial(t)
	gone.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n")
	eventually(t, "the request", func() bool { return primary.Counts().Requests == 3 })
	gone.Close()
	reason("incomplete", 2)

	cfg := parse(t, r.yaml)
	mirroring(all(), shadow.Addr())(cfg)
	cfg.Pools[1].Endpoints[0].Weight = 0
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	c.get("/")
	reason("no_endpoint", 1)
	if n := shadow.Counts().Requests; n != 0 {
		t.Errorf("the shadow got %d requests", n)
	}
}

// TestEdgeMirrorShortOfProcessors: copies that waited for a processor are not sent, and for a while none is made.
func TestEdgeMirrorShortOfProcessors(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{})
	r := start(t, setup{endpoints: []string{s.Addr()}, change: mirroring(all(), s.Addr()), options: func(o *proxy.Options) { proxy.MirrorPatience(o, time.Nanosecond) }})
	c := r.dial(t)
	for range 5 {
		c.get("/")
	}
	if got := r.settled(t); got.Sent != 0 || got.Skipped != 5 || sum(r.metrics(t), "weir_mirror_skipped_total", `reason="overloaded"`) != 5 {
		t.Errorf("%+v", got)
	}
	if n := s.Counts().Requests; n != 5 {
		t.Errorf("%d requests, want no copies among them", n)
	}
}

// TestEdgeMirrorClientLeaves: a request that was sent whole is copied though nobody waits for its answer.
func TestEdgeMirrorClientLeaves(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{Fault: backendtest.FaultHangBeforeHead})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{})
	r := mirrored(t, comparing(), primary.Addr(), shadow.Addr())
	c := r.dial(t)
	c.send(post("/predict", "abc", false))
	primary.Await("the request", func(n backendtest.Counts) bool { return n.Requests == 1 })
	if n := shadow.Counts().Requests; n != 0 {
		t.Error("the copy went out before the request had ended")
	}
	c.Close()
	shadow.Await("the copy", func(n backendtest.Counts) bool { return n.Requests == 1 })
	got := r.settled(t)
	if got.Sent != 1 || got.Compared != 0 || got.P50 != nil || sum(r.metrics(t), "weir_mirror_comparisons_total", "incomparable") != 1 {
		t.Errorf("%+v", got)
	}
}

// TestEdgeMirrorCopiesWhatWasSentAtLast: an attempt that failed leaves no traces in the copy.
func TestEdgeMirrorCopiesWhatWasSentAtLast(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		sick, well := sickAndWell(t, backendtest.Behaviour{Fault: backendtest.FaultResetBeforeHead})
		shadow := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("well")})
		r := start(t, setup{endpoints: []string{sick.Addr(), well.Addr()}, change: mirroring(comparing(), shadow.Addr()), options: patientMirrors, pool: "outlier: off\n"})
		body := strings.Repeat("0123456789abcdef", 5_000)
		for range 2 {
			c := r.dial(t)
			c.send(post("/predict", body, chunked))
			if m := c.answer("POST"); m.status() != 200 {
				t.Fatalf("%d %q", m.status(), m.body)
			}
		}
		if got := r.settled(t); got.Sent != 2 || got.Agreed != 2 || sick.Counts().Requests == 0 {
			t.Errorf("chunked %v: %+v", chunked, got)
		}
		for _, q := range shadow.Requests() {
			if q.BodySum != digest(body) || !q.Complete {
				t.Errorf("chunked %v: a body of %d bytes, want the client's", chunked, q.BodyBytes)
			}
		}
	}
}

// TestEdgeMirrorTellsNoTime: a copy goes out when its client's time is over, and does not say what that was; what the
// route says itself stays.
func TestEdgeMirrorTellsNoTime(t *testing.T) {
	small, large := post("/x", "abc", false), post("/x", strings.Repeat("0123456789abcdef", 7_000), true)
	for _, c := range []struct{ name, line, field, set, want string }{
		{"own", "X-Request-Timeout: 20s\r\n", "X-Request-Timeout", "", ""},
		{"twice", "X-Request-Timeout: 20s\r\nx-request-timeout: 30s\r\n", "X-Request-Timeout", "", ""},
		{"another field", "x-budget: 20s\r\n", "X-Budget", "", ""},
		{"set by the route", "X-Request-Timeout: 20s\r\n", "X-Request-Timeout", "5", "5"},
		{"not one that weir heeds", "X-Request-Timeout: 20s\r\n", "", "", "20s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			primary, shadow := backendtest.NewServer(t, backendtest.Behaviour{}), backendtest.NewServer(t, backendtest.Behaviour{})
			r := start(t, setup{endpoints: []string{primary.Addr()}, options: patientMirrors, change: func(cfg *config.Config) {
				mirroring(all(), shadow.Addr())(cfg)
				cfg.Routes[0].Timeouts.Header = c.field
				if c.set != "" {
					cfg.Routes[0].Headers.Request.Set = []config.Header{{Name: c.field, Value: c.set}}
				}
			}})
			cl := r.dial(t)
			for _, request := range []string{small, large} {
				go cl.send(strings.Replace(request, "\r\n", "\r\n"+c.line, 1))
				if m := cl.answer("POST"); m.status() != 200 {
					t.Fatalf("%d %q", m.status(), m.body)
				}
			}
			if m := r.settled(t); m.Sent != 2 {
				t.Fatalf("%+v", m)
			}
			name := c.field
			if name == "" {
				name = "X-Request-Timeout"
			}
			for i, q := range shadow.Requests() {
				if got := q.Get(name); got != c.want {
					t.Errorf("copy %d says %q, want %q", i+1, got, c.want)
				}
				if told := primary.Requests()[i].Get(name); told == "" || !q.Complete {
					t.Errorf("copy %d: the endpoint is told %q, complete %v", i+1, told, q.Complete)
				}
			}
		})
	}
}

// TestEdgeMirrorOfRescued: where the cache has a stale answer for an endpoint that failed, there is no time to compare.
func TestEdgeMirrorOfRescued(t *testing.T) {
	primary := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("good"), Header: []backendtest.Field{{Name: "Cache-Control", Value: "max-age=0"}}})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("good")})
	r := start(t, setup{endpoints: []string{primary.Addr()}, options: patientMirrors, pool: "outlier: off\n", route: "retry: off\n", change: func(cfg *config.Config) {
		mirroring(comparing(), shadow.Addr())(cfg)
		cfg.Routes[0].Cache = aCache()
		cfg.Routes[0].Cache.StaleIfError = time.Minute
	}})
	c := r.dial(t)
	was(t, c.get("/x"), "miss", "good")
	primary.SetBehaviour(backendtest.Behaviour{Status: 503})
	was(t, c.get("/x"), "stale", "good")
	m, values := r.settled(t), r.metrics(t)
	if m.Sent != 2 || m.Compared != 1 || m.Agreed != 1 || sum(values, "weir_mirror_latency_difference_seconds") != 1 {
		t.Errorf("%+v, %v differences", m, sum(values, "weir_mirror_latency_difference_seconds"))
	}
}
