package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"weir/backend/backendtest"
	"weir/config"
)

// reporting is a pool whose endpoints are asked for their load.
const reporting = "load: {}\n"

// known are the signals that the pool's endpoints have reported, as "name=value source" by address.
func (r *running) known(t testing.TB) map[string]string {
	t.Helper()
	p, ok := r.Pool("blue")
	if !ok {
		t.Fatal("there is no pool blue")
	}
	m := map[string]string{}
	for _, e := range p.Endpoints {
		if e.Load == nil {
			continue
		}
		var all []string
		for _, s := range e.Load.Signals {
			if s.Age < 0 || s.Age > patience.Seconds() {
				t.Errorf("%s of %s is %v s old", s.Name, e.Address, s.Age)
			}
			all = append(all, fmt.Sprintf("%s=%v %s", s.Name, s.Value, s.Source))
		}
		m[e.Address] = strings.Join(all, ", ")
	}
	return m
}

// TestEdgeReport: in every encoding a report comes with the answer, counts for the endpoint, and is kept from the client.
func TestEdgeReport(t *testing.T) {
	for _, c := range []struct{ name, field, value, want string }{
		{"text", "endpoint-load-metrics", "TEXT application_utilization=0.25, rps_fractional=10, named_metrics.queue=2", "utilization=0.25 orca, queue_ms=200 orca, queue=2 orca, rps=10 orca"},
		{"old text", "Endpoint-Load-Metrics", "cpu_utilization:0.5,mem_utilization:0.75", "utilization=0.5 orca, memory_utilization=0.75 orca"},
		{"JSON", "endpoint-load-metrics", `JSON {"cpuUtilization":0.5,"utilization":{"gpu.0":0.125}}`, "utilization=0.5 orca, gpu_utilization=0.125 orca"},
		{"binary in text", "endpoint-load-metrics", "BIN CQAAAAAAAOA/", "utilization=0.5 orca"},
		{"binary", "ENDPOINT-LOAD-METRICS-BIN", "CQAAAAAAAOA/", "utilization=0.5 orca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := backendtest.NewServer(t, backendtest.Behaviour{Header: []backendtest.Field{{Name: "X-Before", Value: "1"}, {Name: c.field, Value: c.value}, {Name: "X-After", Value: "2"}}, Body: []byte("ok")})
			r := start(t, setup{endpoints: []string{s.Addr()}, pool: reporting})
			cl := r.dial(t)
			// What the client asks for itself is its own hop's: the endpoint gets what weir asks for.
			m := cl.fetch("GET", "/x", "Endpoint-Load-Metrics-Format: JSON\r\n")
			if m.status() != 200 || string(m.body) != "ok" || m.get("X-Before") != "1" || m.get("X-After") != "2" {
				t.Errorf("%s %v %q", m.start, m.fields, m.body)
			}
			if m.get("endpoint-load-metrics") != "" || m.get("endpoint-load-metrics-bin") != "" {
				t.Errorf("the client got the report: %v", m.fields)
			}
			if asked := strings.ToLower(string(s.Last().RawHead)); strings.Count(asked, "endpoint-load-metrics-format:") != 1 || !strings.Contains(asked, "\r\nendpoint-load-metrics-format: text\r\n") {
				t.Errorf("the endpoint was asked %q", asked)
			}
			if got := r.known(t)[s.Addr()]; got != c.want {
				t.Errorf("known: %q, want %q", got, c.want)
			}
			label := fmt.Sprintf(`{endpoint="%s",pool="blue"}`, s.Addr())
			if m := r.metrics(t); m["weir_endpoint_load_reports_total"+label] != 1 || m["weir_endpoint_load_report_errors_total"+label] != 0 {
				t.Errorf("%v reports, %v failures", m["weir_endpoint_load_reports_total"+label], m["weir_endpoint_load_report_errors_total"+label])
			}
		})
	}
}

