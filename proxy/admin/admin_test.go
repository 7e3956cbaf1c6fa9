package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"weir/config"
	"weir/proxy"
)

// fakeProxy is the state of a proxy with the routes predict and rank.
type fakeProxy struct {
	mu       sync.Mutex
	weights  map[string]float64
	reason   string
	by       string
	setErr   error
	reload   func() (uint64, error)
	notReady []string
	started  bool
	panics   bool
	cfg      *config.Config
}

func (f *fakeProxy) Status() proxy.Status {
	if f.panics {
		panic("boom")
	}
	predict, _ := f.Route("predict")
	rank, _ := f.Route("rank")
	blue, _ := f.Pool("blue")
	return proxy.Status{Version: "v9.9.9", Generation: 7, Routes: []proxy.RouteStatus{predict, rank}, Pools: []proxy.PoolStatus{blue}}
}

func (f *fakeProxy) Route(name string) (proxy.RouteStatus, bool) {
	generations := map[string]uint64{"predict": 5, "rank": 3}
	return proxy.RouteStatus{Name: name, Generation: generations[name],
		Variants: []proxy.VariantStatus{{Pool: "blue", Weight: 90, Share: 0.9}, {Pool: "<green>", Weight: 10, Share: 0.1}}}, generations[name] != 0
}

func (f *fakeProxy) Pool(name string) (proxy.PoolStatus, bool) {
	return proxy.PoolStatus{Name: name, Generation: 2}, name == "blue"
}

func (f *fakeProxy) SetWeights(route string, weights map[string]float64, reason, by string) (proxy.RouteStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.setErr != nil {
		return proxy.RouteStatus{}, f.setErr
	}
	f.weights, f.reason, f.by = weights, reason, by
	return proxy.RouteStatus{Name: route, Generation: 8}, nil
}

// start serves the API of f on a port of its own and returns its URL.
func start(t *testing.T, f *fakeProxy) (url string, logs *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Address:    "weir.internal:9901",
		State:      f,
		SetWeights: f.SetWeights,
		Config:     func() (*config.Config, uint64) { return f.cfg, 4 },
		Reload:     func(string) (uint64, error) { return f.reload() },
		Started:    func() bool { return f.started },
		Ready:      func() []string { return f.notReady },
		Collectors: []prometheus.Collector{prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_test", Help: "A test."})},
		Log:        zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), logs
}

type call struct {
	method, path, body string
	header             map[string]string
}

