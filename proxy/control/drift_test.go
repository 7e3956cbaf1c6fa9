package control

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"weir/backend/backendtest"
	"weir/internal/stats"
	"weir/proxy"
)

// evenScores are n scores, evenly over the bins from one to another.
func evenScores(n, from, to int) []byte {
	d := stats.Distribution{Scale: stats.UnitScale, Counts: map[int]uint64{}}
	for i := range n {
		d.Counts[from+i%(to-from)]++
	}
	return scoresBody(map[string]stats.Distribution{"digits/1": d})
}

// driftGauges are the metrics of drift, as name{from,to}.
func (w *weir) driftGauges() map[string]float64 {
	w.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(w.Collector()); err != nil {
		w.t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "weir_drift_") {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			all[fmt.Sprintf("%s{%s,%s,%s}", f.GetName(), labels["route"], labels["from"], labels["to"])] = m.GetGauge().GetValue()
		}
	}
	return all
}

// TestDriftWithoutARollout: how far versions are apart is known while no rollout is under way: from the API of any route, and from
// the metrics where the route's rollout says what may be.
func TestDriftWithoutARollout(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{Body: evenScores(1000, 40, 80)}, "analysis: {interval: 1s, drift: {max_psi: 0.2}}")
	s.blue.SetBehaviour(backendtest.Behaviour{Body: evenScores(2000, 50, 100)})
	x := run(t, newStore(), s.parse(t))
	report, err := x.Drift(t.Context(), "predict")
	if err != nil || report.From != "blue" || len(report.Versions) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	v := report.Versions[0]
	if v.Pool != "green" || !v.Enough || !v.Drifted || v.Reference != 2000 || v.Current != 1000 || v.PSI <= 0.2 || v.PSIThreshold != 0.2 || v.KS < 0.39 || v.KSP > 1e-6 || !strings.Contains(v.Why, "at most a PSI of 0.2 is allowed") {
		t.Errorf("apart: %+v", v)
	}
	eventually(t, "the metrics tell of a drift", func() bool {
		m := x.driftGauges()
		return m["weir_drift_detected{predict,blue,green}"] == 1 && m["weir_drift_psi{predict,blue,green}"] == v.PSI && m["weir_drift_psi_threshold{predict,blue,green}"] == 0.2 && m["weir_drift_ks{predict,blue,green}"] == v.KS
	})
	s.green.SetBehaviour(backendtest.Behaviour{Body: evenScores(1000, 50, 100)})
	eventually(t, "and that it is over", func() bool {
		detected, known := x.driftGauges()["weir_drift_detected{predict,blue,green}"]
		return known && detected == 0
	})
	s.green.SetBehaviour(backendtest.Behaviour{Body: evenScores(499, 40, 80)})
	eventually(t, "and nothing of too few", func() bool { return len(x.driftGauges()) == 0 })
	report, err = x.Drift(t.Context(), "predict")
	if v := report.Versions[0]; err != nil || v.Enough || v.Drifted || v.Current != 499 || v.Why != "there are 2000 and 499 scores, of the 500 each that a judgement needs" {
		t.Errorf("too few: %+v, %v", v, err)
	}
	s.green.SetBehaviour(backendtest.Behaviour{Status: 404})
	report, err = x.Drift(t.Context(), "predict")
	if v := report.Versions[0]; err != nil || v.Enough || !strings.HasPrefix(v.Why, "no data of pool green: ") {
		t.Errorf("no such page: %+v, %v", v, err)
	}
}

// TestDriftOfAnyRoute: a route whose rollout says nothing is compared by the defaults, when it is asked for, and is not in the
// metrics; one version is compared with nothing.
func TestDriftOfAnyRoute(t *testing.T) {
	s := newRollingSite(t, backendtest.Behaviour{Body: evenScores(1000, 50, 100)}, "analysis: {interval: 1s, error_rate: {tolerate: 1%}}")
	s.blue.SetBehaviour(backendtest.Behaviour{Body: evenScores(2000, 50, 100)})
	s.yaml = strings.Replace(s.yaml, "routes:\n", "routes:\n  - {name: rank, match: {path: /rank}, split: {blue: 1}}\n", 1)
	x := run(t, newStore(), s.parse(t))
	report, err := x.Drift(t.Context(), "predict")
	if v := report.Versions[0]; err != nil || !v.Enough || v.Drifted || v.PSIThreshold != driftFloor {
		t.Errorf("alike: %+v, %v", v, err)
	}
	for route, code := range map[string]string{"rank": "no_drift", "nope": "unknown_route"} {
		_, err := x.Drift(t.Context(), route)
		if refused, ok := errors.AsType[*proxy.ControlError](err); !ok || refused.Status != 404 || refused.Code != code {
			t.Errorf("%s: %v", route, err)
		}
	}
	if m := x.driftGauges(); len(m) != 0 {
		t.Errorf("nobody asked for %v", m)
	}
}