// TestEdgeReportOff: where nobody wants to know the load of endpoints, what client and endpoint say of it goes on.
func TestEdgeReportOff(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"cpu_utilization": 0.5}})
	r := start(t, setup{endpoints: []string{s.Addr()}})
	cl := r.dial(t)
	if m := cl.fetch("GET", "/x", "endpoint-load-metrics-format: text\r\n"); m.get("endpoint-load-metrics") != "TEXT cpu_utilization=0.5" {
		t.Errorf("the client asked and got %v", m.fields)
	}
	if m := cl.get("/x"); m.get("endpoint-load-metrics") != "" {
		t.Errorf("nobody asked, and there is %v", m.fields)
	}
	if known := r.known(t); len(known) != 0 {
		t.Errorf("weir knows %v", known)
	}
}

// TestEdgeReportBad: what cannot be read is counted and named, and neither it nor what was known before is lost for that.
func TestEdgeReportBad(t *testing.T) {
	reports := make(chan string, 2)
	s := backendtest.NewServer(t, backendtest.Behaviour{Respond: func(*backendtest.Request) backendtest.Behaviour {
		return backendtest.Behaviour{Header: []backendtest.Field{{Name: "endpoint-load-metrics", Value: <-reports}}, Body: []byte("ok")}
	}})
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: reporting})
	cl := r.dial(t)
	label := fmt.Sprintf(`{endpoint="%s",pool="blue"}`, s.Addr())
	for i, report := range []string{"cpu_utilization=0.5", "cpu_utilization=lots", "\x80\xff", "cpu_utilization=NaN"} {
		reports <- report
		if m := cl.get("/x"); m.status() != 200 || string(m.body) != "ok" || m.get("endpoint-load-metrics") != "" {
			t.Fatalf("%s %v", m.start, m.fields)
		}
		if got := r.known(t)[s.Addr()]; got != "utilization=0.5 orca" {
			t.Errorf("after %q: %q", report, got)
		}
		if n := r.metrics(t)["weir_endpoint_load_report_errors_total"+label]; n != float64(i) {
			t.Errorf("after %q: %v failures, want %d", report, n, i)
		}
	}
	p, _ := r.Pool("blue")
	if why := p.Endpoints[0].Load.Problems["orca"]; !strings.Contains(why, "cpu_utilization") || !strings.Contains(why, "finite") {
		t.Errorf("the status says %q", why)
	}
	reports <- "cpu_utilization=0.25"
	cl.get("/x")
	if p, _ = r.Pool("blue"); p.Endpoints[0].Load.Problems != nil {
		t.Errorf("after a good one the status says %v", p.Endpoints[0].Load.Problems)
	}
}

// TestEdgeReportSome: only the endpoints of pools that are to report are asked, and a copy for a shadow does not ask.
func TestEdgeReportSome(t *testing.T) {
	load := map[string]float64{"cpu_utilization": 0.5}
	asking, silent := backendtest.NewServer(t, backendtest.Behaviour{Load: load}), backendtest.NewServer(t, backendtest.Behaviour{Load: load})
	shadow := backendtest.NewServer(t, backendtest.Behaviour{Load: load})
	r := start(t, setup{
		endpoints: []string{asking.Addr()}, pool: reporting,
		change: func(c *config.Config) {
			other := c.Pools[0]
			other.Name, other.Load, other.Endpoints = "green", nil, []config.Endpoint{{Address: silent.Addr(), Weight: 1}}
			third := other
			third.Name, third.Endpoints = "shadow", []config.Endpoint{{Address: shadow.Addr(), Weight: 1}}
			c.Pools = append(c.Pools, other, third)
			c.Routes[0].Split = []config.Variant{{Pool: "blue", Weight: 1}, {Pool: "green", Weight: 1}}
			c.Routes[0].Mirror = &config.Mirror{Pool: "shadow", Percent: 100, MaxActive: 64, MaxBody: 1 << 20, Timeout: patience}
		},
	})
	cl := r.dial(t)
	for range 40 {
		if m := cl.predict("x", ""); m.get("endpoint-load-metrics") != "" {
			t.Fatalf("the client got %v", m.fields)
		}
		m := cl.predict("x", "X-Own: 1\r\nendpoint-load-metrics-format: text\r\n")
		if got := m.get("endpoint-load-metrics") != ""; got != (m.get("X-Weir-Variant") == "green") {
			t.Fatalf("from %s the client got %v", m.get("X-Weir-Variant"), m.fields)
		}
	}
	for _, q := range asking.Requests() {
		if strings.Count(string(q.RawHead), "endpoint-load-metrics-format: text\r\n") != 1 {
			t.Errorf("asked %q", q.RawHead)
		}
	}
	if len(asking.Requests()) == 0 || len(silent.Requests()) == 0 {
		t.Fatalf("%d and %d requests", len(asking.Requests()), len(silent.Requests()))
	}
	if known := r.known(t)[asking.Addr()]; known != "utilization=0.5 orca" {
		t.Errorf("known: %q", known)
	}
	eventually(t, "copies", func() bool { return shadow.Counts().Requests > 0 })
	for _, q := range shadow.Requests() {
		if head := string(q.RawHead); strings.Contains(head, "endpoint-load-metrics-format") && !strings.Contains(head, "X-Own") {
			t.Errorf("a copy asks: %q", head)
		}
	}
}

