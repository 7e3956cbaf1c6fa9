package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Experiment says what is measured of a route's variants as arms of an experiment.
type Experiment struct {
	Control string // the variant that the others are compared with; "": the first of the split
	// Layer is nil where all units take part.
	Layer   *Layer
	HoldOut float64 // part of the units, 0 to 1, that get the control and are in no comparison
	// Force is the name of the header field by which a tester chooses the arm; "": nobody can.
	Force    string
	Outcomes []ExperimentOutcome // the first decides
	Alpha    float64
	Expect   int
	// Allocation is nil where the weights are somebody else's.
	Allocation *Allocation
}

// Layer is a part of the units of a layer, whose experiments have none in common where their parts do not overlap.
type Layer struct {
	Name     string
	From, To float64 // 0 to 1
}

// Sources of an outcome.
const (
	OutcomeStatus  = "status"  // whether the request succeeded
	OutcomeLatency = "latency" // of the answer
	OutcomeAPI     = "api"     // what the admin API is told later
	OutcomeJSON    = "json"    // a field of the answer
)

// ExperimentOutcome is something that arms may differ in.
type ExperimentOutcome struct {
	Name string
	From string // one of the sources
	Path string // of the field, for OutcomeJSON
	Goal string // GoalIncrease or GoalDecrease
	// Window is how long after a request OutcomeAPI may be told, and Aggregate what several of a subject come to:
	// AggregateSum or AggregateMean.
	Window    time.Duration
	Aggregate string
}

// What is told of several requests of a subject comes to.
const (
	AggregateSum  = "sum"  // and to 0 where nothing is told
	AggregateMean = "mean" // and to nothing
)

// What is good about an outcome.
const (
	GoalIncrease = "increase"
	GoalDecrease = "decrease"
)

// Allocation has the weights follow what is measured (Thompson sampling).
type Allocation struct {
	Floor, Cap float64 // 0 to 1
	MinUnits   int
	Interval   time.Duration
}

// DefaultExperiment is one without outcomes, which have no default.
func DefaultExperiment() Experiment { return Experiment{Alpha: 0.05, Expect: 5000} }

// DefaultExperimentOutcome is one without a name and a source, which have no default.
func DefaultExperimentOutcome() ExperimentOutcome {
	return ExperimentOutcome{Goal: GoalIncrease, Window: 24 * time.Hour, Aggregate: AggregateSum}
}

// DefaultAllocation leaves every arm a tenth.
func DefaultAllocation() Allocation {
	return Allocation{Floor: 0.1, Cap: 0.9, MinUnits: 1000, Interval: 5 * time.Minute}
}

func experimentShape() shape[*Experiment] {
	return optional[Experiment]{fresh: DefaultExperiment, inner: object[Experiment]{fields: []field[Experiment]{
		key("control", optionalTextShape("a variant of the split"), func(e *Experiment) *string { return &e.Control },
			"The variant that the others are compared with. Absent: the first of the split."),
		key("layer", optional[Layer]{fresh: func() Layer { return Layer{To: 1} }, inner: object[Layer]{fields: []field[Layer]{
			key("name", nameShape(), func(l *Layer) *string { return &l.Name },
				"The name of the layer. Its experiments see the same subjects at the same places.").must(),
			key("from", fractionShape(), func(l *Layer) *float64 { return &l.From },
				"The place in the layer, as a percentage, from which on subjects take part."),
			key("to", fractionShape(), func(l *Layer) *float64 { return &l.To },
				"The place up to which they do. Parts of a layer on several routes must not overlap."),
		}}}, func(e *Experiment) **Layer { return &e.Layer },
			"Lets a part of the subjects take part, so that no subject is in two experiments of the layer; the others get the control. Absent: all take part."),
		key("hold_out", fractionShape(), func(e *Experiment) *float64 { return &e.HoldOut },
			"The percentage of subjects that get the control and are in no comparison."),
		key("force", optionalHeaderShape(), func(e *Experiment) *string { return &e.Force },
			"The header field with which testers choose an arm, by the name of its variant. Such requests are in no comparison. Absent: nobody can."),
		key("outcomes", list[ExperimentOutcome]{noun: "outcome", least: 1, most: 16, fresh: DefaultExperimentOutcome, elem: object[ExperimentOutcome]{fields: []field[ExperimentOutcome]{
			key("name", nameShape(), func(o *ExperimentOutcome) *string { return &o.Name },
				"What it is called.").must(),
			key("from", outcomeSourceShape(), func(o *ExperimentOutcome) *ExperimentOutcome { return o },
				"Where its values are: status (1, or 0 for a status from 500), latency (seconds to the end of the answer, of an event stream to its first byte), json:PATH (a number or a truth value in an answer of up to 256KiB) or api (told later through the admin API, by the id of the request).").must(),
			key("goal", choiceShape("goal", []string{GoalIncrease, GoalDecrease}), func(o *ExperimentOutcome) *string { return &o.Goal },
				"Whether more of it is better, increase, or less, decrease."),
			key("window", durationShape(), func(o *ExperimentOutcome) *time.Duration { return &o.Window },
				"How long after a request api may be told of it."),
			key("aggregate", choiceShape("aggregate", []string{AggregateSum, AggregateMean}), func(o *ExperimentOutcome) *string { return &o.Aggregate },
				"What api tells of several requests of a subject comes to: sum (0 where nothing is told, as for purchases), or mean (nothing is told: it has no value, as for labels)."),
		}}}, func(e *Experiment) *[]ExperimentOutcome { return &e.Outcomes },
			"What arms may differ in. The first decides; all are shown. A subject counts once, with the mean of its requests.").must(),
		key("alpha", alphaShape(), func(e *Experiment) *float64 { return &e.Alpha },
			"The probability with which any of the intervals ever misses the true effect, however often they are looked at."),
		key("expect", countShape(100), func(e *Experiment) *int { return &e.Expect },
			"The number of subjects of an arm at which the intervals are to be tightest: about as many as a decision will take."),
		key("allocation", optional[Allocation]{fresh: DefaultAllocation, inner: object[Allocation]{fields: []field[Allocation]{
			key("floor", fractionShape(), func(a *Allocation) *float64 { return &a.Floor },
				"The percentage of subjects that every arm keeps."),
			key("cap", fractionShape(), func(a *Allocation) *float64 { return &a.Cap },
				"The percentage that no arm exceeds."),
			key("min_units", countShape(100), func(a *Allocation) *int { return &a.MinUnits },
				"How many subjects each arm needs before weights change."),
			key("interval", durationShape(), func(a *Allocation) *time.Duration { return &a.Interval },
				"From one change of weights to the next."),
		}}}, func(e *Experiment) **Allocation { return &e.Allocation },
			"Has each arm's weight follow the probability that it is the best by the first outcome (Thompson sampling). It rests while a rollout is under way. Absent: the weights are as they are set."),
	}}}
}

