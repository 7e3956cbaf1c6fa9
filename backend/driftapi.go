package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"weir/internal/stats"
)

// DriftReference is what the scores of a model's version are compared with: exactly one of
// Distribution, Scores and From is set.
type DriftReference struct {
	Model   string `json:"model"`
	Version string `json:"model_version"`
	// Distribution is one that GET /drift or /drift/reference told.
	Distribution *stats.Distribution `json:"distribution,omitempty"`
	// Scores are those of a validation, one by one.
	Scores []float64 `json:"scores,omitempty"`
	// From is "window" to pin what the window holds, "first" to begin anew with the next scores.
	From string `json:"from,omitempty"`
	// Source and Complete are only told.
	Source   string `json:"source,omitempty"`
	Complete bool   `json:"complete,omitempty"`
}

// check says what is wrong, but for what depends on the model.
func (r *DriftReference) check() error {
	ways := 0
	for _, given := range []bool{r.Distribution != nil, r.Scores != nil, r.From != ""} {
		if given {
			ways++
		}
	}
	switch {
	case r.Model == "" || r.Version == "":
		return errors.New(`"model" and "model_version" must both be given`)
	case ways != 1:
		return fmt.Errorf(`%d of "distribution", "scores" and "from" are given; want one`, ways)
	case r.From != "" && r.From != referenceFirst && r.From != referenceWindow:
		return fmt.Errorf("from is %q; want %q or %q", clip(r.From), referenceFirst, referenceWindow)
	case r.Scores != nil && len(r.Scores) == 0:
		return errors.New("there are no scores")
	case r.Distribution != nil:
		return r.Distribution.Check()
	}
	return nil
}

// fits says whether the reference can be the model's.
func (r *DriftReference) fits(d *drift) error {
	if r.Distribution != nil && r.Distribution.Scale != d.scale {
		return fmt.Errorf("the scale of %s version %s is %q; want %q", r.Model, r.Version, r.Distribution.Scale, d.scale)
	}
	if r.From == referenceWindow {
		if now := d.window(); now.Count() == 0 {
			return fmt.Errorf("the window of %s version %s is empty, so it cannot be the reference", r.Model, r.Version)
		}
	}
	return nil
}

// apply makes it the reference of d.
func (r *DriftReference) apply(d *drift, first int) error {
	if err := r.fits(d); err != nil {
		return err
	}
	switch {
	case r.From == referenceFirst:
		d.collect(first)
	case r.From == referenceWindow:
		d.give(d.window(), referenceWindow)
	case r.Distribution != nil:
		d.give(*r.Distribution, referenceGiven)
	default:
		d.give(stats.NewDistribution(d.scale, r.Scores), referenceGiven)
	}
	return nil
}

// DriftReferences is the form of a file of references, and of GET and PUT /drift/reference.
type DriftReferences struct {
	References []DriftReference `json:"references"`
}

// ParseDriftReferences reads and checks them.
func ParseDriftReferences(raw []byte) ([]DriftReference, error) {
	var all DriftReferences
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`%w; want {"references": [{"model": …, "model_version": …, "scores": […]}]}`, err)
	}
	if len(all.References) == 0 {
		return nil, errors.New(`no "references"; want {"references": [{"model": …, "model_version": …, "scores": […]}]}`)
	}
	for i := range all.References {
		if err := all.References[i].check(); err != nil {
			return nil, fmt.Errorf("references[%d]: %w", i, err)
		}
	}
	return all.References, nil
}

// driftAnswer is what GET /drift says.
type driftAnswer struct {
	Alpha    float64      `json:"alpha"`
	Window   float64      `json:"window_seconds"`
	Least    int          `json:"least"`
	PSIFloor float64      `json:"psi_floor"`
	KSFloor  float64      `json:"ks_floor"`
	Models   []driftModel `json:"models"`
}

type driftModel struct {
	Model       string             `json:"model"`
	Version     string             `json:"model_version"`
	Source      string             `json:"reference"`
	Complete    bool               `json:"reference_complete"`
	Window      stats.Distribution `json:"window"`
	Comparisons []driftComparison  `json:"comparisons"`
}

type driftComparison struct {
	Against string `json:"against"`
	stats.Drift
}

// drifts answers GET /drift.
func (s *Server) drifts(ctx *fasthttp.RequestCtx) {
	o := &s.options.Drift
	a := driftAnswer{Alpha: o.Alpha, Window: o.Window.Seconds(), Least: o.Least, PSIFloor: o.PSI, KSFloor: o.KS, Models: []driftModel{}}
	for _, c := range s.comparisons() {
		if last := len(a.Models) - 1; last < 0 || a.Models[last].Model != c.model.Name || a.Models[last].Version != c.model.Version {
			_, source, complete := c.model.drift.reference()
			a.Models = append(a.Models, driftModel{
				Model: c.model.Name, Version: c.model.Version, Source: source, Complete: complete, Window: c.model.drift.window(),
			})
		}
		m := &a.Models[len(a.Models)-1]
		m.Comparisons = append(m.Comparisons, driftComparison{c.against, c.Drift})
	}
	answer(ctx, fasthttp.StatusOK, a)
}

