// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package prometheus_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dashboard is a dashboard in Grafana's classic form, as far as tests look at it.
type dashboard struct {
	file          string
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct{ List []variable }
	Annotations   struct{ List []struct{ Expr string } }
}

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    struct{ X, Y, W, H int }
	Datasource struct{ Type, UID string }
	Targets    []target
}

type target struct {
	RefID, Expr, LegendFormat string
	Datasource                struct{ UID string }
}

type variable struct {
	Name, Type, Definition string
}

func dashboards(t *testing.T) (all []dashboard) {
	t.Helper()
	files, err := filepath.Glob("../grafana/dashboards/*.json")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// panelTypes are those that Grafana still has: graph and singlestat went with Angular.
func panelTypes() []string {
	return []string{"row", "timeseries", "stat", "gauge", "table", "heatmap", "state-timeline"}
}

// TestDashboardsCanBeProvisioned: each is a dashboard itself rather than a question to an API that holds one, and has
// what Grafana goes by when it reads it again and again.
func TestDashboardsCanBeProvisioned(t *testing.T) {
	uids := map[string]string{}
	for _, d := range dashboards(t) {
		if d.UID == "" || d.Title == "" || d.SchemaVersion < 39 || len(d.Panels) == 0 {
			t.Errorf("%s: uid %q, title %q, schema %d, %d panels", d.file, d.UID, d.Title, d.SchemaVersion, len(d.Panels))
		}
		if other := uids[d.UID]; other != "" {
			t.Errorf("%s and %s have the uid %s", d.file, other, d.UID)
		}
		uids[d.UID] = d.file
		if d.file != d.UID+".json" {
			t.Errorf("%s has the uid %s", d.file, d.UID)
		}
		if len(d.Templating.List) == 0 || d.Templating.List[0].Type != "datasource" || d.Templating.List[0].Name != "datasource" {
			t.Errorf("%s: its first variable is not the data source", d.file)
		}
		ids := map[int]bool{}
		for i, p := range d.Panels {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %s: the id %d is not its own", d.file, p.Title, p.ID)
			}
			ids[p.ID] = true
			checkPanel(t, d, p)
			for _, other := range d.Panels[:i] {
				if overlap(p, other) {
					t.Errorf("%s: %s lies over %s", d.file, p.Title, other.Title)
				}
			}
		}
	}
}

func overlap(a, b panel) bool {
	return a.GridPos.X < b.GridPos.X+b.GridPos.W && b.GridPos.X < a.GridPos.X+a.GridPos.W &&
		a.GridPos.Y < b.GridPos.Y+b.GridPos.H && b.GridPos.Y < a.GridPos.Y+a.GridPos.H
}

// grafanaVariable is a variable in a query.
var grafanaVariable = regexp.MustCompile(`\$\{?(\w+)`)

func checkPanel(t *testing.T, d dashboard, p panel) {
	t.Helper()
	if !slices.Contains(panelTypes(), p.Type) {
		t.Errorf("%s: %s is a %s", d.file, p.Title, p.Type)
	}
	if g := p.GridPos; p.Title == "" || g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
		t.Errorf("%s: %q is at %+v", d.file, p.Title, g)
	}
	if p.Type == "row" {
		return
	}
	if p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
		t.Errorf("%s: %s asks %+v %d times", d.file, p.Title, p.Datasource, len(p.Targets))
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.RefID == "" || refs[q.RefID] || q.Expr == "" || q.Datasource.UID != "${datasource}" {
			t.Errorf("%s: %s: query %+v", d.file, p.Title, q)
		}
		refs[q.RefID] = true
		for _, m := range grafanaVariable.FindAllStringSubmatch(q.Expr, -1) {
			known := strings.HasPrefix(m[1], "__") || slices.ContainsFunc(d.Templating.List, func(v variable) bool { return v.Name == m[1] })
			if !known {
				t.Errorf("%s: %s: there is no variable %s", d.file, p.Title, m[1])
			}
		}
	}
}

// TestDashboardsHaveTheGuidesPanels, under the names that it gave them.
func TestDashboardsHaveTheGuidesPanels(t *testing.T) {
	var got []string
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			if d.UID == "weir-models" && p.GridPos.Y < 16 && p.Type != "row" {
				got = append(got, p.Type+" "+p.Title)
			}
		}
	}
	want := []string{"timeseries Request Rate", "timeseries Latency Percentiles", "timeseries Error Rate",
		"timeseries GPU Memory Usage", "heatmap Prediction Distribution", "timeseries Active Requests"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the first panels of weir-models (-want +got):\n%s", diff)
	}
}

// TestProvisioning: the provider looks where the dashboards are mounted, and the data source is a Prometheus.
func TestProvisioning(t *testing.T) {
	source := read[struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct{ Name, UID, Type, URL string }
	}](t, "../grafana/provisioning/datasources/prometheus.yaml")
	if len(source.Datasources) != 1 || source.APIVersion != 1 || source.Datasources[0].Type != "prometheus" || source.Datasources[0].URL != "http://prometheus:9090" {
		t.Errorf("data sources: %+v", source)
	}
	provider := read[struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type string
			Options    struct{ Path string }
		}
	}](t, "../grafana/provisioning/dashboards/weir.yaml")
	if len(provider.Providers) != 1 || provider.APIVersion != 1 || provider.Providers[0].Type != "file" || provider.Providers[0].Options.Path != "/var/lib/grafana/dashboards" {
		t.Errorf("providers: %+v", provider)
	}
}
