package proxy

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/tidwall/gjson"

	"weir/balancer"
	"weir/balancer/experiment"
	"weir/config"
)

// experimenting is a route's experiment. The ledger outlives tables, for as long as the configuration says the same of the
// experiment, of the affinity, and of which variants there are.
type experimenting struct {
	cfg    *config.Experiment
	plan   *experiment.Plan
	ledger *experiment.Ledger
	fields []answerField // of the outcomes that are in answers
}

// answerField is an outcome that is a field of the answer.
type answerField struct {
	outcome int
	path    string // a jsonPath
}

// answerFieldLimit is how large an answer may be, in bytes, that outcomes are read from.
const answerFieldLimit = 256 << 10

// newExperimenting returns the experiment that c asks for over these variants, nil where that is none. It is prev where that
// asks for the same.
func newExperimenting(c *config.Route, variants []balancer.Variant, prev *experimenting, before *config.Route) *experimenting {
	if c.Experiment == nil {
		return nil
	}
	x := &experimenting{cfg: c.Experiment, plan: planOf(c, variants)}
	if prev != nil && reflect.DeepEqual(before.Experiment, c.Experiment) && reflect.DeepEqual(before.Affinity, c.Affinity) && slices.Equal(prev.plan.Arms, x.plan.Arms) {
		return prev
	}
	for i, o := range c.Experiment.Outcomes {
		if o.From == config.OutcomeJSON {
			x.fields = append(x.fields, answerField{i, jsonPath(o.Path)})
		}
	}
	x.ledger = experiment.NewLedger(x.plan, weightsOf(variants), time.Now())
	return x
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
		p.Outcomes = append(p.Outcomes, experiment.Outcome{Name: o.Name, Source: o.From, Decrease: o.Goal == config.GoalDecrease, Window: o.Window})
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
	of      *experimenting // nil: nothing that is to be measured
	unit    uint64
	arm     int
	reason  experiment.Reason
	decided bool
}

// steer decides whether the request takes part, and returns the variant that it gets where that is not the split's to say.
// subject is who asks; empty where nobody knows.
func (x *experimenting) steer(r *request, subject []byte) (variant int, ok bool) {
	take := &r.part
	*take = excluded(experiment.ReasonFallback)
	if f := x.cfg.Force; f != "" {
		if name := lookup(r.raw, f); len(name) > 0 {
			if i := slices.Index(x.plan.Arms, string(name)); i >= 0 && r.route.usable(i) {
				*take = excluded(experiment.ReasonForced)
				return i, true
			}
		}
	}
	if len(subject) == 0 {
		return 0, false
	}
	if take.reason = x.plan.Enrol(subject); take.reason != experiment.ReasonHash {
		return x.plan.Control, r.route.usable(x.plan.Control)
	}
	take.unit = x.plan.Unit(subject)
	return 0, false
}

func excluded(why experiment.Reason) participation { return participation{reason: why, decided: true} }

// usable reports whether a variant has an endpoint that takes requests.
func (r *route) usable(variant int) bool { return r.split.Variants()[variant].Pool.Usable() }

// meet notes that the request's unit meets its arm; intended is the one that its hash stands for.
func (x *experimenting) meet(r *request, intended, chosen int) {
	take := &r.part
	if !take.decided {
		return // it was, by a choice before
	}
	take.decided = false
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
	Arms     []string `json:"arms"`
	Outcomes []string `json:"outcomes"`
	experiment.Record
}

// ExperimentRecords are those of all routes that have an experiment.
func (p *Proxy) ExperimentRecords() map[string]ExperimentRecord {
	all := map[string]ExperimentRecord{}
	for _, r := range p.table.Load().routes {
		if x := r.experiment; x != nil {
			all[r.cfg.Name] = ExperimentRecord{x.plan.Arms, x.plan.OutcomeNames(), x.ledger.Save()}
		}
	}
	return all
}

// ResumeExperiment goes on with a route's experiment where a record has it, and reports whether it is one of the same arms
// and outcomes. It is called before the first request.
func (p *Proxy) ResumeExperiment(route string, record ExperimentRecord) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.table.Load().route(route)
	if r == nil || r.experiment == nil {
		return false
	}
	x := r.experiment
	if !slices.Equal(record.Arms, x.plan.Arms) || !slices.Equal(record.Outcomes, x.plan.OutcomeNames()) {
		return false
	}
	ledger := experiment.Restore(x.plan, record.Record, weightsOf(r.split.Variants()), time.Now())
	if ledger == nil {
		return false
	}
	x.ledger = ledger
	return true
}
