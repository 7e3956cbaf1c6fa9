package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy"
)

// exposing is a server whose metrics are what page says.
func exposing(t *testing.T, page func() string) *backendtest.Server {
	t.Helper()
	return backendtest.NewServer(t, backendtest.Behaviour{Respond: func(q *backendtest.Request) backendtest.Behaviour {
		if q.Target != "/metrics" {
			return backendtest.Behaviour{Body: []byte("ok")}
		}
		return backendtest.Behaviour{Chunked: true, Body: []byte(page())}
	}})
}

// unhurried gives scrapes the time that a busy machine needs.
func unhurried(c *config.Config) { c.Pools[0].Load.Timeout = patience }

// load is the first endpoint's.
func (r *running) load(t testing.TB) *proxy.LoadStatus {
	t.Helper()
	p, _ := r.Pool("blue")
	return p.Endpoints[0].Load
}

// TestEdgeScrape: metrics are read again and again, over one connection, without a request; what counts up is a rate.
func TestEdgeScrape(t *testing.T) {
	var requests atomic.Int64
	s := exposing(t, func() string {
		return fmt.Sprintf("ml_active_requests 3\nml_queued_requests 2\nml_predictions_total{status=\"success\"} %d\n", requests.Add(100))
	})
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: "load: {scrape: /metrics, interval: 20ms}\n", change: unhurried})
	eventually(t, "a rate", func() bool { return strings.Contains(r.known(t)[s.Addr()], "rps=") })
	if known := r.known(t)[s.Addr()]; !strings.HasPrefix(known, "queue_ms=") || !strings.Contains(known, " scrape, queue=2 scrape, in_flight=3 scrape, rps=") {
		t.Errorf("known: %q", known)
	}
	eventually(t, "ten scrapes", func() bool { return s.Counts().Requests > 10 })
	if n := s.Counts().Connections; n > s.Counts().Requests/2 {
		t.Errorf("%d connections for %d scrapes, want them kept", n, s.Counts().Requests)
	}
	head := string(s.Last().RawHead)
	if !strings.HasPrefix(head, "GET /metrics HTTP/1.1\r\n") || !strings.Contains(head, "\r\nHost: "+s.Addr()+"\r\n") || !strings.Contains(head, "\r\nAccept: text/plain;") {
		t.Errorf("asked %q", head)
	}
	p, _ := r.Pool("blue")
	if p.Endpoints[0].Requests != 0 {
		t.Errorf("%d requests: a scrape is none", p.Endpoints[0].Requests)
	}
	label := fmt.Sprintf(`{endpoint="%s",kind="scrape",pool="blue",result="success"}`, s.Addr())
	if m := r.metrics(t); m["weir_probes_total"+label] < 10 {
		t.Errorf("%v scrapes counted", m["weir_probes_total"+label])
	}
}

// TestEdgeScrapeFails: what goes wrong is named, and what was known stays until it is too old.
func TestEdgeScrapeFails(t *testing.T) {
	var page atomic.Pointer[backendtest.Behaviour]
	is := func(b backendtest.Behaviour) { page.Store(&b) }
	is(backendtest.Behaviour{Body: []byte("ml_active_requests 3\n")})
	s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour { return *page.Load() }})
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: "load: {scrape: /metrics, interval: 10ms, max_bytes: 100KiB}\n", change: func(c *config.Config) {
		c.Pools[0].Load.Timeout = 500 * time.Millisecond // of a machine that is busy
	}})
	eventually(t, "a report", func() bool { return r.known(t)[s.Addr()] == "in_flight=3 scrape" })
	for _, c := range []struct {
		name string
		b    backendtest.Behaviour
		want string
	}{
		{"status", backendtest.Behaviour{Status: 404}, "GET /metrics answered 404, want 200"},
		{"another server", backendtest.Behaviour{Body: []byte("vllm:num_requests_running 1\n")}, "none of the families of preset weir is there"},
		{"too long", backendtest.Behaviour{Body: []byte(strings.Repeat("ml_active_requests 1\n", 10_000))}, "longer than max_bytes"},
		{"cut short", backendtest.Behaviour{Body: []byte("ml_active_requests 9\n" + strings.Repeat("#\n", 1000)), Fault: backendtest.FaultCloseMidBody, FaultAfter: 100}, "unexpected EOF"},
		{"no answer", backendtest.Behaviour{Fault: backendtest.FaultCloseBeforeHead}, "no answer"},
		{"no HTTP", backendtest.Behaviour{Raw: []byte("220 ready\r\n")}, "malformed"},
		{"compressed", backendtest.Behaviour{Header: []backendtest.Field{{Name: "Content-Encoding", Value: "gzip"}}, Body: []byte("x")}, "Content-Encoding"},
		{"too late", backendtest.Behaviour{Latency: 30 * time.Second}, "no whole answer to GET /metrics within 500ms"},
	} {
		is(c.b)
		eventually(t, c.name, func() bool { return strings.Contains(r.load(t).Problems["scrape"], c.want) })
		if known := r.known(t)[s.Addr()]; known != "in_flight=3 scrape" {
			t.Errorf("%s: known: %q", c.name, known)
		}
	}
	is(backendtest.Behaviour{Body: []byte("ml_active_requests 4\n")})
	eventually(t, "a report again", func() bool { return r.known(t)[s.Addr()] == "in_flight=4 scrape" && r.load(t).Problems == nil })
}