// TestEdgeReportCached: an answer out of the cache tells nothing of the endpoint, and has no report.
func TestEdgeReportCached(t *testing.T) {
	s := backendtest.NewServer(t, counting(backendtest.Field{Name: "endpoint-load-metrics", Value: "cpu_utilization=0.5"}))
	cache := aCache()
	cache.StaleWhileRevalidate = time.Minute
	cache.TTL = []config.StatusTTL{{Status: 200, TTL: 50 * time.Millisecond}}
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: reporting, change: cachedBy(cache)})
	cl := r.dial(t)
	label := fmt.Sprintf(`weir_endpoint_load_reports_total{endpoint="%s",pool="blue"}`, s.Addr())
	first := cl.get("/x")
	if first.get("endpoint-load-metrics") != "" || r.metrics(t)[label] != 1 {
		t.Fatalf("%v, %v reports", first.fields, r.metrics(t)[label])
	}
	eventually(t, "an answer that was refreshed", func() bool {
		m := cl.get("/x")
		if m.get("endpoint-load-metrics") != "" {
			t.Fatalf("out of the cache: %v", m.fields)
		}
		return string(m.body) != "answer 0"
	})
	if n := r.metrics(t)[label]; n != 1 {
		t.Errorf("%v reports, want the first alone: the others came without a request", n)
	}
	if asked := strings.Contains(string(s.Last().RawHead), "endpoint-load-metrics-format"); asked {
		t.Error("a refresh asks for a report that nobody would read")
	}
}

// TestEdgeReportRetried: an answer that no client gets is one of its endpoint all the same, and that of a hedge is its own.
func TestEdgeReportRetried(t *testing.T) {
	bad := backendtest.NewServer(t, backendtest.Behaviour{Status: 503, Load: map[string]float64{"cpu_utilization": 1.5}})
	good := backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"cpu_utilization": 0.25}, Body: []byte("ok")})
	r := start(t, setup{endpoints: []string{bad.Addr(), good.Addr()}, pool: reporting + "outlier: off\n", route: "retry: {attempts: 2, on: [503], idempotent: always}\n"})
	cl := r.dial(t)
	for range 4 {
		if m := cl.get("/x"); m.status() != 200 {
			t.Fatalf("%s", m.start)
		}
	}
	want := map[string]string{bad.Addr(): "utilization=1.5 orca", good.Addr(): "utilization=0.25 orca"}
	if known := r.known(t); known[bad.Addr()] != want[bad.Addr()] || known[good.Addr()] != want[good.Addr()] {
		t.Errorf("known: %v, want %v", known, want)
	}
}

func TestEdgeReportHedged(t *testing.T) {
	slow := backendtest.NewServer(t, backendtest.Behaviour{Latency: 20 * time.Second, Load: map[string]float64{"cpu_utilization": 1.5}})
	fast := backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"cpu_utilization": 0.25}})
	r := start(t, setup{endpoints: []string{slow.Addr(), fast.Addr()}, pool: reporting + "outlier: off\n", change: hedge(config.Hedge{Delay: 5 * time.Millisecond, BudgetPercent: 100}), options: oneLoop})
	cl := r.dial(t)
	for range 4 {
		if m := cl.get("/x"); m.status() != 200 || m.get("endpoint-load-metrics") != "" {
			t.Fatalf("%s %v", m.start, m.fields)
		}
	}
	if slow.Counts().Requests == 0 {
		t.Error("the slow endpoint was never asked")
	}
	if known := r.known(t); known[fast.Addr()] != "utilization=0.25 orca" || known[slow.Addr()] != "" {
		t.Errorf("known: %v, want that of %s alone", known, fast.Addr())
	}
}

