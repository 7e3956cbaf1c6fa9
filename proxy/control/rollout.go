package control

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"weir/balancer/rollout"
	"weir/config"
	"weir/internal/state"
	"weir/proxy"
)

// rolling is a rollout of a route: what is known of it, and the goroutine that looks after it.
//
// Its mu is taken before the proxy's lock, so that nothing that runs under that (Check of an Update, commit) may
// take it. What those need is in Controller.rollouts, under the Controller's.
type rolling struct {
	route  string
	wake   chan struct{} // asks for a look at once
	ctx    context.Context
	cancel context.CancelFunc

	shown atomic.Pointer[RolloutStatus] // as it was noted last: who looks need not wait for a disk

	mu       sync.Mutex
	is       rolloutRecord
	judged   rollout.Analysis // of what was counted
	analysis rollout.Analysis // with what was read elsewhere
	looked   time.Time        // when it was judged last
	trip     rollout.Trip
	readied  error // what the checks have come to; errWaiting while they go on
}

// rolloutRecord is what survives a restart.
type rolloutRecord struct {
	From     string               `json:"from"`
	To       string               `json:"to"`
	Strategy string               `json:"strategy"`
	Plan     rollout.Plan         `json:"plan"`
	Criteria *rollout.Criteria    `json:"criteria,omitempty"` // nil: nothing is judged
	Interval time.Duration        `json:"interval_ns"`
	Tripwire *rollout.Tripwire    `json:"tripwire,omitempty"`
	Checks   config.RolloutChecks `json:"checks"`
	Gates    []GateStatus         `json:"gates,omitempty"`    // what they have said, as far as they were asked
	Registry []registryMove       `json:"registry,omitempty"` // what is named elsewhere after what serves
	Notify   string               `json:"notify,omitempty"`
	Before   []state.Weight       `json:"before"` // in percent
	State    rollout.State        `json:"state"`
	Evidence rollout.Evidence     `json:"evidence"`
	Bounds   *bounds              `json:"bounds,omitempty"` // nil: no figures from elsewhere matter
	Gauges   []rollout.Gauge      `json:"gauges,omitempty"` // parallel to the figures
	// Stretch numbers the times over which evidence adds up, from 0.
	Stretch int       `json:"stretch,omitempty"`
	By      string    `json:"by"`
	Reason  string    `json:"reason,omitempty"`
	Started time.Time `json:"started"`
	Force   bool      `json:"force,omitempty"`
}

// newRecord plans a rollout of a route at these weights.
func newRecord(route *config.Route, strategy, from, to string, weights []state.Weight, o Change) rolloutRecord {
	c := route.Proceed(strategy)
	r := rolloutRecord{
		From: from, To: to, Strategy: c.Strategy, Checks: c.Checks, Notify: c.Notify, Before: inPercent(weights),
		State: rollout.Begin(time.Now()), By: o.By, Reason: o.Reason, Started: time.Now(), Force: o.Force,
		Plan: rollout.Plan{Inconclusive: config.InconclusiveHold},
	}
	if a := c.Auto; c.Strategy == config.StrategyAuto {
		r.Plan.Auto = &rollout.Auto{Hold: a.AtMin == config.AtMinHold, Keep: a.Keep}
		if a.Min == 0 {
			r.Plan.Auto.Floor = 1
		}
	}
	for _, s := range c.Steps {
		r.Plan.Steps = append(r.Plan.Steps, rollout.Step(s))
	}
	if a := c.Analysis; a != nil {
		r.Plan.Judged, r.Plan.Inconclusive, r.Plan.MaxWait = true, a.Inconclusive, a.MaxWait
		r.Criteria, r.Interval = criteria(a), a.Interval
	}
	if t := c.Tripwire; t != nil {
		r.Tripwire = &rollout.Tripwire{Errors: t.Errors, Requests: uint64(t.Requests), Window: t.Window}
	}
	return r
}

func criteria(a *config.Analysis) *rollout.Criteria {
	c := &rollout.Criteria{Alpha: a.Alpha, MinRequests: uint64(a.MinRequests)}
	if e := a.ErrorRate; e != nil {
		c.Errors = &rollout.RateCriteria{MaxRatio: e.MaxRatio, Tolerate: e.Tolerate}
	}
	if s := a.SLO; s != nil {
		c.Slow = &rollout.SlowCriteria{SLO: s.Latency, RateCriteria: rollout.RateCriteria{MaxRatio: s.MaxRatio, Tolerate: s.Tolerate}}
	}
	if l := a.Latency; l != nil {
		c.Latency = &rollout.LatencyCriteria{Quantile: l.Quantile, MaxRatio: l.MaxRatio, Least: l.MinDifference}
	}
	return c
}