func optionalHeaderShape() shape[string] {
	return scalar[string]{
		want: "the name of a header such as X-Weir-Arm", free: true, optional: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) { return s, checkToken(s, "header") },
	}
}

func outcomeSourceShape() shape[ExperimentOutcome] {
	const want = "status, latency, api or json:PATH such as json:output.score"
	return through[ExperimentOutcome, source]{
		get: func(o *ExperimentOutcome) source { return source{o.From, o.Path} },
		set: func(o *ExperimentOutcome, s source) { o.From, o.Path = s.kind, s.name },
		inner: scalar[source]{
			want: want, free: true, body: textSchema, format: source.String,
			parse: func(s string) (source, error) {
				kind, path, named := strings.Cut(s, ":")
				switch {
				case !named && (kind == OutcomeStatus || kind == OutcomeLatency || kind == OutcomeAPI), kind == OutcomeJSON && path != "" && parsesText(path):
					return source{kind, path}, nil
				}
				return source{}, fmt.Errorf("%q is no source of an outcome; write %s", clip(s), want)
			},
		},
	}
}

func parsesText(s string) bool {
	_, err := parseText(s)
	return err == nil
}

func validateExperiment(r *report, route *Route, at string) {
	e := route.Experiment
	if o := route.Rollout; e == nil && o != nil && o.Analysis != nil && o.Analysis.Experiment != nil && r.sound(at) {
		key := strings.TrimSuffix(at, "experiment") + "rollout.analysis.experiment"
		r.fault(key, "asks the experiment of the route, which has none; write experiment, or leave it out")
	}
	if e == nil || !r.sound(at) {
		return
	}
	if route.Affinity == nil && r.sound(strings.TrimSuffix(at, ".experiment")+".affinity") {
		r.fault(at, "needs to know who is who; write affinity, such as affinity: {key: \"header:X-User-ID\"}")
	}
	arms := 0
	known := e.Control == ""
	var names []string
	for _, v := range route.Split {
		arms++
		names = append(names, v.Pool)
		known = known || v.Pool == e.Control
	}
	if arms < 2 && r.sound(strings.TrimSuffix(at, ".experiment")+".split") {
		r.fault(at, "compares nothing: the split has %s; write another one", count(arms, "variant"))
	} else if !known {
		r.fault(at+".control", "%q is no variant of the split (have %s)", clip(e.Control), choices(names, ""))
	}
	if l := e.Layer; l != nil && l.From >= l.To {
		r.fault(at+".layer.to", "%s is no more than from, %s, so that nobody takes part; write a greater one", percent(l.To), percent(l.From))
	}
	if e.HoldOut >= 1 {
		r.fault(at+".hold_out", "leaves nobody to compare; write less than 100")
	}
	seen := map[string]bool{}
	for i, o := range e.Outcomes {
		if seen[o.Name] {
			r.fault(item(at+".outcomes", i)+".name", "there is another outcome %q; write another name", o.Name)
		}
		seen[o.Name] = true
	}
	if a := e.Allocation; a != nil && arms > 0 && (a.Floor*float64(arms) > 1 || a.Cap*float64(arms) < 1) {
		r.fault(at+".allocation", "leaves no shares for %s: floor is %s, cap %s; write a floor of at most %s and a cap of at least as much",
			count(arms, "variant"), percent(a.Floor), percent(a.Cap), percent(1/float64(arms)))
	}
}

func percent(f float64) string { return formatNumber(100*f) + " %" }

// validateLayers refuses parts of a layer that overlap: a subject would be in two experiments.
func validateLayers(r *report, routes []Route) {
	type part struct {
		*Layer
		route string
		at    string
	}
	parts := map[string][]part{}
	for i := range routes {
		if e := routes[i].Experiment; e != nil && e.Layer != nil && r.sound(item("routes", i)) {
			parts[e.Layer.Name] = append(parts[e.Layer.Name], part{e.Layer, routes[i].Name, item("routes", i) + ".experiment.layer"})
		}
	}
	for _, all := range parts {
		slices.SortStableFunc(all, func(a, b part) int { return cmp.Compare(a.From, b.From) })
		for i := 1; i < len(all); i++ {
			if a, b := all[i-1], all[i]; b.From < a.To {
				r.fault(b.at, "begins at %s, where that of route %s ends at %s, so that subjects would be in both experiments; write parts of layer %s that do not overlap",
					percent(b.From), a.route, percent(a.To), b.Name)
			}
		}
	}
}
