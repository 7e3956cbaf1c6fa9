package admin

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"weir/config"
	"weir/proxy"
)

func TestMirror(t *testing.T) {
	a := start(t)
	cfg := parse(t, site)
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	cfg.Routes[0].Mirror = &config.Mirror{Pool: "green", Percent: 5, MaxActive: 10, MaxBody: 1 << 20, Timeout: time.Second, Compare: &config.Compare{Samples: 10}}
	if _, _, err := a.Apply(cfg, proxy.Cause{By: "file"}); err != nil {
		t.Fatal(err)
	}
	report, _ := must[proxy.MirrorReport](a, "GET", predict+"/mirror", "")
	if report.Route != "predict" || report.Mirror.Pool != "green" || report.Mirror.Percent != 5 || report.Mirror.Agreement != nil || report.Disagreements == nil {
		t.Errorf("%+v", report)
	}
	d := readDescription(t)
	resp, text := a.write("GET", predict+"/mirror", "")
	d.check("the mirror", "#/components/schemas/MirrorReport", []byte(text))
	if resp.Header.Get("ETag") == "" {
		t.Error("no ETag")
	}
	_, text = a.write("GET", predict, "")
	d.check("the route", "#/components/schemas/Route", []byte(text))
	route, _ := must[proxy.RouteStatus](a, "GET", predict, "")
	if route.Mirror == nil || route.Mirror.Pool != "green" {
		t.Errorf("%+v", route)
	}
	for path, code := range map[string]string{"/api/v1/routes/rank/mirror": "no_mirror", "/api/v1/routes/nope/mirror": "unknown_route"} {
		a.refuses(t, path, code)
	}
}

// refuses wants 404 with that code.
func (a *api) refuses(t *testing.T, path, code string) {
	t.Helper()
	resp, text := a.write("GET", path, "")
	var f failure
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 404 || f.Code != code {
		t.Errorf("%s: %d %s, want code %s", path, resp.StatusCode, text, code)
	}
}
