package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/config"
	"weir/proxy"
)

// probed serves a pool of one endpoint, probed as the lines say, until the end of the test.
func probed(t *testing.T, address, probe string) *proxy.Proxy {
	t.Helper()
	cfg, err := config.Parse("weir.yaml", fmt.Appendf(nil, `
listeners: [{address: "127.0.0.1:0"}]
log: {access: {output: "off"}}
pools: {blue: {endpoints: [%q], probe: {timeout: 10s, interval: 10s, rise: 1, fall: 1, %s}}}
routes: [{name: predict, split: {blue: 1}}]
`, address, probe))
	if err != nil {
		t.Fatal(err)
	}
	return serving(t, cfg)
}

// serving is a proxy with that configuration until the end of the test.
func serving(t *testing.T, cfg *config.Config) *proxy.Proxy {
	t.Helper()
	p := proxy.New(proxy.Options{Log: zap.NewNop()})
	if _, _, err := p.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { served <- p.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := p.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// asked is how many probes and inferences of weir's have been answered that way, kind and result.
func asked(t *testing.T, p *proxy.Proxy, way ...string) (n float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(p.Collector())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			found := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(way, l.GetValue()) {
					found++
				}
			}
			if f.GetName() == "weir_probes_total" && found == len(way) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// TestProbesOfWeir: the model server says what weir's probes want to hear of it: whether a model is ready, by
// the Open Inference Protocol V2, whether its parts are well, and what a model that runs predicts.
func TestProbesOfWeir(t *testing.T) {
	base := start(t, nil, "--model", "iris="+iris, "--version", "v1.0.0").base()
	address := strings.TrimPrefix(base, "http://")
	const inference = `inference: {path: %s, body: '%s', interval: 10s, json: {%s}, tolerance: 20}`
	const setosa = `{"features":[5.1,3.5,1.4,0.2]}`
	const v2 = `{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}`
	for _, test := range []struct{ name, probe, want string }{
		{"a model", "model: iris", ""},
		{"a version", "model: iris/v1.0.0", ""},
		{"another version", "model: iris/v2.0.0", "GET /v2/models/iris/versions/v2.0.0/ready answered 404, want 200-299"},
		{"another model", "model: rose", "GET /v2/models/rose/ready answered 404, want 200-299"},
		{"fields of its health", "path: /health/ready, json: {ready: true, checks.model.models.0.name: iris}", ""},
		{"a prediction", "model: iris, " + fmt.Sprintf(inference, "/predict", setosa, "prediction: 0, model: iris, probabilities.0: 1"), ""},
		{"another prediction", "model: iris, " + fmt.Sprintf(inference, "/predict", setosa, "prediction: 2"), "inference: prediction is 0; want 2"},
		{"a tensor", "model: iris, " + fmt.Sprintf(inference, "/v2/models/iris/infer", v2, "outputs.0.name: output_label, outputs.0.data.0: 0"), ""},
		{"a request it does not understand", "model: iris, " + fmt.Sprintf(inference, "/predict", "{}", "prediction: 0"), "inference: POST /predict answered 400, want 200-299"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := probed(t, address, test.probe)
			kind, result := "probe", "success"
			if strings.Contains(test.probe, "inference") {
				kind = "inference"
			}
			if test.want != "" {
				result = "failure"
			}
			for deadline := time.Now().Add(20 * time.Second); asked(t, p, kind, result) == 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("no %s of %s: %+v", result, kind, p.Status().Pools[0].Endpoints[0])
				}
			}
			var e proxy.EndpointStatus
			for range 100 { // the answer counts a moment later
				if e = p.Status().Pools[0].Endpoints[0]; e.Probe == test.want && e.Healthy == (test.want == "") {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("healthy %v: %q, want %q", e.Healthy, e.Probe, test.want)
		})
	}
}
