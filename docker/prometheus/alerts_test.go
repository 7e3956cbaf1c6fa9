// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

// Package prometheus_test checks what docker/prometheus and docker/grafana ship: by promtool, by what alerts and
// dashboards have to have, and by a Prometheus that runs with it, beside weir and model servers.
package prometheus_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// ruleFile is a file of rules.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

// rule is a recording or an alerting rule.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

// testFile is a file of promtool's tests.
type testFile struct {
	RuleFiles []string `yaml:"rule_files"`
	Tests     []struct {
		Name   string
		Alerts []struct {
			Alert    string `yaml:"alertname"`
			Expected []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func read[T any](t *testing.T, path string) (v T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

// rules are those of both files.
func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, path := range []string{"rules.yml", "alerts.yml"} {
		for _, g := range read[ruleFile](t, path).Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// tool is the path of a program that scripts/setup.sh installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("no %s, that these tests need: run make setup, or on Debian apt-get install prometheus prometheus-alertmanager", name)
	}
	return path
}

func mustRun(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), tool(t, name), args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// tests are the files of promtool's tests.
func tests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("tests/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	return files
}

// TestPromtool has the tools of Prometheus and Alertmanager say that their files are valid, and the tests of rules pass.
func TestPromtool(t *testing.T) {
	dir := t.TempDir()
	configuration := rewritten(t, dir, nil)
	for _, c := range [][]string{
		{"promtool", "check", "config", configuration},
		{"promtool", "check", "rules", "rules.yml", "alerts.yml"},
		append([]string{"promtool", "test", "rules"}, tests(t)...),
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		mustRun(t, c[0], c[1:]...)
	}
}

// TestAlertsAreWhole: each has what whoever is woken by it needs, and there is a test in which it fires, and one in
// which it does not.
func TestAlertsAreWhole(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, path := range tests(t) {
		f := read[testFile](t, path)
		if !slices.Equal(f.RuleFiles, []string{"../rules.yml", "../alerts.yml"}) {
			t.Errorf("%s tests other rules: %v", path, f.RuleFiles)
		}
		for _, one := range f.Tests {
			for _, a := range one.Alerts {
				for _, e := range a.Expected {
					fires[a.Alert+e.Labels["test"]] = true
				}
				silent[a.Alert] = silent[a.Alert] || len(a.Expected) == 0
			}
		}
	}
	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts++
		// Rules that share a name tell themselves apart by the label test.
		if !fires[r.Alert+r.Labels["test"]] || !silent[r.Alert] {
			t.Errorf("%s %s: a test in which it fires: %v, and one in which it does not: %v", r.Alert, r.Labels["test"], fires[r.Alert+r.Labels["test"]], silent[r.Alert])
		}
		if !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) {
			t.Errorf("%s has the severity %q", r.Alert, r.Labels["severity"])
		}
		if got := slices.Sorted(maps.Keys(r.Annotations)); !slices.Equal(got, []string{"description", "runbook_url", "summary"}) {
			t.Errorf("%s has the annotations %v", r.Alert, got)
		}
		if !strings.Contains(string(page), "`"+r.Alert+"`") {
			t.Errorf("docs/monitoring.md does not name %s", r.Alert)
		}
		hasRunbook(t, r)
	}
	if alerts < 15 {
		t.Errorf("only %d alerts were read", alerts)
	}
}

// runbooks is where they are in the repository.
const runbooks = "docs/runbooks/"

func hasRunbook(t *testing.T, r rule) {
	t.Helper()
	at := strings.Index(r.Annotations["runbook_url"], runbooks)
	if at < 0 {
		t.Errorf("the runbook of %s is not in %s: %s", r.Alert, runbooks, r.Annotations["runbook_url"])
		return
	}
	path := filepath.Join("../..", r.Annotations["runbook_url"][at:])
	page, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%s: %v", r.Alert, err)
		return
	}
	if title, _, _ := strings.Cut(string(page), "\n"); !slices.Contains(strings.Fields(title), r.Alert) {
		t.Errorf("%s is %q, and the runbook of %s", path, title, r.Alert)
	}
	for _, part := range []string{"## What it means", "## What to look at", "## What to do", "## When it is a false alarm"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("%s has no %q", path, part)
		}
	}
}

// TestRunbooksAreAlerts: none is left over.
func TestRunbooksAreAlerts(t *testing.T) {
	named := map[string]bool{}
	for _, r := range rules(t) {
		named[filepath.Base(r.Annotations["runbook_url"])] = true
	}
	for _, path := range pages(t) {
		if !named[filepath.Base(path)] {
			t.Errorf("%s is the runbook of no alert", path)
		}
	}
}

func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../" + runbooks + "*.md")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d runbooks, %v", len(files), err)
	}
	return files
}
