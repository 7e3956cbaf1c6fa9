package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"

	"weir/docker/checks/manifest"
)

// adapterRule is a rule of the Prometheus adapter.
type adapterRule struct {
	SeriesQuery string `json:"seriesQuery"`
	Resources   struct {
		Overrides map[string]struct {
			Resource string `json:"resource"`
		} `json:"overrides"`
	} `json:"resources"`
	Name struct {
		Matches string `json:"matches"`
		As      string `json:"as"`
	} `json:"name"`
	MetricsQuery string `json:"metricsQuery"`
}

func adapterRules(t *testing.T) map[string]adapterRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "adapter/values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Rules struct {
			Default bool          `json:"default"`
			Custom  []adapterRule `json:"custom"`
		} `json:"rules"`
	}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	rules := map[string]adapterRule{}
	for _, r := range values.Rules.Custom {
		rules[r.Name.As] = r
	}
	return rules
}

// TestAdapterServesTheAutoscaler finds a rule for each custom metric of the autoscaler, and each metric that the rules name
// in weir.
func TestAdapterServesTheAutoscaler(t *testing.T) {
	rules, asked := adapterRules(t), 0
	for _, h := range manifest.All[autoscalingv2.HorizontalPodAutoscaler](build(t, filepath.Join(root, "overlays/production"))) {
		for _, m := range h.Spec.Metrics {
			if m.Pods == nil {
				continue
			}
			asked++
			r, ok := rules[m.Pods.Metric.Name]
			if !ok {
				t.Errorf("no rule serves %s", m.Pods.Metric.Name)
			}
			if r.Resources.Overrides["pod"].Resource != "pod" || r.Resources.Overrides["namespace"].Resource != "namespace" {
				t.Errorf("%s is not of pods", m.Pods.Metric.Name)
			}
		}
	}
	if asked != 4 {
		t.Errorf("the autoscalers ask for %d metrics of pods", asked)
	}
	var code strings.Builder
	files, err := filepath.Glob("../../../proxy/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	for _, r := range rules {
		for _, name := range regexp.MustCompile(`\bweir_[a-z0-9_]+`).FindAllString(r.MetricsQuery, -1) {
			if !strings.Contains(code.String(), `"`+strings.TrimPrefix(name, "weir_")+`"`) {
				t.Errorf("weir has no metric %s", name)
			}
		}
	}
}

// query is what the adapter asks Prometheus for some pods.
func (r *adapterRule) query(t *testing.T) string {
	t.Helper()
	parsed, err := template.New("").Delims("<<", ">>").Option("missingkey=error").Parse(r.MetricsQuery)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := parsed.Execute(&b, map[string]string{
		"Series": "up", "LabelMatchers": `namespace="production",pod=~"blue-1|blue-2|green-1|green-2"`, "GroupBy": "pod",
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// TestAdapterQueries has promtool run the adapter's queries over three weirs and two pools: blue has two pods of which
// one is down to Prometheus, green has two and no requests. Another namespace has the same names.
func TestAdapterQueries(t *testing.T) {
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type expectation struct {
		Expr     string   `json:"expr"`
		EvalTime string   `json:"eval_time"`
		Samples  []sample `json:"exp_samples"`
	}
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	var input []series
	add := func(name, value string) { input = append(input, series{name, value + "x20"}) }
	for _, pod := range []string{"blue-1", "green-1", "green-2"} {
		pool, _, _ := strings.Cut(pod, "-")
		add(`up{job="weir-backend",namespace="production",pool="`+pool+`",pod="`+pod+`"}`, "1+0")
	}
	add(`up{job="weir-backend",namespace="production",pool="blue",pod="blue-2"}`, "0+0")
	add(`up{job="weir",namespace="production",pod="weir-1"}`, "1+0")
	for _, pod := range []string{"blue-1", "blue-2"} {
		add(`up{job="weir-backend",namespace="staging",pool="blue",pod="`+pod+`"}`, "1+0")
	}
	for weir, figures := range map[string][2]string{"weir-1": {"900", "0.2"}, "weir-2": {"700", "0.6"}, "weir-3": {"0", ""}} {
		add(`weir_pool_requests_per_second{namespace="production",pod="`+weir+`",pool="blue"}`, figures[0]+"+0")
		if figures[1] != "" { // without requests there is none
			add(`weir_pool_p95_seconds{namespace="production",pod="`+weir+`",pool="blue"}`, figures[1]+"+0")
		}
		add(`weir_pool_requests_per_second{namespace="production",pod="`+weir+`",pool="green"}`, "0+0")
	}
	add(`weir_pool_requests_per_second{namespace="staging",pod="weir-1",pool="blue"}`, "5000+0")
	add(`weir_pool_p95_seconds{namespace="staging",pod="weir-1",pool="blue"}`, "9+0")

	rules := adapterRules(t)
	rate, latency := rules["http_requests_per_second"], rules["prediction_latency_p95"]
	var file struct {
		RuleFiles []string `json:"rule_files"`
		Tests     []any    `json:"tests"`
	}
	file.RuleFiles = []string{}
	file.Tests = []any{map[string]any{
		"interval": "15s", "input_series": input,
		"promql_expr_test": []expectation{
			{rate.query(t), "2m", []sample{{`{pod="blue-1"}`, 1600}, {`{pod="green-1"}`, 0}, {`{pod="green-2"}`, 0}}},
			{latency.query(t), "2m", []sample{{`{pod="blue-1"}`, 0.6}, {`{pod="green-1"}`, 0}, {`{pod="green-2"}`, 0}}},
			{rate.SeriesQuery + " == 0", "2m", []sample{{`up{job="weir-backend",namespace="production",pool="blue",pod="blue-2"}`, 0}}},
		},
	}}
	text, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is missing: it is in Debian's package prometheus, which make setup installs")
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s\n%s", err, out, text)
	}
}
