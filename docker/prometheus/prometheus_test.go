// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package prometheus_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/bench/process"
)

// prometheus is a running one.
type prometheus struct {
	t   *testing.T
	url string
}

// series is one of a query's result.
type series struct {
	Metric map[string]string
	Value  [2]any
}

// get reads an answer of the API.
func (p *prometheus) get(path string, data any) error {
	resp, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

func (p *prometheus) query(expr string) ([]series, error) {
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return nil, err
	}
	if data.ResultType != "vector" {
		return nil, fmt.Errorf("%s is a %s", expr, data.ResultType)
	}
	var all []series
	return all, json.Unmarshal(data.Result, &all)
}

// eventually polls until why returns "", and ends the test with what it returned last when that takes too long.
func eventually(t *testing.T, what string, why func() string) {
	t.Helper()
	last := ""
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if last = why(); last == "" {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s: %s", deadline, what, last)
}

// elsewhere are metrics of what runs beside weir in a stack and not in this test, as their documentation has them.
func elsewhere() map[string]string {
	const node, dcgm = "node-exporter", "dcgm-exporter, default-counters.csv: needs a GPU"
	return map[string]string{
		"node_cpu_seconds_total": node, "node_memory_MemAvailable_bytes": node, "node_memory_MemTotal_bytes": node, "node_load1": node,
		"DCGM_FI_DEV_GPU_UTIL": dcgm, "DCGM_FI_DEV_FB_USED": dcgm, "DCGM_FI_DEV_FB_FREE": dcgm, "DCGM_FI_DEV_XID_ERRORS": dcgm,
	}
}

// TestPrometheus runs Prometheus with the shipped configuration beside weir and two model servers: it reaches all of
// them, its rules and those of dashboards find what they ask for, and an alert comes to Alertmanager.
func TestPrometheus(t *testing.T) {
	s := startStack(t)
	p := s.startPrometheus()
	s.traffic()
	eventually(t, "the rollouts that have ended are asked for before one has", func() string {
		return p.lacks(`weir_rollouts_total{route="predict",outcome="aborted"} == 0`)
	})
	s.order("/api/v1/routes/predict/rollout", `{"from": "blue", "to": "green"}`)
	s.order("/api/v1/routes/predict/rollout/abort", `{"reason": "for the alert"}`)
	s.order("/api/v1/routes/predict/rollout", `{"from": "blue", "to": "green"}`)

	t.Run("runbooks", func(t *testing.T) { commandsExist(t, s) })
	t.Run("targets", func(t *testing.T) { targetsAreUp(t, p) })
	t.Run("names", func(t *testing.T) { namesExist(t, p) })
	t.Run("rules", func(t *testing.T) { rulesHaveData(t, p) })
	t.Run("dashboards", func(t *testing.T) { dashboardsHaveData(t, p) })
	t.Run("alerts", func(t *testing.T) { alertsAreTold(t, s) })
}

func (s *stack) startPrometheus() *prometheus {
	s.t.Helper()
	address := free(s.t)
	dir := filepath.Join(s.dir, "prometheus")
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	pod := func(pool string) place {
		return place{[]string{s.pods[pool]}, map[string]string{"__meta_dns_name": pool}}
	}
	file := rewritten(s.t, dir, map[string][]place{
		"weir":          {{Targets: []string{s.admin}}},
		"weir-backend":  {pod("blue"), pod("green")},
		"prometheus":    {{Targets: []string{address}}},
		"alerting":      {{Targets: []string{s.alertmanager()}}},
		"alertmanager":  {}, // none of these runs here
		"node-exporter": {},
		"dcgm-exporter": {},
	})
	path, err := exec.LookPath("prometheus")
	if err != nil {
		s.t.Fatal("no prometheus, that this test needs: run make setup, or on Debian apt-get install prometheus")
	}
	s.start("http://"+address+"/-/ready", process.Spec{Name: "prometheus", Path: path, Args: []string{
		"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address, "--log.level=warn",
	}})
	return &prometheus{s.t, "http://" + address}
}

// lacks returns why a query has no result, "" where it has one.
func (p *prometheus) lacks(expr string) string {
	result, err := p.query(expr)
	switch {
	case err != nil:
		return err.Error()
	case len(result) == 0:
		return expr + " has no result"
	}
	return ""
}

func targetsAreUp(t *testing.T, p *prometheus) {
	want := map[string]string{"weir": "", "weir-backend blue": "", "weir-backend green": "", "prometheus": ""}
	eventually(t, "every target answers", func() string {
		up, err := p.query("up == 1")
		if err != nil {
			return err.Error()
		}
		got := map[string]bool{}
		for _, one := range up {
			got[strings.TrimSpace(one.Metric["job"]+" "+one.Metric["pool"])] = true
		}
		for name := range want {
			if !got[name] {
				return fmt.Sprintf("%s does not; those that do: %v", name, slices.Sorted(maps.Keys(got)))
			}
		}
		return ""
	})
}

// queries are those of a dashboard's panels, variables and annotations, with what they are called.
func (d dashboard) queries() map[string]string {
	all := map[string]string{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[fmt.Sprintf("%s: %s %s", d.file, p.Title, q.RefID)] = q.Expr
		}
	}
	for i, a := range d.Annotations.List {
		all[fmt.Sprintf("%s: annotation %d", d.file, i)] = a.Expr
	}
	return all
}

