package proxy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"weir/balancer"
	"weir/balancer/experiment"
	"weir/config"
)

// experimenting is a route's experiment. The ledger outlives tables, for as long as the configuration says the same of the
// experiment, of the affinity, and of which variants there are (terms).
type experimenting struct {
	cfg    *config.Experiment
	plan   *experiment.Plan
	ledger *experiment.Ledger
	fields []answerField // of the outcomes that are in answers
	terms  string        // termsOf
}

// answerField is an outcome that is a field of the answer.
type answerField struct {
	outcome int
	path    string // a jsonPath
}

// answerFieldLimit is how large an answer may be, in bytes, that outcomes are read from.
const answerFieldLimit = 256 << 10

// newExperimenting returns the experiment that c asks for over these variants, nil where that is none. It is that of prev,
// the route until now, where that has the same, else it goes on with what the last run left of the same, an
// ExperimentRecord. Where there was another one, note says so.
func newExperimenting(c *config.Route, variants []balancer.Variant, prev *route, left json.RawMessage) (x *experimenting, note string) {
	if c.Experiment == nil {
		return nil, ""
	}
	x = &experimenting{cfg: c.Experiment, plan: planOf(c, variants)}
	x.terms = termsOf(c, x.plan)
	before := prev != nil && prev.experiment != nil
	if before && prev.experiment.terms == x.terms {
		return prev.experiment, ""
	}
	for i, o := range c.Experiment.Outcomes {
		if o.From == config.OutcomeJSON {
			x.fields = append(x.fields, answerField{i, jsonPath(o.Path)})
		}
	}
	if len(left) > 0 {
		// Before the first request, so that nobody is counted in a ledger that is replaced.
		if x.ledger = x.resume(left, weightsOf(variants)); x.ledger != nil {
			return x, ""
		}
	}
	if before || len(left) > 0 {
		note = "route " + c.Name + ": the experiment is another one than before, and begins anew"
	}
	x.ledger = experiment.NewLedger(x.plan, weightsOf(variants), time.Now())
	return x, note
}

// resume is the ledger that goes on where a record ends, nil where that is of another experiment or cannot be read.
func (x *experimenting) resume(left json.RawMessage, weights []float64) *experiment.Ledger {
	var record ExperimentRecord
	if err := json.Unmarshal(left, &record); err != nil || record.Terms != x.terms {
		return nil
	}
	return experiment.Restore(x.plan, record.Record, weights, time.Now())
}

// termsOf are what an experiment is about, in a line: figures that were counted by other terms are no figures of it. They
// are written out one by one, so that a newer weir with more keys goes on with what an older one counted.
func termsOf(c *config.Route, p *experiment.Plan) string {
	var b strings.Builder
	a, e := cmp.Or(c.Affinity, &config.Affinity{}), c.Experiment // without it nobody takes part
	fmt.Fprintf(&b, "units %q %q %q %q; arms %q against %q; layer %q %v to %v; held out %v; forced %q; alpha %v, expect %d",
		a.Source, a.Name, a.Fallback, a.Salt, p.Arms, p.Arms[p.Control], p.Layer.Name, p.Layer.From, p.Layer.To, e.HoldOut, e.Force, e.Alpha, e.Expect)
	for _, o := range e.Outcomes {
		fmt.Fprintf(&b, "; %q %s %q %s %v %s", o.Name, o.From, o.Path, o.Goal, o.Window, o.Aggregate)
	}
	if l := e.Allocation; l != nil {
		fmt.Fprintf(&b, "; from %v to %v after %d each %v", l.Floor, l.Cap, l.MinUnits, l.Interval)
	}
	return b.String()
}

