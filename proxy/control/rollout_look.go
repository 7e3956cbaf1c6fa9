package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	"weir/balancer/rollout"
	"weir/config"
	"weir/internal/state"
)

// lookEvery is how often a rollout is looked after: a disaster is found within two of them.
const lookEvery = 100 * time.Millisecond

// errWaiting is what checks are at while they go on.
var errWaiting = errors.New("the checks go on")

// look looks after a rollout until it has ended.
func (c *Controller) look(r *rolling) {
	defer r.cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	preparing := false
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		case <-r.wake:
		}
		r.mu.Lock()
		waits := r.is.State.Phase == rollout.Preparing && r.readied == errWaiting
		r.mu.Unlock()
		if waits && !preparing {
			preparing = true
			c.running.Go(func() { c.prepare(r) })
		} else if !waits {
			preparing = false
		}
		leave, err := c.enter()
		if err != nil {
			continue // frozen: go on when that is over, if it is
		}
		c.lookOnce(r, time.Now())
		leave()
	}
}

// lookOnce finds out how things are, and takes the rollout to where it then belongs.
func (c *Controller) lookOnce(r *rolling, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.is.State.Phase.Ended() {
		return
	}
	if why := c.overruled(r); why != "" {
		c.quit(r, why)
		return
	}
	in := rollout.Input{Now: now, Verdict: r.analysis.Verdict, Because: r.analysis.Why}
	if r.is.State.Step == rollout.Unstarted {
		switch err := r.readied; {
		case err == nil:
			in.Ready = true
		case err != errWaiting:
			in.Refused = "the new version is not fit for traffic: " + err.Error()
		}
	} else {
		in.Tripped = c.tripped(r, now)
		if c.judge(r, now) {
			in.Verdict, in.Because = r.analysis.Verdict, r.analysis.Why
		}
	}
	if err := c.next(r, in); err != nil {
		c.log.Error("a rollout cannot go on", zap.String("route", r.route), zap.Error(err))
	}
}

// overruled says who else has changed the weights that the rollout owns: a reload, "" where nobody has.
func (c *Controller) overruled(r *rolling) string {
	want := r.is.now()
	now, err := c.proxy.Weigh(r.route, nil)
	switch {
	case err != nil:
		return "the route is gone: " + err.Error()
	case !has(now, r.is.To) || !has(now, r.is.From):
		return "the file has not both variants any more"
	case want != nil && !maps.Equal(byName(now), byName(want)):
		return "the weights are " + names(now) + " now, not those of the rollout's step"
	}
	return ""
}

func has(set []state.Weight, pool string) bool {
	return slices.ContainsFunc(set, func(w state.Weight) bool { return w.Pool == pool })
}

// tripped says which disaster has happened. Called with r.mu held.
func (c *Controller) tripped(r *rolling, now time.Time) string {
	w := r.is.Tripwire
	if w == nil || r.is.State.Step == rollout.Unstarted {
		return ""
	}
	if some, _ := c.proxy.Usable(r.is.To); !some {
		return "no endpoint of the new version is usable"
	}
	epoch := c.proxy.Epoch(r.route)
	if epoch == nil {
		return ""
	}
	return r.trip.Look(now, r.is.Evidence.With(epoch), *w)
}

// judge looks at the evidence when that is due, and reports whether it did. Called with r.mu held.
func (c *Controller) judge(r *rolling, now time.Time) bool {
	epoch := c.proxy.Epoch(r.route)
	if r.is.Criteria == nil || epoch == nil || now.Sub(r.looked) < r.lookAfter(now) {
		return false
	}
	r.looked = now
	r.is.Evidence.Look(epoch, r.is.Criteria)
	r.judged = r.is.Criteria.Judge(&r.is.Evidence)
	r.conclude()
	c.remember(r)
	return true
}

// lookAfter is how long after the last look the next is due: sooner where a step waits for nothing else.
func (r *rolling) lookAfter(now time.Time) time.Duration {
	s := r.is.State
	if s.Phase == rollout.Progressing && now.Sub(s.Since) >= r.is.Plan.Steps[s.Step].Hold {
		return min(r.is.Interval, time.Second)
	}
	return r.is.Interval
}

// prepare makes the checks that come before traffic.
func (c *Controller) prepare(r *rolling) {
	r.mu.Lock()
	checks, to := r.is.Checks, r.is.To
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.ctx, checks.Timeout)
	defer cancel()
	err := c.ready(ctx, to, checks)
	if err == nil {
		err = c.passGates(ctx, r)
	}
	if r.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	if r.is.State.Phase == rollout.Preparing {
		r.readied = err
	}
	r.mu.Unlock()
	r.look()
}

// ready waits for all endpoints of a pool to be healthy, warms them up and asks what they are to be asked; it returns
// what they cannot do.
func (c *Controller) ready(ctx context.Context, pool string, checks config.RolloutChecks) error {
	for {
		some, all := c.proxy.Usable(pool)
		if some && all {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all endpoints of pool %s are healthy after %v", pool, checks.Timeout)
		case <-time.After(lookEvery):
		}
	}
	for range checks.WarmUp {
		warm := checks.Requests[0]
		warm.JSON, warm.Shape, warm.MaxLatency = nil, nil, 0
		if err := c.proxy.Ask(ctx, pool, warm); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	for _, q := range checks.Requests {
		if err := c.proxy.Ask(ctx, pool, q); err != nil {
			return err
		}
	}
	return nil
}

// noteRollouts notes in the document how far the rollouts are, and returns whether that is to be saved. Called with disk
// and mu held.
func (c *Controller) noteRollouts() bool {
	changed := false
	doc := *c.doc
	doc.Routes = maps.Clone(c.doc.Routes)
	for name, e := range c.rollouts {
		saved, ok := doc.Routes[name]
		if !ok || string(saved.Rollout) == string(e.saved) {
			continue
		}
		saved.Rollout, changed = e.saved, true
		doc.Routes[name] = saved
	}
	if changed {
		c.doc = &doc
	}
	return changed
}

// resumeRollouts goes on with rollouts that a restart interrupted.
func (c *Controller) resumeRollouts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.doc.Routes)) {
		text := c.doc.Routes[name].Rollout
		if len(text) == 0 || c.rollouts[name] != nil {
			continue
		}
		var is rolloutRecord
		if err := json.Unmarshal(text, &is); err != nil {
			c.log.Error("a rollout of the last run cannot be read; the weights stay as they are", zap.String("route", name), zap.Error(err))
			continue
		}
		r := c.newRolling(name, is)
		over := is.State.Phase.Ended()
		c.rollouts[name] = &rolloutEntry{rolling: r, saved: text, over: over}
		c.running.Go(func() { c.keepRegistry(r) })
		if over {
			r.cancel()
			continue
		}
		c.running.Go(func() { c.goOn(r) })
	}
}

// goOn takes a rollout up again after a restart.
func (c *Controller) goOn(r *rolling) {
	r.mu.Lock()
	if r.is.now() != nil && c.overruled(r) == "" {
		if err := c.proxy.Try(r.route, r.is.From, r.is.To); err != nil {
			c.log.Error("a rollout cannot count after the restart", zap.String("route", r.route), zap.Error(err))
		}
	}
	c.tellRollout(r, "resumed after a restart")
	r.mu.Unlock()
	c.running.Go(func() { c.keepReading(r) })
	c.look(r)
}