// inPercent are weights with the sum 100.
func inPercent(set []state.Weight) []state.Weight {
	sum := 0.0
	for _, w := range set {
		sum += w.Weight
	}
	set = slices.Clone(set)
	for i := range set {
		set[i].Weight = round3(100 * set[i].Weight / sum)
	}
	return set
}

func round3(x float64) float64 { return math.Round(x*1e3) / 1e3 }

// weights are those of the route while the new version has so many percent: the old version has the rest, beside other
// variants, which keep theirs.
func (r *rolloutRecord) weights(percent float64) []state.Weight {
	set, rest := slices.Clone(r.Before), 100.0
	for _, w := range set {
		if w.Pool != r.From && w.Pool != r.To {
			rest -= w.Weight
		}
	}
	percent = min(percent, rest)
	for i := range set {
		switch set[i].Pool {
		case r.To:
			set[i].Weight = round3(percent)
		case r.From:
			set[i].Weight = max(0, round3(rest-percent))
		}
	}
	return set
}

// now are the weights that belong to the state; nil where it has none of its own.
func (r *rolloutRecord) now() []state.Weight {
	switch s := r.State; {
	case s.Step == rollout.Unstarted:
		return nil
	case s.Phase == rollout.Succeeded:
		return r.weights(r.Plan.Steps[len(r.Plan.Steps)-1].Weight)
	case s.Phase == rollout.Aborted:
		return r.weights(0)
	default:
		return r.weights(r.Plan.Steps[s.Step].Weight)
	}
}

// RolloutOptions say what a rollout is to do.
type RolloutOptions struct {
	To       string
	From     string // "": the variant with the most weight beside To
	Strategy string // "": the route's
}

// StartRollout begins a rollout of a route, and returns its state. It returns a *ControlError: 404 and 422 for names that
// are not there, 409 where one is under way, which force aborts.
func (c *Controller) StartRollout(route string, o RolloutOptions, change Change) (RolloutStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return RolloutStatus{}, err
	}
	defer leave()
	cfg, err := c.proxy.RouteConfig(route)
	if err != nil {
		return RolloutStatus{}, err
	}
	weights, err := c.proxy.Weigh(route, nil)
	if err != nil {
		return RolloutStatus{}, err
	}
	from, err := pair(route, o, weights)
	if err != nil {
		return RolloutStatus{}, err
	}
	if err := c.vacate(route, nil, change); err != nil {
		return RolloutStatus{}, err
	}
	is := newRecord(cfg, o.Strategy, from, o.To, weights, change)
	is.Bounds = c.boundsOf(route, cfg.Proceed(o.Strategy).Analysis)
	r := c.newRolling(route, is)
	c.mu.Lock()
	if other := c.rollouts[route]; other != nil && !other.over { // meanwhile
		c.mu.Unlock()
		r.cancel()
		return RolloutStatus{}, conflict(route)
	}
	c.rollouts[route] = &rolloutEntry{rolling: r}
	c.mu.Unlock()
	_ = c.inOrder(func() error { c.endRamp(route, change.Cause, "a rollout began"); return nil })
	r.mu.Lock()
	defer r.mu.Unlock()
	c.remember(r)
	c.tellRollout(r, "started")
	c.running.Go(func() { c.look(r) })
	c.running.Go(func() { c.keepRegistry(r) })
	c.running.Go(func() { c.keepReading(r) })
	return r.status(), nil
}

// pair checks which variants a rollout is between, and returns the old one.
func pair(route string, o RolloutOptions, weights []state.Weight) (from string, err error) {
	refuse := func(code, format string, args ...any) error {
		return &proxy.ControlError{Status: 422, Code: code, Message: fmt.Sprintf("route "+route+": "+format, args...)}
	}
	var names []string
	var toward float64
	for _, w := range weights {
		names = append(names, w.Pool)
		if w.Pool == o.To {
			toward = w.Weight
		}
	}
	for _, name := range []string{o.To, o.From} {
		if name != "" && !slices.Contains(names, name) {
			return "", refuse("unknown_variant", "no variant %q (have %s)", name, strings.Join(names, ", "))
		}
	}
	if from = o.From; from == "" {
		most := -1.0
		for _, w := range weights {
			if w.Pool != o.To && w.Weight > most {
				from, most = w.Pool, w.Weight
			}
		}
	}
	switch {
	case from == "" || from == o.To:
		return "", refuse("invalid_rollout", "a rollout needs two variants, an old and a new one")
	case toward > 0 && !slices.ContainsFunc(weights, func(w state.Weight) bool { return w.Pool != o.To && w.Weight > 0 }):
		return "", &proxy.ControlError{Status: 409, Code: "nothing_to_do", Message: fmt.Sprintf("route %s: %s has all the traffic already", route, o.To)}
	}
	return from, nil
}

