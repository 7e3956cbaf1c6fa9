package backend

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// driftMetrics are the ml_drift_* families: those of the scores, and with the label feature_name those of features.
type driftMetrics struct {
	ofScores, ofFeatures comparisonMetrics
	scores, reference    *prometheus.Desc
	values, valuesOf     *prometheus.Desc
}

// comparisonMetrics are what a comparison came to.
type comparisonMetrics struct {
	psi, psiThreshold, ks, ksP, detected *prometheus.Desc
}

func newDriftMetrics() driftMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ml_drift_"+name, help, append([]string{"model", "model_version"}, labels...), nil)
	}
	const against = " Against the reference, or the model's first version in the same time."
	families := func(prefix, what string, labels ...string) comparisonMetrics {
		labels = append(labels, "against")
		return comparisonMetrics{
			psi:          describe(prefix+"psi", "Population stability index of the window's "+what+"."+against, labels...),
			psiThreshold: describe(prefix+"psi_threshold", "What ml_drift_"+prefix+"psi exceeds by chance as seldom as configured, for these numbers of values and as many features as are watched; at least the configured floor.", labels...),
			ks:           describe(prefix+"ks", "Greatest distance of the cumulative distributions of the "+what+" (Kolmogorov-Smirnov)."+against, labels...),
			ksP:          describe(prefix+"ks_p_value", "Probability of an ml_drift_"+prefix+"ks as great without a drift.", labels...),
			detected:     describe(prefix+"detected", "1 while the "+what+" drift, by PSI or KS, else 0; absent while there are too few values to tell.", labels...),
		}
	}
	return driftMetrics{
		ofScores:   families("", "scores of predictions"),
		ofFeatures: families("feature_", "values of a feature", "feature_name"),
		scores:     describe("window_scores", "Prediction scores in the window that are not in the reference."),
		reference:  describe("reference_scores", "Prediction scores in the reference."),
		values:     describe("feature_window_values", "Values of a feature in the window that are not in the reference.", "feature_name"),
		valuesOf:   describe("feature_reference_values", "Values of a feature in the reference.", "feature_name"),
	}
}

func (m *driftMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, of := range []*comparisonMetrics{&m.ofScores, &m.ofFeatures} {
		for _, d := range []*prometheus.Desc{of.psi, of.psiThreshold, of.ks, of.ksP, of.detected} {
			ch <- d
		}
	}
	for _, d := range []*prometheus.Desc{m.scores, m.reference, m.values, m.valuesOf} {
		ch <- d
	}
}

func (m *driftMetrics) collect(ch chan<- prometheus.Metric, s *Server) {
	s.eachWatched(func(model, first *Model, looks []look) {
		for _, c := range s.options.Drift.compare(model, first, looks) {
			m.tell(ch, &c)
		}
	})
}

// tell tells one comparison.
func (m *driftMetrics) tell(ch chan<- prometheus.Metric, c *comparison) {
	gauge := func(d *prometheus.Desc, v float64, labels []string) {
		if !math.IsNaN(v) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
		}
	}
	families, current, reference := &m.ofScores, m.scores, m.reference
	labels := []string{c.model.Name, c.model.Version}
	if c.feature != "" {
		families, current, reference = &m.ofFeatures, m.values, m.valuesOf
		labels = append(labels, c.feature)
	}
	if c.against == "reference" {
		gauge(current, float64(c.Current), labels)
		gauge(reference, float64(c.Reference), labels)
	}
	if !c.Enough {
		return
	}
	labels = append(labels, c.against)
	detected := 0.0
	if c.Drifted {
		detected = 1
	}
	gauge(families.psi, c.PSI, labels)
	gauge(families.psiThreshold, c.PSIThreshold, labels)
	gauge(families.ks, c.KS, labels)
	gauge(families.ksP, c.KSP, labels)
	gauge(families.detected, detected, labels)
}