// labelValues is how a variable asks for the values of a label.
var labelValues = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)

// namesExist: every metric that a rule or a dashboard names is recorded, or is one that Prometheus got from weir, the
// model servers and itself, or is one of elsewhere.
func namesExist(t *testing.T, p *prometheus) {
	recorded := map[string]bool{}
	asked := map[string]string{}
	for _, r := range rules(t) {
		recorded[r.Record] = true
		asked["rule "+r.Record+r.Alert+" "+r.Labels["test"]] = r.Expr
	}
	for _, d := range dashboards(t) {
		maps.Copy(asked, d.queries())
		for _, v := range d.Templating.List[1:] {
			m := labelValues.FindStringSubmatch(v.Definition)
			if m == nil {
				t.Fatalf("%s: variable %s asks for %s", d.file, v.Name, v.Definition)
			}
			eventually(t, "the values of variable "+v.Name, func() string { return p.lacks(m[1] + "{" + m[2] + `!=""}`) })
		}
	}
	if len(asked) < 100 {
		t.Errorf("only %d queries were read", len(asked))
	}
	named := map[string]string{} // and by what
	for what, expr := range asked {
		names := metricsOf(expr)
		if len(names) == 0 && !strings.HasPrefix(expr, "vector(") {
			t.Errorf("%s names no metric: %s", what, expr)
		}
		for _, name := range names {
			named[name] = what
		}
	}
	other := elsewhere()
	for name, what := range named {
		if recorded[name] || other[name] != "" {
			continue
		}
		eventually(t, what+" names a metric", func() string { return p.lacks(name) })
	}
	for name, where := range other {
		if named[name] == "" {
			t.Errorf("nothing asks for %s of %s any more", name, where)
		}
	}
}

// isElsewhere reports whether a query is about what does not run here alone.
func isElsewhere(expr string) bool {
	other := elsewhere()
	return !slices.ContainsFunc(metricsOf(expr), func(name string) bool { return other[name] == "" })
}

// rulesHaveData: Prometheus has evaluated every rule without an error, and what is recorded is there.
func rulesHaveData(t *testing.T, p *prometheus) {
	shipped := rules(t)
	eventually(t, "every rule is evaluated", func() string {
		var data struct {
			Groups []struct {
				Name  string
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.get("/api/v1/rules", &data); err != nil {
			return err.Error()
		}
		evaluated := 0
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				if r.LastError != "" {
					t.Fatalf("%s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					evaluated++
				}
			}
		}
		if evaluated != len(shipped) {
			return fmt.Sprintf("%d of %d are", evaluated, len(shipped))
		}
		return ""
	})
	for _, r := range shipped {
		if r.Record != "" {
			eventually(t, "what is recorded", func() string { return p.lacks(r.Record) })
		}
	}
}

// grafanaValues puts values in the place of Grafana's variables. Its range is one that holds a few scrapes here.
var grafanaValues = strings.NewReplacer("$__rate_interval", "1m", "$route", ".*", "$pool", ".*", "$version", ".*")

// legendLabel is a label in the name of a line.
var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// dashboardsHaveData: every query has a result, with the labels that its legend speaks of.
func dashboardsHaveData(t *testing.T, p *prometheus) {
	for _, d := range dashboards(t) {
		for _, panel := range d.Panels {
			for _, q := range panel.Targets {
				what := fmt.Sprintf("%s: %s %s", d.file, panel.Title, q.RefID)
				if isElsewhere(q.Expr) {
					continue
				}
				expr := grafanaValues.Replace(q.Expr)
				eventually(t, what, func() string { return p.lacks(expr) })
				result, err := p.query(expr)
				if err != nil || len(result) == 0 {
					t.Errorf("%s has lost its result: %v", what, err)
					continue
				}
				// A label that is empty is not there: of the two of a limit, route and pool, a series has one.
				for _, m := range legendLabel.FindAllStringSubmatch(q.LegendFormat, -1) {
					if !slices.ContainsFunc(result, func(one series) bool { return one.Metric[m[1]] != "" }) {
						t.Errorf("%s: its legend is %s, and no series of the result has %s", what, q.LegendFormat, m[1])
					}
				}
			}
		}
		for _, a := range d.Annotations.List {
			if _, err := p.query(grafanaValues.Replace(a.Expr)); err != nil { // by nature empty most of the time
				t.Errorf("%s: %v", d.file, err)
			}
		}
	}
}

// alertsAreTold: the rollout that was aborted, and the route whose endpoint does not answer, come to Alertmanager with
// what their annotations are to say.
func alertsAreTold(t *testing.T, s *stack) {
	for alert, description := range map[string]string{
		"RolloutAborted":      "The new version has lost its traffic again within the last 15 minutes.",
		"ErrorBudgetBurnFast": "100% of the requests of the last hour got a 5xx: at this rate 30 days' budget of errors is gone in two.",
	} {
		eventually(t, alert+" comes", func() string {
			told := s.toldOf(alert)
			if told["description"] != description || told["runbook_url"] == "" {
				return fmt.Sprintf("it has %v", told)
			}
			return ""
		})
	}
}