// rolloutEntry is what the Controller's lock guards of a rollout: what is saved of it, and whether it has ended.
type rolloutEntry struct {
	*rolling
	saved json.RawMessage
	over  bool
}

func (c *Controller) newRolling(route string, is rolloutRecord) *rolling {
	r := &rolling{route: route, is: is, wake: make(chan struct{}, 1), readied: errWaiting}
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	if is.Bounds != nil && len(is.Gauges) == 0 { // it begins
		for _, f := range c.figures(route, is.From, is.To, is.Bounds) {
			r.is.Gauges = append(r.is.Gauges, f.gauge)
		}
	}
	if is.Criteria != nil && len(is.Evidence.Spans) > 0 {
		r.judged = is.Criteria.Judge(&r.is.Evidence)
		r.conclude()
	}
	shown := r.status()
	r.shown.Store(&shown)
	return r
}

// vacate makes room for a change of a route's weights by somebody else: a rollout that is under way owns them. Weights that
// cannot be, and a change that has lost its race, end no rollout.
func (c *Controller) vacate(route string, weights map[string]float64, o Change) error {
	c.mu.Lock()
	e := c.rollouts[route]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	r := e.rolling
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is.State.Phase.Ended() {
		return nil
	}
	if !o.Force {
		return &proxy.ControlError{Status: 409, Code: "rollout", Message: fmt.Sprintf(
			"route %s is being rolled out from %s to %s (%s): abort that first, or force the change, which aborts it", route, r.is.From, r.is.To, r.is.State.Phase)}
	}
	if _, err := c.proxy.Weigh(route, weights); err != nil {
		return err
	}
	if err := c.checkRoute(route, o.Expect)(); err != nil {
		return err
	}
	c.quit(r, said("weights were set by force", o.Cause))
	return nil
}

// said is a sentence with who did it, and why.
func said(what string, cause proxy.Cause) string {
	if cause.By != "" {
		what += " by " + cause.By
	}
	if cause.Reason != "" {
		what += ": " + cause.Reason
	}
	return what
}

// quit ends a rollout where it is, and leaves the weights to whoever ends it. Called with r.mu held.
func (c *Controller) quit(r *rolling, why string) {
	r.is.State = rollout.State{Phase: rollout.Aborted, Step: r.is.State.Step, Since: time.Now(), Why: why}
	c.ended(r)
}

// ended lets go of what a rollout held. Called with r.mu held.
func (c *Controller) ended(r *rolling) {
	c.proxy.EndTrial(r.route)
	c.mu.Lock()
	c.outcomes[outcome{r.route, r.is.State.Phase}]++
	c.mu.Unlock()
	c.remember(r)
	c.tellRollout(r, string(r.is.State.Phase))
	r.cancel()
}

// CommandRollout gives a rollout an order, and returns its state. Where there is none under way it returns a
// *ControlError of 409.
func (c *Controller) CommandRollout(route string, order rollout.Command, change Change) (RolloutStatus, error) {
	leave, err := c.enter()
	if err != nil {
		return RolloutStatus{}, err
	}
	defer leave()
	if err := c.checkRoute(route, change.Expect)(); err != nil {
		return RolloutStatus{}, err
	}
	c.mu.Lock()
	e := c.rollouts[route]
	c.mu.Unlock()
	if _, ok := c.proxy.Route(route); !ok {
		_, err := c.proxy.RouteConfig(route)
		return RolloutStatus{}, err
	}
	if e == nil {
		return RolloutStatus{}, &proxy.ControlError{Status: 409, Code: "no_rollout", Message: "route " + route + " has no rollout under way"}
	}
	r := e.rolling
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.is.State.Phase
	switch {
	case now.Ended():
		return RolloutStatus{}, &proxy.ControlError{Status: 409, Code: "no_rollout", Message: fmt.Sprintf("route %s has no rollout under way: the last one %s", route, now)}
	case order == rollout.Pause && now == rollout.Paused, order == rollout.Resume && now != rollout.Paused:
		return r.status(), nil // as it is already
	}
	if err := c.next(r, rollout.Input{Now: time.Now(), Command: order, By: change.By, Reason: change.Reason}); err != nil {
		return RolloutStatus{}, err
	}
	return r.status(), nil
}