func do(t *testing.T, base string, c call) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(c.method, base+c.path, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.header {
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

var jsonType = map[string]string{"Content-Type": "application/json"}

func TestStateAnswers(t *testing.T) {
	cfg, err := config.Parse("", []byte("listeners: [{address: '127.0.0.1:0'}]\npools: {blue: {endpoints: ['127.0.0.1:1']}}\nroutes: [{name: predict, split: {blue: 1}}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	url, _ := start(t, &fakeProxy{cfg: cfg})
	tests := []struct {
		path, etag string
		want       func(any) bool
	}{
		{"/api/v1/status", `"7"`, func(v any) bool { return v.(map[string]any)["version"] == "v9.9.9" }},
		{"/api/v1/routes", `"5"`, func(v any) bool { return v.([]any)[1].(map[string]any)["name"] == "rank" }},
		{"/api/v1/routes/predict", `"5"`, func(v any) bool { return v.(map[string]any)["name"] == "predict" }},
		{"/api/v1/routes/rank", `"3"`, func(v any) bool { return v.(map[string]any)["generation"] == 3.0 }},
		{"/api/v1/pools", `"2"`, func(v any) bool { return v.([]any)[0].(map[string]any)["name"] == "blue" }},
		{"/api/v1/pools/blue", `"2"`, func(v any) bool { return v.(map[string]any)["name"] == "blue" }},
		{"/api/v1/config", `"4"`, func(v any) bool { return v.(map[string]any)["pools"].(map[string]any)["blue"] != nil }},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			resp, body := do(t, url, call{method: "GET", path: tt.path})
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %s: %s", resp.StatusCode, resp.Header.Get("Content-Type"), body)
			}
			if got := resp.Header.Get("ETag"); got != tt.etag {
				t.Errorf("ETag = %s, want %s", got, tt.etag)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-store" {
				t.Errorf("Cache-Control = %q", got)
			}
			var v any
			if err := json.Unmarshal([]byte(body), &v); err != nil {
				t.Fatal(err)
			}
			if !tt.want(v) {
				t.Errorf("answer: %s", body)
			}
			head, none := do(t, url, call{method: "HEAD", path: tt.path})
			if head.StatusCode != 200 || none != "" || head.Header.Get("ETag") != tt.etag {
				t.Errorf("HEAD: %d, %q, ETag %s", head.StatusCode, none, head.Header.Get("ETag"))
			}
		})
	}
}

func TestSetWeights(t *testing.T) {
	f := &fakeProxy{}
	url, _ := start(t, f)
	resp, body := do(t, url, call{method: "PUT", path: "/api/v1/routes/predict/weights",
		body: `{"weights":{"blue":99.5,"green":0.5},"reason":"a first look"}`, header: map[string]string{"Content-Type": "application/json; charset=utf-8"}})
	if resp.StatusCode != 200 || resp.Header.Get("ETag") != `"8"` || !strings.Contains(body, `"name":"predict"`) {
		t.Fatalf("%d %s %s", resp.StatusCode, resp.Header.Get("ETag"), body)
	}
	if diff := cmp.Diff(map[string]float64{"blue": 99.5, "green": 0.5}, f.weights); diff != "" {
		t.Error(diff)
	}
	if f.reason != "a first look" || f.by != "api 127.0.0.1" {
		t.Errorf("reason %q by %q", f.reason, f.by)
	}
}

func TestSetWeightsRefused(t *testing.T) {
	f := &fakeProxy{}
	url, logs := start(t, f)
	put := func(header map[string]string, body string) (*http.Response, string) {
		return do(t, url, call{method: "PUT", path: "/api/v1/routes/predict/weights", body: body, header: header})
	}
	for _, tt := range []struct {
		name, body string
		header     map[string]string
		err        error
		status     int
		code, says string
	}{
		{"sum 0", `{"weights":{"blue":0}}`, jsonType, &proxy.ControlError{Status: 422, Code: "bad_weights", Message: "the sum is 0"}, 422, "bad_weights", "the sum is 0"},
		{"unknown route", `{"weights":{"blue":0}}`, jsonType, &proxy.ControlError{Status: 404, Code: "unknown_route", Message: "have predict"}, 404, "unknown_route", "have predict"},
		{"own fault", `{"weights":{"blue":1}}`, jsonType, errors.New("secret detail"), 500, "internal", "the log has the details"},
		{"no content type", `{"weights":{"blue":1}}`, nil, nil, 415, "unsupported_media_type", "application/json"},
		{"a form", `{"weights":{"blue":1}}`, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, nil, 415, "unsupported_media_type", "application/json"},
		{"empty", ``, jsonType, nil, 400, "bad_request", "it is empty"},
		{"cut off", `{"weights":`, jsonType, nil, 400, "bad_request", "unexpected EOF"},
		{"unknown key", `{"weights":{"blue":1},"resaon":"x"}`, jsonType, nil, 400, "bad_request", "resaon"},
		{"trailing data", `{"weights":{"blue":1}} {}`, jsonType, nil, 400, "bad_request", "more after"},
		{"weights missing", `{"reason":"x"}`, jsonType, nil, 400, "bad_request", "missing"},
		{"weights null", `{"weights":null}`, jsonType, nil, 400, "bad_request", "must be an object"},
		{"weights a list", `{"weights":[1]}`, jsonType, nil, 400, "bad_request", "must be an object"},
		{"weight null", `{"weights":{"blue":null}}`, jsonType, nil, 400, "bad_request", "must be a number"},
		{"weight text", `{"weights":{"blue":"90"}}`, jsonType, nil, 400, "bad_request", "must be a number"},
		{"weight nested", `{"weights":{"blue":{"x":1}}}`, jsonType, nil, 400, "bad_request", "must be a number"},
		{"weight out of range", `{"weights":{"blue":1e999}}`, jsonType, nil, 400, "bad_request", "1e999"},
		{"NaN", `{"weights":{"blue":NaN}}`, jsonType, nil, 400, "bad_request", "invalid character"},
		{"named twice", `{"weights":{"blue":1,"blue":2}}`, jsonType, nil, 400, "bad_request", "named twice"},
		{"long reason", `{"weights":{"blue":1},"reason":"` + strings.Repeat("x", maxReason+1) + `"}`, jsonType, nil, 400, "bad_request", "1025 bytes"},
		{"too large", `{"weights":{"blue":1},"reason":"` + strings.Repeat("x", maxBody) + `"}`, jsonType, nil, 413, "body_too_large", "1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.setErr = tt.err
			resp, body := put(tt.header, tt.body)
			checkFailure(t, resp, body, tt.status, tt.code, tt.says)
			if strings.Contains(body, "secret detail") {
				t.Errorf("the answer tells too much: %s", body)
			}
			if tt.err == nil && f.weights != nil {
				t.Errorf("weights were set: %v", f.weights)
			}
		})
	}
	if logs.FilterMessageSnippet("cannot set the weights").Len() != 1 {
		t.Errorf("the fault is not in the log: %v", logs.All())
	}
}

