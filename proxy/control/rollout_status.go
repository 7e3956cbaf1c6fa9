package control

import (
	"cmp"
	"slices"
	"time"

	"go.uber.org/zap"
	"weir/balancer/rollout"
	"weir/internal/state"
	"weir/proxy"
)

// RolloutStatus is a rollout as the API shows it.
type RolloutStatus struct {
	Route    string        `json:"route"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	Strategy string        `json:"strategy"`
	Phase    rollout.Phase `json:"phase"` // preparing, progressing, paused, succeeded, aborted
	// Step counts from 1; 0 before the first.
	Step   int            `json:"step"`
	Steps  []RolloutStep  `json:"steps"`
	Weight float64        `json:"weight"` // of the new version, in percent of the route
	Since  time.Time      `json:"since"`  // of the phase or the step, later by its pauses
	Ends   *time.Time     `json:"hold_ends"`
	Why    string         `json:"why"` // what brought it there
	By     string         `json:"by"`
	Reason string         `json:"reason,omitempty"`
	Begun  time.Time      `json:"started"`
	Before []state.Weight `json:"before"`
	Gates  []GateStatus   `json:"gates,omitempty"` // those of the checks, in their order
	// Registry is what a model registry calls the new version when the rollout has succeeded.
	Registry []RegistryStatus `json:"registry,omitempty"`
	// Analysis is absent where nothing is judged, or was not yet.
	Analysis *rollout.Analysis `json:"analysis,omitempty"`
	Alpha    float64           `json:"alpha,omitempty"`
}

// RolloutStep is a step as the API shows it.
type RolloutStep struct {
	Weight float64 `json:"weight"`
	Hold   float64 `json:"hold_seconds"`
}

// status is called with r.mu held.
func (r *rolling) status() RolloutStatus {
	is := &r.is
	s := RolloutStatus{
		Route: r.route, From: is.From, To: is.To, Strategy: is.Strategy, Phase: is.State.Phase, Since: is.State.Since, Why: is.State.Why,
		By: is.By, Reason: is.Reason, Begun: is.Started, Before: is.Before,
	}
	s.Gates, s.Registry = is.gates(), is.registry()
	for _, step := range is.Plan.Steps {
		s.Steps = append(s.Steps, RolloutStep{step.Weight, step.Hold.Seconds()})
	}
	s.Step = min(is.State.Step+1, len(is.Plan.Steps))
	weights := is.now()
	if weights == nil { // as they are
		weights = is.Before
	}
	for _, w := range weights {
		if w.Pool == is.To {
			s.Weight = w.Weight
		}
	}
	if is.State.Phase == rollout.Progressing {
		ends := is.State.Since.Add(is.Plan.Steps[is.State.Step].Hold)
		s.Ends = &ends
	}
	if is.Criteria != nil {
		s.Alpha = is.Criteria.Alpha
		if r.analysis.Verdict != "" {
			a := r.analysis
			s.Analysis = &a
		}
	}
	return s
}

// Rollout is the rollout of a route that is under way, or its last one; false without any.
func (c *Controller) Rollout(route string) (RolloutStatus, bool) {
	c.mu.Lock()
	e := c.rollouts[route]
	c.mu.Unlock()
	if e == nil {
		return RolloutStatus{}, false
	}
	return *e.rolling.shown.Load(), true
}

// rolloutOf is the rollout of a route as its status shows it, nil when none is under way.
func (c *Controller) rolloutOf(route string) *proxy.RolloutBrief {
	s, ok := c.Rollout(route)
	if !ok || s.Phase.Ended() {
		return nil
	}
	return &proxy.RolloutBrief{From: s.From, To: s.To, Phase: string(s.Phase), Step: s.Step, Steps: len(s.Steps), Weight: s.Weight, Why: s.Why}
}

// Rollouts are all that are known, by route.
func (c *Controller) Rollouts() []RolloutStatus {
	c.mu.Lock()
	all := make([]RolloutStatus, 0, len(c.rollouts))
	for _, e := range c.rollouts {
		all = append(all, *e.rolling.shown.Load())
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b RolloutStatus) int { return cmp.Compare(a.Route, b.Route) })
	return all
}

// tellRollout tells what has become of a rollout. Called with r.mu held.
func (c *Controller) tellRollout(r *rolling, what string) {
	s := r.status()
	c.log.Info("rollout", zap.String("route", r.route), zap.String("event", what), zap.String("from", s.From), zap.String("to", s.To),
		zap.Int("step", s.Step), zap.Float64("weight", s.Weight), zap.String("why", s.Why))
	c.hub.publish("rollout", RolloutEvent{Event: what, RolloutStatus: s})
	if r.is.Notify != "" {
		c.notifier.tell(r.is.Notify, what, s)
	}
}

// RolloutEvent is the data of an event: a rollout has started, advanced, paused, or ended.
type RolloutEvent struct {
	Event string `json:"event"`
	RolloutStatus
}
