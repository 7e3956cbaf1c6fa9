package rollouts

import (
	"context"
	"fmt"
	"sync"
	"time"

	"weir/bench"
)

// Look is what was seen of a rollout at one moment.
type Look struct {
	Seconds float64  `json:"seconds"` // since it began
	Weight  float64  `json:"weight"`  // of the new version, percent
	Canary  uint64   `json:"canary"`  // its requests
	Bad     uint64   `json:"bad"`     // of them failed
	Ratio   *float64 `json:"ratio"`   // of the error rates, estimated, and between which bounds it lies
	Low     *float64 `json:"low"`
	High    *float64 `json:"high"`
}

// ended is how a rollout ended.
type ended struct {
	of       Case
	phase    string        // succeeded, aborted, or waited
	requests uint64        // of both versions that were judged
	back     time.Duration // from the verdict until the last request came to the new version, where it was aborted
	thumb    bool          // the rule of thumb would have aborted it
	looks    []Look
}

// all makes the rollouts of a queue, on each route one after the other.
func (s *stage) all(ctx context.Context, queue []Case, result *Result) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan Case, len(queue))
	for _, c := range queue {
		next <- c
	}
	close(next)
	var mu sync.Mutex
	var running sync.WaitGroup
	for i := range s.o.AtOnce {
		running.Go(func() {
			for c := range next {
				e, err := s.rollOut(ctx, i, c)
				if err != nil {
					cancel(fmt.Errorf("rollout of route %s (%s): %w", routeName(i), c.Title, err))
					return
				}
				mu.Lock()
				result.add(e)
				if n := len(result.ended); n%s.o.AtOnce == 0 || n == len(queue) {
					s.o.Say(fmt.Sprintf("%d of %d rollouts: %s", n, len(queue), result.brief()))
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// rollOut makes one rollout and has its route as before afterwards.
func (s *stage) rollOut(ctx context.Context, i int, c Case) (ended, error) {
	route := routeName(i)
	s.pods.cases[i].Store(&c)
	began := time.Now()
	if err := s.admin.StartRollout(ctx, route, "canary"); err != nil {
		return ended{}, err
	}
	e := ended{of: c}
	tick := time.NewTicker(s.o.Look / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return e, context.Cause(ctx)
		case <-tick.C:
		}
		r, err := s.admin.Rollout(ctx, route)
		if err != nil {
			return e, err
		}
		e.see(r, time.Since(began))
		switch {
		case r.Phase == "paused": // for want of a verdict
			if err := s.admin.AbortRollout(ctx, route, "no verdict"); err != nil {
				return e, err
			}
			e.phase = waited
		case e.phase == waited && r.Phase == "aborted":
		case r.Phase == "aborted":
			e.phase = r.Phase
			// What is still on its way to the new version comes within this time, or is late by at least as much.
			select {
			case <-ctx.Done():
				return e, context.Cause(ctx)
			case <-time.After(time.Second):
			}
			e.back = max(0, time.Unix(0, s.pods.last[i].Load()).Sub(r.Since))
		case r.Phase == "succeeded":
			e.phase = r.Phase
		default:
			continue
		}
		if r.Phase == "paused" {
			continue
		}
		_, err = s.admin.SetWeights(ctx, route, map[string]float64{"stable": 100, "canary": 0}, "the next one")
		return e, err
	}
}

// see takes in what is shown of the rollout.
func (e *ended) see(r *bench.Rollout, after time.Duration) {
	a := r.Analysis
	if a == nil {
		return
	}
	e.requests = a.Canary.Requests + a.Stable.Requests
	look := Look{Seconds: after.Seconds(), Weight: r.Weight, Canary: a.Canary.Requests, Bad: a.Canary.Errors}
	for _, check := range a.Checks {
		if check.Name == "error_rate" {
			look.Ratio, look.Low, look.High = check.Ratio, check.Low, check.High
		}
	}
	e.looks = append(e.looks, look)
	// The rule of thumb looks at the same figures: more than 1.5 times the old version's rate of errors, and out.
	if a.Canary.Requests > 0 && a.Stable.Requests > 0 {
		canary := float64(a.Canary.Errors) / float64(a.Canary.Requests)
		stable := float64(a.Stable.Errors) / float64(a.Stable.Requests)
		e.thumb = e.thumb || canary > 1.5*stable
	}
}

// waited is the phase of a rollout that came to no verdict in time.
const waited = "waited"