func checkFailure(t *testing.T, resp *http.Response, body string, status int, code, says string) {
	t.Helper()
	var got failure
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%d with a body that is no JSON: %q", resp.StatusCode, body)
	}
	if resp.StatusCode != status || got.Code != code || !strings.Contains(got.Error, says) {
		t.Errorf("got %d %s, want %d %s with %q", resp.StatusCode, body, status, code, says)
	}
}

func TestReload(t *testing.T) {
	f := &fakeProxy{reload: func() (uint64, error) { return 7, nil }}
	url, _ := start(t, f)
	for name, c := range map[string]call{
		"no body":      {method: "POST", path: "/api/v1/reload"},
		"empty object": {method: "POST", path: "/api/v1/reload", body: "{}", header: jsonType},
		"empty JSON":   {method: "POST", path: "/api/v1/reload", header: jsonType},
	} {
		resp, body := do(t, url, c)
		if resp.StatusCode != 200 || body != "{\"generation\":7}\n" || resp.Header.Get("ETag") != `"7"` {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	f.reload = func() (uint64, error) {
		return 7, config.Faults{{File: "weir.yaml", Line: 12, Column: 9, Message: "wrong"}, {File: "weir.yaml", Line: 13, Column: 1, Message: "too"}}
	}
	resp, body := do(t, url, call{method: "POST", path: "/api/v1/reload"})
	checkFailure(t, resp, body, 422, "config_rejected", "generation 7 stays in force")
	var got failure
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"weir.yaml:12:9: wrong", "weir.yaml:13:1: too"}, got.Faults); diff != "" {
		t.Error(diff)
	}
	f.reload = func() (uint64, error) { return 7, errors.New("port taken") }
	if _, body := do(t, url, call{method: "POST", path: "/api/v1/reload"}); !strings.Contains(body, `"faults":["port taken"]`) {
		t.Error(body)
	}
}

func TestHealth(t *testing.T) {
	f := &fakeProxy{notReady: []string{"no route has a usable endpoint"}}
	url, _ := start(t, f)
	want := func(path string, status int, says string) {
		t.Helper()
		// A probe may come under any name.
		resp, body := do(t, url, call{method: "GET", path: path, header: map[string]string{"Host": "weir.default.svc"}})
		if resp.StatusCode != status || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s, want %d %s", path, resp.StatusCode, body, status, says)
		}
	}
	want("/health/live", 200, "alive")
	want("/health/ready", 503, "no route has a usable endpoint")
	want("/health/startup", 503, "starting")
	f.notReady, f.started = nil, true
	want("/health/ready", 200, "ready")
	want("/health/startup", 200, "started")
}

func TestUnknownPathsAndMethods(t *testing.T) {
	url, _ := start(t, &fakeProxy{})
	for _, tt := range []struct {
		method, path string
		status       int
		code, says   string
		allow        string
	}{
		{"GET", "/nothing", 404, "not_found", "/nothing", ""},
		{"GET", "/api/v1/routes/nope", 404, "unknown_route", `"nope" (have predict, rank)`, ""},
		{"GET", "/api/v1/pools/nope", 404, "unknown_pool", `"nope" (have blue)`, ""},
		{"GET", "/api/v1/routes/%0d%0aX:y", 404, "unknown_route", `\r\nX:y`, ""},
		{"DELETE", "/api/v1/status", 405, "method_not_allowed", "GET, HEAD", "GET, HEAD"},
		{"POST", "/api/v1/routes/predict/weights", 405, "method_not_allowed", "use PUT", "PUT"},
		{"GET", "/api/v1/reload", 405, "method_not_allowed", "use POST", "POST"},
		{"POST", "/", 405, "method_not_allowed", "GET, HEAD", "GET, HEAD"},
		{"TRACE", "/metrics", 405, "method_not_allowed", "GET, HEAD", "GET, HEAD"},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			resp, body := do(t, url, call{method: tt.method, path: tt.path})
			checkFailure(t, resp, body, tt.status, tt.code, tt.says)
			if got := resp.Header.Get("Allow"); got != tt.allow {
				t.Errorf("Allow = %q, want %q", got, tt.allow)
			}
		})
	}
}

