package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func (w *weir) metrics() string {
	w.t.Helper()
	resp, err := http.Get(w.admin + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		w.t.Fatalf("/metrics: %s: %s", resp.Status, text)
	}
	return string(text)
}

func TestMetricsPage(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	w := serve(t, blueGreen(blue, green, "blue: 1, green: 0"))
	w.variants(5)
	if resp, err := http.Get("http://" + w.addr + "/elsewhere"); err != nil || resp.StatusCode != 404 {
		t.Fatal(resp, err)
	}
	eventually(t, "the last request is counted", func() bool {
		return strings.Contains(w.metrics(), `weir_requests_total{code="404",method="GET",route="",variant=""} 1`)
	})
	page := w.metrics()
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for name, labels := range map[string]string{
		"weir_requests_total":                       "code method route variant",
		"weir_request_duration_seconds":             "route variant",
		"weir_attempts_total":                       "endpoint outcome pool",
		"weir_attempt_duration_seconds":             "endpoint pool",
		"weir_spillover_total":                      "route variant",
		"weir_state_write_failures_total":           "",
		"weir_variant_weight":                       "route variant",
		"weir_endpoint_weight":                      "endpoint pool",
		"weir_endpoint_inflight":                    "endpoint pool",
		"weir_endpoint_healthy":                     "endpoint pool",
		"weir_endpoint_ejected":                     "endpoint pool",
		"weir_panics_total":                         "",
		"weir_access_log_dropped_total":             "",
		"weir_config_generation":                    "",
		"weir_config_last_reload_successful":        "",
		"weir_config_last_reload_timestamp_seconds": "",
		"go_goroutines":                             "",
		"process_cpu_seconds_total":                 "",
	} {
		family := families[name]
		if family == nil {
			t.Errorf("no %s", name)
			continue
		}
		var got []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			got = append(got, l.GetName())
		}
		slices.Sort(got)
		if strings.Join(got, " ") != labels {
			t.Errorf("%s has the labels %v, want %s", name, got, labels)
		}
	}
	for _, line := range []string{
		`weir_requests_total{code="200",method="GET",route="predict",variant="blue"} 5`,
		`weir_request_duration_seconds_count{route="predict",variant="blue"} 5`,
		`weir_attempts_total{endpoint="` + blue.Addr() + `",outcome="success",pool="blue"} 5`,
		`weir_variant_weight{route="predict",variant="green"} 0`,
		`weir_config_generation 1`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

// What a client makes up never becomes a label.
func TestMetricsLabelsAreBounded(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1"))
	for _, method := range []string{"BREW", "PROPFIND", "X1"} {
		req, err := http.NewRequest(method, "http://"+w.addr+"/predict", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	eventually(t, "the requests are counted as OTHER", func() bool {
		return strings.Contains(w.metrics(), `method="OTHER",route="predict",variant="blue"} 3`)
	})
	if strings.Contains(w.metrics(), "BREW") {
		t.Error("a method that a client made up is a label")
	}
}
