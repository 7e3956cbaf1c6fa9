package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/valyala/fasthttp"

	"weir/internal/stats"
)

// DriftReference is what the scores of a model's version, or one of its features, are compared with: exactly one of
// Distribution, Scores, Values and From is set.
type DriftReference struct {
	Model   string `json:"model"`
	Version string `json:"model_version"`
	// Feature is which one's reference it is, "" for that of the scores. With From, "" is for all there are.
	Feature string `json:"feature_name,omitempty"`
	// Distribution is one that GET /drift or /drift/reference told.
	Distribution *stats.Distribution `json:"distribution,omitempty"`
	// Scores, or Values of a feature, are those of a validation, one by one.
	Scores []float64 `json:"scores,omitempty"`
	Values []float64 `json:"values,omitempty"`
	// From is "window" to pin what the window holds, "first" to begin anew with the next values.
	From string `json:"from,omitempty"`
	// Source and Complete are only told.
	Source   string `json:"source,omitempty"`
	Complete bool   `json:"complete,omitempty"`
}

// check says what is wrong, but for what depends on the model.
func (r *DriftReference) check() error {
	ways := 0
	for _, given := range []bool{r.Distribution != nil, r.Scores != nil, r.Values != nil, r.From != ""} {
		if given {
			ways++
		}
	}
	switch {
	case r.Model == "" || r.Version == "":
		return errors.New(`"model" and "model_version" must both be given`)
	case ways != 1:
		return fmt.Errorf(`%d of "distribution", "scores", "values" and "from" are given; want one`, ways)
	case r.From != "" && r.From != referenceFirst && r.From != referenceWindow:
		return fmt.Errorf("from is %q; want %q or %q", clip(r.From), referenceFirst, referenceWindow)
	case r.Scores != nil && r.Feature != "":
		return fmt.Errorf(`a feature has no "scores"; write "values" for those of %s`, clip(r.Feature))
	case r.Values != nil && r.Feature == "":
		return errors.New(`"values" are a feature's; give its "feature_name", or write "scores"`)
	case r.Scores != nil && len(r.Scores) == 0:
		return errors.New("there are no scores")
	case r.Values != nil && len(r.Values) == 0:
		return errors.New("there are no values")
	case r.Distribution != nil:
		return r.Distribution.Check()
	}
	return nil
}

// of are the series whose reference it is.
func (r *DriftReference) of(w *watch) []*series {
	if r.From != "" && r.Feature == "" {
		return w.series
	}
	var found []*series
	for _, s := range w.series {
		if s.name == r.Feature {
			found = append(found, s)
		}
	}
	return found
}

// fits says why the reference cannot be the model's, nil if it can. Called with the lock of w held.
func (r *DriftReference) fits(w *watch) *fault {
	all := r.of(w)
	if len(all) == 0 {
		of := ""
		if r.Feature != "" {
			of = " feature " + clip(r.Feature)
		}
		return &fault{status: fasthttp.StatusNotFound, kind: faultNone,
			message: fmt.Sprintf("no drift is watched of a model %s version %s%s; see GET /drift", clip(r.Model), clip(r.Version), of)}
	}
	empty := 0
	for _, s := range all {
		if r.Distribution != nil && r.Distribution.Scale != s.scale {
			return &fault{status: fasthttp.StatusConflict, kind: faultNone,
				message: fmt.Sprintf("the scale of %s version %s is %q; want %q", r.Model, r.Version, r.Distribution.Scale, s.scale)}
		}
		if now := s.window(true, nil); now.Count() == 0 {
			empty++
		}
	}
	if r.From == referenceWindow && empty == len(all) {
		return &fault{status: fasthttp.StatusConflict, kind: faultNone,
			message: fmt.Sprintf("the window of %s version %s is empty, so it cannot be the reference", r.Model, r.Version)}
	}
	return nil
}

