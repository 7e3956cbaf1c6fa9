package admin

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"weir/config"
	"weir/proxy"
)

func TestStateAnswers(t *testing.T) {
	a := start(t)
	must[proxy.RouteStatus](a, "PUT", "/api/v1/routes/predict/weights", `{"weights":{"blue":1,"green":1}}`)
	must[proxy.PoolStatus](a, "POST", "/api/v1/pools/blue/drain", "")
	url := a.url
	tests := []struct {
		path, etag string
		want       func(any) bool
	}{
		{"/api/v1/status", `"3"`, func(v any) bool { return v.(map[string]any)["version"] == "v9.9.9" }},
		{"/api/v1/routes", `"2"`, func(v any) bool { return v.([]any)[1].(map[string]any)["name"] == "rank" }},
		{"/api/v1/routes/predict", `"2"`, func(v any) bool { return v.(map[string]any)["name"] == "predict" }},
		{"/api/v1/routes/rank", `"1"`, func(v any) bool { return v.(map[string]any)["generation"] == 1.0 }},
		{"/api/v1/pools", `"3"`, func(v any) bool { return v.([]any)[0].(map[string]any)["name"] == "blue" }},
		{"/api/v1/pools/blue", `"3"`, func(v any) bool { return v.(map[string]any)["name"] == "blue" }},
		{"/api/v1/config", `"1"`, func(v any) bool { return v.(map[string]any)["pools"].(map[string]any)["blue"] != nil }},
		{"/api/v1/history", `"3"`, func(v any) bool { return len(v.([]any)) == 3 && v.([]any)[2].(map[string]any)["kind"] == "drain" }},
		{"/api/v1/history?limit=2", `"3"`, func(v any) bool { return len(v.([]any)) == 2 && v.([]any)[0].(map[string]any)["kind"] == "weights" }},
		{"/api/v1/history?limit=9", `"3"`, func(v any) bool { return len(v.([]any)) == 3 }},
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

func TestReload(t *testing.T) {
	a := start(t)
	a.set(func() {
		a.reload = func(string) (uint64, []string, error) { return 7, []string{"pool blue changed"}, nil }
	})
	for name, c := range map[string]call{
		"no body":      {method: "POST", path: "/api/v1/reload"},
		"empty object": {method: "POST", path: "/api/v1/reload", body: "{}", header: jsonType},
		"empty JSON":   {method: "POST", path: "/api/v1/reload", header: jsonType},
	} {
		resp, body := do(t, a.url, c)
		if resp.StatusCode != 200 || body != `{"generation":7,"changes":["pool blue changed"]}`+"\n" || resp.Header.Get("ETag") != `"7"` {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	a.set(func() {
		a.reload = func(string) (uint64, []string, error) {
			return 7, nil, config.Faults{{File: "weir.yaml", Line: 12, Column: 9, Message: "wrong"}, {File: "weir.yaml", Line: 13, Column: 1, Message: "too"}}
		}
	})
	resp, body := do(t, a.url, call{method: "POST", path: "/api/v1/reload"})
	checkFailure(t, resp, body, 422, "config_rejected", "generation 7 stays in force")
	var got failure
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"weir.yaml:12:9: wrong", "weir.yaml:13:1: too"}, got.Faults); diff != "" {
		t.Error(diff)
	}
	a.set(func() { a.reload = func(string) (uint64, []string, error) { return 7, nil, errors.New("port taken") } })
	if _, body := do(t, a.url, call{method: "POST", path: "/api/v1/reload"}); !strings.Contains(body, `"faults":["port taken"]`) {
		t.Error(body)
	}
	a.set(func() {
		a.reload = func(string) (uint64, []string, error) {
			return 7, nil, &proxy.ControlError{Status: 503, Code: "stopping", Message: "weir is stopping"}
		}
	})
	resp, body = do(t, a.url, call{method: "POST", path: "/api/v1/reload"})
	checkFailure(t, resp, body, 503, "stopping", "weir is stopping")
}

func TestReloadThatChangesNothing(t *testing.T) {
	a := start(t)
	if _, body := a.write("POST", "/api/v1/reload", ""); body != `{"generation":1,"changes":[]}`+"\n" {
		t.Error(body)
	}
}

func TestHealth(t *testing.T) {
	a := start(t)
	a.set(func() { a.notReady = []string{"no route has a usable endpoint"} })
	want := func(path string, status int, says string) {
		t.Helper()
		// A probe may come under any name.
		resp, body := do(t, a.url, call{method: "GET", path: path, header: map[string]string{"Host": "weir.default.svc"}})
		if resp.StatusCode != status || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s, want %d %s", path, resp.StatusCode, body, status, says)
		}
	}
	want("/health/live", 200, "alive")
	want("/health/ready", 503, "no route has a usable endpoint")
	want("/health/startup", 503, "starting")
	a.set(func() { a.notReady, a.started = nil, true })
	want("/health/ready", 200, "ready")
	want("/health/startup", 200, "started")
}

func TestUnknownPathsAndMethods(t *testing.T) {
	url := start(t).url
	for _, tt := range []struct {
		method, path string
		status       int
		code, says   string
		allow        string
	}{
		{"GET", "/nothing", 404, "not_found", "/nothing", ""},
		{"GET", "/api/v1/routes/nope", 404, "unknown_route", `"nope" (have predict, rank)`, ""},
		{"GET", "/api/v1/pools/nope", 404, "unknown_pool", `"nope" (have blue, green)`, ""},
		{"GET", "/api/v1/routes/%0d%0aX:y", 404, "unknown_route", `\r\nX:y`, ""},
		{"DELETE", "/api/v1/status", 405, "method_not_allowed", "GET, HEAD", "GET, HEAD"},
		{"POST", "/api/v1/routes/predict/weights", 405, "method_not_allowed", "use PUT", "PUT"},
		{"GET", "/api/v1/history?limit=0", 400, "bad_request", `"0"`, ""},
		{"GET", "/api/v1/history?limit=-1", 400, "bad_request", "from 1 up", ""},
		{"GET", "/api/v1/history?limit=x", 400, "bad_request", "whole number", ""},
		{"GET", "/api/v1/pools/blue/endpoints/127.0.0.1:8001", 404, "not_found", "endpoints", ""},
		{"GET", "/api/v1/routes/predict/ramp", 405, "method_not_allowed", "use DELETE", "DELETE"},
		{"PUT", "/api/v1/events", 405, "method_not_allowed", "GET, HEAD", "GET, HEAD"},
		{"GET", "/ab/config", 405, "method_not_allowed", "use POST", "POST"},
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
	a := start(t, func(o *Options, _ *Server) { o.Ready = func() []string { panic("boom") } })
	resp, body := do(t, a.url, call{method: "GET", path: "/health/ready"})
	checkFailure(t, resp, body, 500, "internal", "the log has the details")
	if strings.Contains(body, "boom") {
		t.Errorf("the answer tells too much: %s", body)
	}
	if entries := a.logs.FilterMessageSnippet("panic").All(); len(entries) != 1 {
		t.Errorf("log: %v", a.logs.All())
	}
}

func TestIndexAndMetrics(t *testing.T) {
	url := start(t).url
	resp, body := do(t, url, call{method: "GET", path: "/"})
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
		!strings.Contains(body, `href="/api/v1/routes/predict"`) || !strings.Contains(body, `href="/api/v1/openapi.yaml"`) {
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
	url := start(t).url
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

func TestMethodsAreListedInOrder(t *testing.T) {
	w := httptest.NewRecorder()
	methods{"PUT": nil, "GET": nil, "DELETE": nil}.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if got := w.Header().Get("Allow"); w.Code != 405 || got != "DELETE, GET, HEAD, PUT" {
		t.Errorf("%d, Allow: %s", w.Code, got)
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
	f.Add([]byte(`{"weights":{"blue":0,"green":1},"ramp":"5m","force":true}`))
	f.Add([]byte(`{"ramp":null,"Ramp":"1s","weights":{}}`))
	s, err := New(Options{Address: "127.0.0.1:1", Control: newController(f, new(store))})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest("PUT", "http://127.0.0.1/api/v1/routes/predict/weights", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 && w.Code != 413 && w.Code != 422 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("no JSON: %q", w.Body)
		}
	})
}