// TestEdgeReportInTrailers: behind a chunked body, where a call of gRPC has it.
func TestEdgeReportInTrailers(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{
		Chunked: true, Body: []byte("ok"), Header: []backendtest.Field{{Name: "Trailer", Value: "X-Sum"}},
		Trailers: []backendtest.Field{{Name: "X-Sum", Value: "1"}, {Name: "Endpoint-Load-Metrics", Value: "TEXT cpu_utilization=0.5"}},
	})
	r := start(t, setup{endpoints: []string{s.Addr()}, pool: reporting})
	m := r.dial(t).get("/x")
	if len(m.trailers) != 1 || m.trailers[0].value != "1" || string(m.body) != "ok" {
		t.Errorf("body %q, trailers %v", m.body, m.trailers)
	}
	if got := r.known(t)[s.Addr()]; got != "utilization=0.5 orca" {
		t.Errorf("known: %q", got)
	}
}

func TestEdgeReportOfCall(t *testing.T) {
	for name, md := range map[string]metadata.MD{
		"asked":  nil,
		"binary": metadata.Pairs("endpoint-load-metrics-bin", "\x09\x00\x00\x00\x00\x00\x00\xe0\x3f"),
	} {
		t.Run(name, func(t *testing.T) {
			b := backendtest.GRPCBehaviour{Trailer: md}
			if md == nil {
				b.Load = map[string]float64{"cpu_utilization": 0.5}
			}
			g := backendtest.NewGRPC(t, b)
			r, c := overGRPC(t, setup{pool: reporting}, g)
			got, s, err := exchanged(patient(t), c, "/a.B/C", "one")
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			if tr := s.Trailer(); len(tr["endpoint-load-metrics"])+len(tr["endpoint-load-metrics-bin"]) > 0 {
				t.Errorf("the client got %v", tr)
			}
			if got := r.known(t)[g.Addr()]; got != "utilization=0.5 orca" {
				t.Errorf("known: %q", got)
			}
		})
	}
}

// TestEdgeReportOverHTTP2: in the head, over HTTP/2 to the endpoint, whose answer is long.
func TestEdgeReportOverHTTP2(t *testing.T) {
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("endpoint-load-metrics-format") != "text" {
			t.Errorf("asked with %v", q.Header)
		}
		w.Header().Set("endpoint-load-metrics", "TEXT cpu_utilization=0.5")
		_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
	})
	r := overH2(t, e, setup{pool: reporting})
	if m := r.dial(t).get("/x"); len(m.body) != 1<<20 || m.get("endpoint-load-metrics") != "" {
		t.Errorf("%d bytes, %v", len(m.body), m.fields)
	}
	if got := r.known(t)[e.addr]; got != "utilization=0.5 orca" {
		t.Errorf("known: %q", got)
	}
}

// TestEdgeReportChanged: a reload has requests ask, or no more.
func TestEdgeReportChanged(t *testing.T) {
	s := backendtest.NewServer(t, backendtest.Behaviour{Load: map[string]float64{"cpu_utilization": 0.5}})
	r := start(t, setup{endpoints: []string{s.Addr()}})
	cl := r.dial(t)
	asks := func() bool {
		cl.get("/x")
		return strings.Contains(string(s.Last().RawHead), "endpoint-load-metrics-format: text\r\n")
	}
	for i, load := range []*config.Signals{nil, new(config.DefaultSignals()), nil} {
		cfg := parse(t, r.yaml)
		cfg.Pools[0].Load = load
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		if asks() != (load != nil) {
			t.Errorf("step %d: load is %v, the endpoint got %q", i, load, s.Last().RawHead)
		}
	}
}