func planOf(c *config.Route, variants []balancer.Variant) *experiment.Plan {
	e := c.Experiment
	p := &experiment.Plan{Salt: c.Name, HoldOut: e.HoldOut, Alpha: e.Alpha, Expect: e.Expect}
	for i, v := range variants {
		p.Arms = append(p.Arms, v.Pool.Name())
		if v.Pool.Name() == e.Control {
			p.Control = i
		}
	}
	if l := e.Layer; l != nil {
		p.Layer.Name, p.Layer.From, p.Layer.To = l.Name, l.From, l.To
	}
	for _, o := range e.Outcomes {
		p.Outcomes = append(p.Outcomes, experiment.Outcome{Name: o.Name, Source: o.From, Decrease: o.Goal == config.GoalDecrease, Window: o.Window, Sum: o.From == config.OutcomeAPI && o.Aggregate != config.AggregateMean})
	}
	if a := e.Allocation; a != nil {
		p.Allocation = &experiment.Allocation{Floor: a.Floor, Cap: a.Cap, Least: uint64(a.MinUnits)}
	}
	return p
}

func weightsOf(variants []balancer.Variant) (weights []float64) {
	for _, v := range variants {
		weights = append(weights, v.Weight)
	}
	return weights
}

// follow has the experiments of a table that is in force from now on begin an epoch where the weights have changed.
func (t *table) follow(now time.Time) {
	for _, r := range t.routes {
		if x := r.experiment; x != nil {
			x.ledger.Reweigh(weightsOf(r.split.Variants()), now)
		}
	}
}

// participation is what a request has to do with its route's experiment.
type participation struct {
	of     *experimenting // nil: nothing that is to be measured
	unit   uint64
	arm    int
	reason experiment.Reason
	met    bool // counted, however often the variant is chosen again
}

// steer decides whether the request takes part, and returns the variant that it gets where that is not the split's to say.
// subject is who asks; empty where nobody knows.
func (x *experimenting) steer(r *request, subject []byte) (variant int, ok bool) {
	reason, variant, ok := x.enrol(r, subject)
	if take := &r.part; !take.met {
		take.reason = reason
		if reason == experiment.ReasonHash {
			take.unit = x.plan.Unit(subject)
		}
	}
	return variant, ok
}

// enrol says why the request takes part or does not. A tester gets even an arm of weight 0, which is how one is tried that
// nobody else gets yet; who is left out does not: a control that was switched off is off for them, too.
func (x *experimenting) enrol(r *request, subject []byte) (reason experiment.Reason, variant int, ok bool) {
	if f := x.cfg.Force; f != "" {
		if name := lookup(r.raw, f); len(name) > 0 {
			if i := slices.Index(x.plan.Arms, string(name)); i >= 0 && r.route.usable(i) {
				return experiment.ReasonForced, i, true
			}
		}
	}
	if len(subject) == 0 {
		return experiment.ReasonFallback, 0, false
	}
	if reason = x.plan.Enrol(subject); reason != experiment.ReasonHash {
		control := x.plan.Control
		return reason, control, r.route.split.Variants()[control].Weight > 0 && r.route.usable(control)
	}
	return reason, 0, false
}

// usable reports whether a variant has an endpoint that takes requests.
func (r *route) usable(variant int) bool { return r.split.Variants()[variant].Pool.Usable() }

// meet notes that the request's unit meets its arm; intended is the one that its hash stands for.
func (x *experimenting) meet(r *request, intended, chosen int) {
	take := &r.part
	if take.met {
		return
	}
	take.met = true
	if take.reason == experiment.ReasonHash && intended != chosen {
		take.reason = experiment.ReasonSpill
	}
	if take.reason != experiment.ReasonHash {
		x.ledger.Exclude(take.reason)
		return
	}
	take.of, take.arm = x, chosen
	if x.ledger.Expose(take.unit, unsafeString(r.id), chosen, r.start) && r.p.access.Enabled() {
		r.p.access.WriteExposure(r.start, r.route.cfg.Name, x.plan.Arms[chosen], take.unit, r.id)
	}
	if len(x.fields) > 0 {
		if r.tee == nil {
			r.tee = newTee(0)
		}
		r.tee.limit = max(r.tee.limit, answerFieldLimit)
	}
}