// apply makes it the reference of the model that w watches.
func (r *DriftReference) apply(w *watch, first int) *fault {
	w.settled()
	defer w.mu.Unlock()
	if f := r.fits(w); f != nil {
		return f
	}
	for _, s := range r.of(w) {
		switch {
		case r.From == referenceFirst:
			s.collect(first)
		case r.From == referenceWindow:
			if now := s.window(true, nil); now.Count() > 0 { // a model may have features and give no scores
				s.give(now, referenceWindow)
			}
		case r.Distribution != nil:
			s.give(*r.Distribution, referenceGiven)
		default:
			s.give(stats.NewDistribution(s.scale, slices.Concat(r.Scores, r.Values)), referenceGiven)
		}
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
	// What is told of a reference while nothing has come says no more than the default.
	all.References = slices.DeleteFunc(all.References, func(r DriftReference) bool {
		return r.Source == referenceFirst && r.Distribution != nil && r.Distribution.Count() == 0
	})
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
	Model   string `json:"model"`
	Version string `json:"model_version"`
	// AlphaEach is what is left of alpha for each of what is watched of the model.
	AlphaEach float64 `json:"alpha_each"`
	// What is watched of the scores; nothing of a model that gives none.
	driftSeries
	Features []driftFeature `json:"features,omitempty"`
}

type driftFeature struct {
	Name string `json:"feature_name"`
	driftSeries
}

type driftSeries struct {
	Source      string              `json:"reference,omitempty"`
	Complete    bool                `json:"reference_complete"`
	Window      *stats.Distribution `json:"window,omitempty"`
	Comparisons []driftComparison   `json:"comparisons"`
}

type driftComparison struct {
	Against string `json:"against"`
	stats.Drift
}

// drifts answers GET /drift. Windows of features are long, and told where the query says windows=features.
func (s *Server) drifts(ctx *fasthttp.RequestCtx) {
	o := &s.options.Drift
	a := driftAnswer{Alpha: o.Alpha, Window: o.Window.Seconds(), Least: o.Least, PSIFloor: o.PSI, KSFloor: o.KS, Models: []driftModel{}}
	windows := string(ctx.QueryArgs().Peek("windows")) == "features"
	s.eachWatched(func(m, first *Model, looks []look) {
		told := driftModel{Model: m.Name, Version: m.Version, AlphaEach: o.rule(len(looks)).Alpha, driftSeries: driftSeries{Comparisons: []driftComparison{}}}
		made := o.compare(m, first, looks)
		for i := range looks {
			l := &looks[i]
			series := driftSeries{Source: l.source, Complete: l.complete}
			for _, c := range made {
				if c.feature == l.name {
					series.Comparisons = append(series.Comparisons, driftComparison{c.against, c.Drift})
				}
			}
			if l.name == "" || windows {
				series.Window = &l.window
			}
			if l.name == "" {
				told.driftSeries = series
			} else {
				told.Features = append(told.Features, driftFeature{l.name, series})
			}
		}
		a.Models = append(a.Models, told)
	})
	answer(ctx, fasthttp.StatusOK, a)
}

// eachWatched calls do with each model of which anything is watched, the first served version of its name, and its series.
func (s *Server) eachWatched(do func(m, first *Model, looks []look)) {
	models := s.repository.Load()
	if models == nil {
		return
	}
	for _, m := range models.models {
		if looks := m.watch.looks(); len(looks) > 0 {
			do(m, models.of(m.Name)[0], looks)
		}
	}
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
	s.eachWatched(func(m, _ *Model, looks []look) {
		for i := range looks {
			l := &looks[i]
			a.References = append(a.References, DriftReference{
				Model: m.Name, Version: m.Version, Feature: l.name, Distribution: &l.reference, Source: l.source, Complete: l.complete,
			})
		}
	})
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
	watches := make([]*watch, len(references))
	for i := range references {
		r := &references[i]
		at := slices.IndexFunc(models.models, func(m *Model) bool { return m.Name == r.Model && m.Version == r.Version })
		if at < 0 {
			return &fault{status: fasthttp.StatusNotFound, kind: faultNone,
				message: fmt.Sprintf("no drift is watched of a model %s version %s; see GET /drift", clip(r.Model), clip(r.Version))}
		}
		watches[i] = models.models[at].watch
		watches[i].settled()
		f := r.fits(watches[i])
		watches[i].mu.Unlock()
		if f != nil {
			return f
		}
	}
	for i, w := range watches {
		if f := references[i].apply(w, s.options.Drift.First); f != nil { // the window has emptied meanwhile
			return f
		}
	}
	return nil
}
