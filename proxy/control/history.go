package control

import (
	"fmt"
	"maps"
	"slices"

	"weir/internal/state"
	"weir/proxy"
)

// History are the changes that are remembered, in their order. It is shared: do not change it.
func (c *Controller) History() []state.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doc.History
}

// Rollback gives routes the weights, and pools the drains, that they had in generation to; with 0, those
// before the last change of routing, or where that is a step of a ramp, its route the weights before the
// first step. It returns the generation then in force: a new one, or the old one where nothing differs.
//
// It returns a *ControlError: 422 for a generation that never was; 409 for one that is not in the history
// any more, or whose routes, variants, pools or endpoints are gone; and what proxy.Update refuses.
func (c *Controller) Rollback(to uint64, o Change) (generation uint64, err error) {
	leave, err := c.enter()
	if err != nil {
		return c.proxy.Generation(), err
	}
	defer leave()
	for {
		c.mu.Lock()
		history, base := c.doc.History, c.doc.Generation
		c.mu.Unlock()
		target, weights, drains, err := takeBack(history, base, to)
		if err != nil {
			return base, err
		}
		if drains, err = c.allThere(target, weights, drains); err != nil {
			return base, err
		}
		for _, route := range slices.Sorted(maps.Keys(weights)) {
			if err := c.vacate(route, nil, Change{Cause: o.Cause, Force: o.Force}); err != nil {
				return base, err
			}
		}
		moved := false
		generation, err = c.proxy.Update(proxy.Update{
			Kind: state.KindRollback, Cause: o.Cause, Force: o.Force, Weights: weights, Drains: drains, To: target,
			Check: func() error {
				if moved = c.proxy.Generation() != base; moved {
					return errMoved
				}
				return o.Expect.check("weir", base)
			},
		})
		if !moved {
			return generation, err
		}
	}
}

var errMoved = fmt.Errorf("changed meanwhile")

// takeBack returns what a rollback sets: the weights and drains of generation to, or with 0 what the last
// change of routing changed. Of a ramp that is its route alone, as it was before the first step: what others did
// between its steps was not part of it.
func takeBack(history []state.Change, now, to uint64) (target uint64, weights map[string]map[string]float64, drains []state.DrainChange, err error) {
	if to != 0 {
		weights, drains, err = undo(history, now, to)
		return to, weights, drains, err
	}
	last, err := lastOfRouting(history)
	if err != nil {
		return 0, nil, nil, err
	}
	if last.First == 0 {
		weights, drains, err = undo(history, now, last.Generation-1)
		return last.Generation - 1, weights, drains, err
	}
	for _, h := range history {
		if h.Generation == last.First {
			return last.First - 1, map[string]map[string]float64{h.Routes[0].Route: byName(h.Routes[0].Before)}, nil, nil
		}
	}
	return 0, nil, nil, forgotten(last.First-1, history)
}

// lastOfRouting is the last change that a rollback can take back.
func lastOfRouting(history []state.Change) (state.Change, error) {
	for _, h := range slices.Backward(history) {
		if len(h.Drains) > 0 || slices.ContainsFunc(h.Routes, func(r state.RouteChange) bool { return r.Before != nil && r.After != nil }) {
			return h, nil
		}
	}
	return state.Change{}, &proxy.ControlError{Status: 409, Code: "no_history", Message: "there is no change of routing to take back"}
}

func forgotten(to uint64, history []state.Change) error {
	first := uint64(0)
	if len(history) > 0 {
		first = history[0].Generation
	}
	return &proxy.ControlError{Status: 409, Code: "forgotten",
		Message: fmt.Sprintf("generation %d is not in the history any more, which begins with generation %d", to, first)}
}

// undo takes back, last first, what was changed after generation to, and returns the weights and drains of
// then that were others since.
func undo(history []state.Change, now, to uint64) (map[string]map[string]float64, []state.DrainChange, error) {
	switch {
	case to == 0 || to > now:
		return nil, nil, &proxy.ControlError{Status: 422, Code: "unknown_generation", Message: fmt.Sprintf("generation %d: want 1 to %d, the one in force", to, now)}
	case to < now && (len(history) == 0 || history[0].Generation > to+1):
		return nil, nil, forgotten(to, history)
	}
	weights := map[string]map[string]float64{}
	drained := map[state.DrainChange]bool{} // by pool and endpoint
	var order []state.DrainChange
	for i := len(history) - 1; i >= 0 && history[i].Generation > to; i-- {
		for _, r := range history[i].Routes {
			if delete(weights, r.Route); r.Before != nil {
				weights[r.Route] = byName(r.Before)
			}
		}
		for _, d := range history[i].Drains {
			key := state.DrainChange{Pool: d.Pool, Endpoint: d.Endpoint}
			if _, known := drained[key]; !known {
				order = append(order, key)
			}
			drained[key] = !d.Draining
		}
	}
	var drains []state.DrainChange
	for _, d := range order {
		d.Draining = drained[d]
		drains = append(drains, d)
	}
	return weights, drains, nil
}

// allThere refuses a rollback to what is gone, and returns the drains to set. The end of a drain of what
// is gone it leaves out.
func (c *Controller) allThere(to uint64, weights map[string]map[string]float64, drains []state.DrainChange) (there []state.DrainChange, err error) {
	gone := func(err error) error {
		return &proxy.ControlError{Status: 409, Code: "gone", Message: fmt.Sprintf("cannot go back to generation %d: %v", to, err)}
	}
	for _, route := range slices.Sorted(maps.Keys(weights)) {
		if _, err := c.proxy.Weigh(route, weights[route]); err != nil {
			return nil, gone(err)
		}
	}
	for _, d := range drains {
		p, ok := c.proxy.Pool(d.Pool)
		switch {
		case !ok:
			err = fmt.Errorf("pool %s is gone", d.Pool)
		case d.Endpoint != "" && !slices.ContainsFunc(p.Endpoints, func(e proxy.EndpointStatus) bool { return e.Address == d.Endpoint }):
			err = fmt.Errorf("endpoint %s of pool %s is gone", d.Endpoint, d.Pool)
		default:
			there = append(there, d)
			continue
		}
		if d.Draining {
			return nil, gone(err)
		}
	}
	return there, nil
}