// driftReference answers /drift/reference.
func (s *Server) driftReference(ctx *fasthttp.RequestCtx) *fault {
	if string(ctx.Method()) == fasthttp.MethodPut {
		if f := s.setReferences(ctx); f != nil {
			return f
		}
	} else if f := allow(ctx, fasthttp.MethodGet); f != nil {
		ctx.Response.Header.Set("Allow", "GET, PUT")
		return f
	}
	a := DriftReferences{References: []DriftReference{}}
	if models := s.repository.Load(); models != nil {
		for _, m := range models.models {
			if m.drift != nil {
				r, source, complete := m.drift.reference()
				a.References = append(a.References, DriftReference{Model: m.Name, Version: m.Version, Distribution: &r, Source: source, Complete: complete})
			}
		}
	}
	answer(ctx, fasthttp.StatusOK, a)
	return nil
}

// setReferences sets all the references of a request, or none.
func (s *Server) setReferences(ctx *fasthttp.RequestCtx) *fault {
	if !s.options.Drift.Control {
		return &fault{status: fasthttp.StatusForbidden, kind: faultNone,
			message: "references cannot be set here; drift.control: true in the file of -c, or --drift-control, lets clients do it"}
	}
	raw, f := body(ctx)
	if f != nil {
		return f
	}
	references, err := ParseDriftReferences(raw)
	if err != nil {
		return &fault{status: fasthttp.StatusBadRequest, kind: faultNone, message: err.Error()}
	}
	models, f := s.loadedModels()
	if f != nil {
		return f
	}
	drifts := make([]*drift, len(references))
	for i := range references {
		r := &references[i]
		at := slices.IndexFunc(models.models, func(m *Model) bool { return m.Name == r.Model && m.Version == r.Version })
		if at < 0 || models.models[at].drift == nil {
			return &fault{status: fasthttp.StatusNotFound, kind: faultNone,
				message: fmt.Sprintf("no drift is watched of a model %s version %s; see GET /drift", clip(r.Model), clip(r.Version))}
		}
		drifts[i] = models.models[at].drift
		if err := r.fits(drifts[i]); err != nil {
			return &fault{status: fasthttp.StatusConflict, kind: faultNone, message: err.Error()}
		}
	}
	for i, d := range drifts {
		if err := references[i].apply(d, s.options.Drift.First); err != nil { // the window has emptied meanwhile
			return &fault{status: fasthttp.StatusConflict, kind: faultNone, message: err.Error()}
		}
	}
	return nil
}

// driftMetrics are the ml_drift_* families.
type driftMetrics struct {
	psi, psiThreshold, ks, ksP, detected, scores, reference *prometheus.Desc
}

func newDriftMetrics() driftMetrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ml_drift_"+name, help, append([]string{"model", "model_version"}, labels...), nil)
	}
	const against = " Against the reference, or the window of the model's first version."
	return driftMetrics{
		psi:          describe("psi", "Population stability index of the window's prediction scores."+against, "against"),
		psiThreshold: describe("psi_threshold", "What ml_drift_psi exceeds by chance as seldom as configured, for these numbers of scores; at least the configured floor.", "against"),
		ks:           describe("ks", "Greatest distance of the cumulative distributions of the scores (Kolmogorov-Smirnov)."+against, "against"),
		ksP:          describe("ks_p_value", "Probability of an ml_drift_ks as great without a drift.", "against"),
		detected:     describe("detected", "1 while the scores drift, by PSI or KS, else 0; absent while there are too few scores to tell.", "against"),
		scores:       describe("window_scores", "Prediction scores in the window."),
		reference:    describe("reference_scores", "Prediction scores in the reference."),
	}
}

func (m *driftMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.psi, m.psiThreshold, m.ks, m.ksP, m.detected, m.scores, m.reference} {
		ch <- d
	}
}

func (m *driftMetrics) collect(ch chan<- prometheus.Metric, s *Server) {
	for _, c := range s.comparisons() {
		labels := []string{c.model.Name, c.model.Version}
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			if !math.IsNaN(v) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
			}
		}
		if c.against == "reference" {
			gauge(m.scores, float64(c.Current), labels...)
			gauge(m.reference, float64(c.Reference), labels...)
		}
		if !c.Enough {
			continue
		}
		labels = append(labels, c.against)
		detected := 0.0
		if c.Drifted {
			detected = 1
		}
		gauge(m.psi, c.PSI, labels...)
		gauge(m.psiThreshold, c.PSIThreshold, labels...)
		gauge(m.ks, c.KS, labels...)
		gauge(m.ksP, c.KSP, labels...)
		gauge(m.detected, detected, labels...)
	}
}