// observe notes what the request that has ended came to at its arm. One whose client has left says nothing.
func (x *experimenting) observe(r *request) {
	take := &r.part
	take.of = nil
	if r.kind == clientGone || r.status == 0 {
		return
	}
	took := time.Since(r.start)
	if r.tunneled != nil || !r.stream.last.IsZero() { // how long they go on is not how fast the arm is
		took = r.firstByte
	}
	for i := range x.plan.Outcomes {
		switch x.plan.Outcomes[i].Source {
		case experiment.FromStatus:
			v := 1.0
			if r.failed() {
				v = 0
			}
			x.ledger.Observe(take.unit, take.arm, i, v)
		case experiment.FromLatency:
			if !r.failed() {
				x.ledger.Observe(take.unit, take.arm, i, took.Seconds())
			}
		}
	}
	if t := r.tee; len(x.fields) > 0 && t != nil && t.whole && len(t.body) > 0 && lookup(t.head, "content-encoding") == nil {
		for _, f := range x.fields {
			if v, ok := numberAt(t.body, f.path); ok {
				x.ledger.Observe(take.unit, take.arm, f.outcome, v)
			}
		}
	}
}

// numberAt is the number, or the truth value as 1 or 0, at a jsonPath.
func numberAt(doc []byte, path string) (float64, bool) {
	switch f := gjson.GetBytes(doc, path); f.Type {
	case gjson.Number:
		return f.Num, true
	case gjson.True:
		return 1, true
	case gjson.False:
		return 0, true
	}
	return 0, false
}

// experiment finds the experiment of a route. It returns a *ControlError of 404 where there is none.
func (p *Proxy) experiment(route string) (*experimenting, error) {
	t := p.table.Load()
	r := t.route(route)
	if r == nil {
		return nil, t.unknownRoute(route)
	}
	if r.experiment == nil {
		return nil, &ControlError{Status: 404, Code: "no_experiment", Message: "route " + route + " has no experiment: write one into the file (routes[].experiment)"}
	}
	return r.experiment, nil
}

// Experiment returns what a route's experiment has come to, or a *ControlError of 404.
func (p *Proxy) Experiment(route string) (experiment.Result, error) {
	x, err := p.experiment(route)
	if err != nil {
		return experiment.Result{}, err
	}
	result := x.ledger.Result()
	result.Route = route
	return result, nil
}

// ReportOutcome notes an outcome of a request of a route's experiment. Its error is a *ControlError of 404 where there
// is no experiment, else an *experiment.ErrUnknown.
func (p *Proxy) ReportOutcome(route, requestID, outcome string, value float64) error {
	x, err := p.experiment(route)
	if err != nil {
		return err
	}
	return x.ledger.Report(requestID, outcome, value, time.Now())
}

// AllocateArms returns the weights that a route's experiment asks for; ok is false where it asks for none, or too little is
// known. every is how often it may ask.
func (p *Proxy) AllocateArms(route string) (weights map[string]float64, every time.Duration, ok bool) {
	x, err := p.experiment(route)
	if err != nil || x.cfg.Allocation == nil {
		return nil, 0, false
	}
	every = x.cfg.Allocation.Interval
	shares, ok := x.ledger.Allocate(rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	if !ok {
		return nil, every, false
	}
	weights = map[string]float64{}
	for i, s := range shares {
		weights[x.plan.Arms[i]] = float64(int(s*1000+0.5)) / 10 // percent, to a tenth
	}
	return weights, every, true
}

// ExperimentRecord is what survives a restart of a route's experiment.
type ExperimentRecord struct {
	Terms string `json:"terms"` // of whose figures these are
	experiment.Record
}

// ExperimentRecords are those of all routes that have an experiment.
func (p *Proxy) ExperimentRecords() map[string]ExperimentRecord {
	all := map[string]ExperimentRecord{}
	for _, r := range p.table.Load().routes {
		if x := r.experiment; x != nil {
			all[r.cfg.Name] = ExperimentRecord{x.terms, x.ledger.Save()}
		}
	}
	return all
}