// next takes a rollout to its next state, and does what that asks for. Called with r.mu held.
func (c *Controller) next(r *rolling, in rollout.Input) error {
	before := r.is.State
	after, move := r.is.Plan.Next(before, in)
	if after == before && move == rollout.Stay {
		return nil
	}
	r.is.State = after
	switch {
	case move == rollout.Renew:
		c.proxy.EndTrial(r.route)
		r.anew()
		err := c.proxy.Try(r.route, r.is.From, r.is.To)
		c.remember(r)
		if after.Phase != before.Phase { // else nobody has to be told
			c.tellRollout(r, string(after.Phase))
		}
		return err
	case move == rollout.Stay && after.Phase.Ended():
		c.ended(r)
		return nil
	case move == rollout.Stay:
		if after.Phase == rollout.Preparing {
			r.readied = errWaiting // the checks are made again
		}
		c.remember(r)
		c.tellRollout(r, string(after.Phase))
		return nil
	}
	err := c.move(r, move)
	if err != nil && move != rollout.Retreat {
		if in.Command != rollout.None { // who asked is told, and it stays as it was
			r.is.State = before
			c.note(r)
			return err
		}
		r.is.State = rollout.State{Phase: rollout.Aborted, Step: before.Step, Since: in.Now, Why: "the next step is refused: " + err.Error()}
		err = c.move(r, rollout.Retreat)
	}
	if err != nil { // the route or a variant is gone: there is nothing to give back
		c.log.Error("a rollout cannot set weights", zap.String("route", r.route), zap.Error(err))
	}
	if r.is.State.Phase.Ended() {
		c.ended(r)
		return nil
	}
	c.remember(r)
	c.tellRollout(r, string(move))
	return nil
}

// move sets the weights of the state. Back to the old version it goes whatever the health. Called with r.mu held.
func (c *Controller) move(r *rolling, move rollout.Move) error {
	weights := r.is.now()
	if epoch := c.proxy.Epoch(r.route); epoch != nil && r.is.Criteria != nil {
		r.is.Evidence.Look(epoch, r.is.Criteria) // for the last time: other weights begin another
	}
	if move == rollout.Back {
		r.anew()
	}
	c.keep(r)
	_, err := c.proxy.Update(proxy.Update{
		Kind: state.KindRollout, Cause: proxy.Cause{By: r.is.By, Reason: r.is.From + " to " + r.is.To + ": " + r.is.State.Why},
		Force: r.is.Force || move == rollout.Retreat || move == rollout.Back, Weights: map[string]map[string]float64{r.route: byName(weights)},
	})
	if err == nil && (move == rollout.Advance || move == rollout.Back) {
		err = c.proxy.Try(r.route, r.is.From, r.is.To)
	}
	return err
}

// anew has the evidence begin anew, of what is counted and of what is read. Called with r.mu held.
func (r *rolling) anew() {
	r.is.Evidence, r.judged, r.analysis = rollout.Evidence{}, rollout.Analysis{}, rollout.Analysis{}
	r.is.Stretch++
	gauges := make([]rollout.Gauge, len(r.is.Gauges))
	for i, g := range r.is.Gauges {
		gauges[i] = g.Anew()
	}
	r.is.Gauges = gauges
}

// note shows the state of a rollout, and has it go to disk with the next change. Called with r.mu held.
func (c *Controller) note(r *rolling) {
	shown := r.status()
	r.shown.Store(&shown)
	c.keep(r)
}

// keep has the state go to disk with the next change: the weights of a step, before which nobody is shown that it has
// begun. Called with r.mu held.
func (c *Controller) keep(r *rolling) {
	text, err := json.Marshal(&r.is)
	if err != nil {
		c.log.Error("a rollout cannot be remembered", zap.String("route", r.route), zap.Error(err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.rollouts[r.route]; e != nil && e.rolling == r {
		e.saved, e.over = text, r.is.State.Phase.Ended()
	}
}

// remember has it go to disk now. Called with r.mu held.
func (c *Controller) remember(r *rolling) {
	c.note(r)
	c.disk.Lock()
	defer c.disk.Unlock()
	c.mu.Lock()
	changed := c.noteRollouts()
	c.mu.Unlock()
	if changed {
		c.save()
	}
}