func TestPanicTellsTheClientNothing(t *testing.T) {
	url, logs := start(t, &fakeProxy{panics: true})
	resp, body := do(t, url, call{method: "GET", path: "/api/v1/status"})
	checkFailure(t, resp, body, 500, "internal", "the log has the details")
	if strings.Contains(body, "boom") {
		t.Errorf("the answer tells too much: %s", body)
	}
	if entries := logs.FilterMessageSnippet("panic").All(); len(entries) != 1 {
		t.Errorf("log: %v", logs.All())
	}
}

func TestIndexAndMetrics(t *testing.T) {
	url, _ := start(t, &fakeProxy{})
	resp, body := do(t, url, call{method: "GET", path: "/"})
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
		!strings.Contains(body, `href="/api/v1/routes/predict"`) || !strings.Contains(body, "&lt;green&gt;") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	resp, body = do(t, url, call{method: "GET", path: "/metrics"})
	for _, family := range []string{"weir_test", "go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(body, "# TYPE "+family+" ") {
			t.Errorf("%s is missing from the metrics (%d)", family, resp.StatusCode)
		}
	}
	resp, body = do(t, url, call{method: "GET", path: "/metrics", header: map[string]string{"Accept": "application/openmetrics-text; version=1.0.0"}})
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("no OpenMetrics: %s", resp.Header.Get("Content-Type"))
	}
}

func TestGuard(t *testing.T) {
	url, _ := start(t, &fakeProxy{reload: func() (uint64, error) { return 1, nil }})
	own := strings.TrimPrefix(url, "http://")
	for _, tt := range []struct {
		name   string
		method string
		header map[string]string
		code   string // "" is let in
	}{
		{"address", "GET", nil, ""},
		{"localhost", "GET", map[string]string{"Host": "LocalHost.:9901"}, ""},
		{"IPv6 address", "GET", map[string]string{"Host": "[::1]:9901"}, ""},
		{"IPv6 address without port", "GET", map[string]string{"Host": "[::1]"}, ""},
		{"its own name", "GET", map[string]string{"Host": "weir.internal:1234"}, ""},
		{"rebound name", "GET", map[string]string{"Host": "evil.example.com:9901"}, "forbidden_host"},
		{"rebound name, write", "POST", map[string]string{"Host": "evil.example.com"}, "forbidden_host"},
		{"name that begins like an address", "GET", map[string]string{"Host": "127.0.0.1.evil.example.com"}, "forbidden_host"},
		{"name that ends like localhost", "GET", map[string]string{"Host": "notlocalhost"}, "forbidden_host"},
		{"own origin", "POST", map[string]string{"Origin": "http://" + own, "Sec-Fetch-Site": "same-origin"}, ""},
		{"other origin", "POST", map[string]string{"Origin": "http://evil.example.com"}, "forbidden_origin"},
		{"other origin, read", "GET", map[string]string{"Origin": "http://evil.example.com"}, "forbidden_origin"},
		{"other port", "POST", map[string]string{"Origin": "http://127.0.0.1:1"}, "forbidden_origin"},
		{"opaque origin", "POST", map[string]string{"Origin": "null"}, "forbidden_origin"},
		{"cross-site without origin", "POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, "forbidden_origin"},
		{"link from another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := "/api/v1/status"
			if tt.method == "POST" {
				path = "/api/v1/reload"
			}
			resp, body := do(t, url, call{method: tt.method, path: path, header: tt.header})
			if tt.code == "" {
				if resp.StatusCode != 200 {
					t.Errorf("refused: %d %s", resp.StatusCode, body)
				}
				return
			}
			checkFailure(t, resp, body, 403, tt.code, "")
		})
	}
}

func TestNewRefusesTwoCollectorsOfOneMetric(t *testing.T) {
	gauge := func(help string) prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_x", Help: help})
	}
	if _, err := New(Options{Collectors: []prometheus.Collector{gauge("a"), gauge("b")}}); err == nil {
		t.Error("no error")
	}
}

func FuzzSetWeights(f *testing.F) {
	f.Add([]byte(`{"weights":{"blue":1,"green":0.5},"reason":"x"}`))
	f.Add([]byte(`{"weights":{"a":{"b":[1]}}}`))
	s, err := New(Options{Address: "127.0.0.1:1", SetWeights: func(_ string, w map[string]float64, _, _ string) (proxy.RouteStatus, error) {
		return proxy.RouteStatus{}, nil
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("PUT", "http://127.0.0.1/api/v1/routes/predict/weights", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 && w.Code != 413 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("no JSON: %q", w.Body)
		}
	})
}
