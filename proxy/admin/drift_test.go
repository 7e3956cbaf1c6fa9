package admin

import (
	"strings"
	"testing"

	"weir/proxy/control"
)

// TestDrift: endpoints that cannot be reached are told of, in an answer like any other.
func TestDrift(t *testing.T) {
	a := start(t)
	a.apply(strings.NewReplacer("'127.0.0.1:8001', '[::1]:8001'", "'127.0.0.1:1'", "127.0.0.1:8002", "127.0.0.1:1").Replace(site))
	report, resp := must[control.DriftReport](a, "GET", predict+"/drift", "")
	if report.Route != "predict" || report.From != "blue" || len(report.Versions) != 1 || report.Versions[0].Pool != "green" || !strings.HasPrefix(report.Versions[0].Why, "no data of pool blue: ") {
		t.Errorf("%+v", report)
	}
	if resp.Header.Get("ETag") == "" {
		t.Error("no ETag")
	}
	for path, code := range map[string]string{"/api/v1/routes/rank/drift": "no_drift", "/api/v1/routes/nope/drift": "unknown_route"} {
		a.refuses(t, path, code)
	}
}