// TestEdgeScrapeElsewhere: at another port of the host, whatever is spoken with the endpoint itself.
func TestEdgeScrapeElsewhere(t *testing.T) {
	e := newH2C(t, echo)
	s := exposing(t, func() string { return "nv_gpu_utilization 0.5\n" })
	_, port, _ := strings.Cut(s.Addr(), ":")
	r := overH2(t, e, setup{pool: fmt.Sprintf("load: {preset: triton, scrape: \":%s/metrics\", interval: 20ms}\n", port), change: unhurried})
	eventually(t, "a report", func() bool { return r.known(t)[e.addr] == "gpu_utilization=0.5 scrape" })
	if head := string(s.Last().RawHead); !strings.Contains(head, "\r\nHost: "+s.Addr()+"\r\n") {
		t.Errorf("asked %q", head)
	}
}

// TestEdgeScrapeOverHTTP2: at the endpoint's own port as requests are.
func TestEdgeScrapeOverHTTP2(t *testing.T) {
	var n atomic.Int64
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = fmt.Fprintf(w, "ml_active_requests %d\n%s", n.Add(1), strings.Repeat("# more\n", 20_000))
	})
	r := overH2(t, e, setup{pool: "load: {scrape: /metrics, interval: 20ms}\n", change: unhurried})
	eventually(t, "many reports", func() bool { return n.Load() > 10 && r.known(t)[e.addr] != "" })
	if got := e.accepted.Load(); got > 2 {
		t.Errorf("%d connections", got)
	}
}

// TestEdgeScrapeChanged: a reload that names other families has them read; one that scrapes no more ends it.
func TestEdgeScrapeChanged(t *testing.T) {
	s := exposing(t, func() string { return "ml_active_requests 3\nother 5\n" })
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: "load: {scrape: /metrics, interval: 10ms}\n", change: unhurried})
	eventually(t, "a report", func() bool { return r.known(t)[s.Addr()] == "in_flight=3 scrape" })
	cfg := parse(t, r.yaml)
	unhurried(cfg)
	cfg.Pools[0].Load.Names = []config.SignalName{{Signal: "in_flight", Family: "other"}}
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another report", func() bool { return r.known(t)[s.Addr()] == "in_flight=5 scrape" })
	cfg = parse(t, r.yaml)
	cfg.Pools[0].Load = nil
	if _, _, err := r.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	s.Await("no connection", func(c backendtest.Counts) bool { return c.Open == 0 })
}

// TestEdgeScrapeFault: an endpoint whose GPU fails is ejected, and told of, however well it answers; the last one stays.
func TestEdgeScrapeFault(t *testing.T) {
	var xid [2]atomic.Int64
	page := func(i int) func() string {
		return func() string {
			return fmt.Sprintf("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 5\nDCGM_FI_DEV_XID_ERRORS{gpu=\"0\"} %d\n", xid[i].Load())
		}
	}
	a, b := exposing(t, page(0)), exposing(t, page(1))
	r := start(t, setup{endpoints: []string{a.Addr(), b.Addr()}, pool: "load: {preset: dcgm, scrape: /metrics, interval: 10ms}\n", change: unhurried})
	ejected := func(i int) (bool, string) {
		p, _ := r.Pool("blue")
		return p.Endpoints[i].Ejected, p.Endpoints[i].Ejection
	}
	eventually(t, "reports", func() bool { k := r.known(t); return k[a.Addr()] != "" && k[b.Addr()] != "" })
	xid[0].Store(31) // of an application
	n := a.Counts().Requests
	a.Await("three more scrapes", func(c backendtest.Counts) bool { return c.Requests > n+3 })
	if yes, why := ejected(0); yes {
		t.Fatalf("ejected: %s", why)
	}
	xid[0].Store(79)
	eventually(t, "the ejection", func() bool { yes, why := ejected(0); return yes && why == "GPU 0: XID 79" })
	cl := r.dial(t)
	for range 4 {
		if m := cl.get("/x"); m.status() != 200 {
			t.Fatal(m.start)
		}
	}
	for _, q := range a.Requests() {
		if q.Target != "/metrics" {
			t.Errorf("a request after the ejection: %s", q.Target)
		}
	}
	xid[1].Store(79)
	n = b.Counts().Requests
	b.Await("three more scrapes", func(c backendtest.Counts) bool { return c.Requests > n+3 })
	if yes, why := ejected(1); yes {
		t.Errorf("the last endpoint is ejected: %s", why)
	}
}

// TestEdgeScrapeOverTLS: at the endpoint's own port as requests are, with a handshake for all scrapes.
func TestEdgeScrapeOverTLS(t *testing.T) {
	k := newKeeper(t)
	ep := newTLSEndpoint(t, k.server(), func(s *served) {
		for s.request() != nil {
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\nml_active_requests 3\n")
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, pool: "load: {scrape: /metrics, interval: 10ms}\n", change: func(c *config.Config) {
		unhurried(c)
		c.Pools[0].TLS = &config.PoolTLS{CA: k.file("ca.crt", k.PEM()), MinVersion: "1.2"}
	}})
	eventually(t, "five scrapes", func() bool {
		ep.mu.Lock()
		defer ep.mu.Unlock()
		return len(ep.requests) >= 5
	})
	eventually(t, "a report", func() bool { return r.known(t)[ep.addr] == "in_flight=3 scrape" })
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.conns > 2 {
		t.Errorf("%d connections for %d scrapes", ep.conns, len(ep.requests))
	}
}
