package state

import (
	"errors"
	"fmt"
	"slices"
)

// maxWeight is config.MaxWeight, which this package must not import. A test compares them.
const maxWeight = 1e9

// validate tells why d cannot be put in force. It judges d by itself; whether its names still exist is
// for those who know the configuration.
func validate(d *Document) error {
	for name, r := range d.Routes {
		if err := validateRoute(r, d.Generation); err != nil {
			return fmt.Errorf("routes[%q]: %w", name, err)
		}
	}
	for name, p := range d.Pools {
		if err := checkGeneration(p.Generation, d.Generation); err != nil {
			return fmt.Errorf("pools[%q]: %w", name, err)
		}
	}
	last := uint64(0)
	for i, c := range d.History {
		if err := validateChange(c, last, d.Generation); err != nil {
			return fmt.Errorf("history[%d]: %w", i, err)
		}
		last = c.Generation
	}
	return nil
}

func validateRoute(r Route, newest uint64) error {
	if err := checkGeneration(r.Generation, newest); err != nil {
		return err
	}
	if err := validateWeights("split", r.Split); err != nil {
		return err
	}
	if err := validateWeights("overlay", r.Overlay); err != nil {
		return err
	}
	if err := validateWeights("back", r.Back); err != nil {
		return err
	}
	if r.Ramp == nil {
		return nil
	}
	if r.Ramp.Total <= 0 || r.Ramp.Done < 0 || r.Ramp.Done > r.Ramp.Total {
		return fmt.Errorf("ramp: %v of %v are done", r.Ramp.Done, r.Ramp.Total)
	}
	if err := validateWeights("ramp.from", r.Ramp.From); err != nil {
		return err
	}
	if err := validateWeights("ramp.to", r.Ramp.To); err != nil {
		return err
	}
	samePool := func(a, b Weight) bool { return a.Pool == b.Pool }
	if len(r.Ramp.To) == 0 || !slices.EqualFunc(r.Ramp.From, r.Ramp.To, samePool) {
		return errors.New("ramp: from and to are not of the same pools")
	}
	return nil
}

func validateChange(c Change, previous, newest uint64) error {
	if c.Generation <= previous {
		return fmt.Errorf("generation %d does not follow %d", c.Generation, previous)
	}
	if err := checkGeneration(c.Generation, newest); err != nil {
		return err
	}
	for _, r := range c.Routes {
		if err := validateWeights("before", r.Before); err != nil {
			return fmt.Errorf("route %q: %w", r.Route, err)
		}
		if err := validateWeights("after", r.After); err != nil {
			return fmt.Errorf("route %q: %w", r.Route, err)
		}
	}
	return nil
}

func checkGeneration(g, newest uint64) error {
	if g > newest {
		return fmt.Errorf("generation %d is above the document's, %d", g, newest)
	}
	return nil
}

// validateWeights holds weights to what the configuration and the API accept. None at all are fine.
func validateWeights(key string, weights []Weight) error {
	sum, seen := 0.0, make(map[string]bool, len(weights))
	for _, w := range weights {
		if w.Pool == "" {
			return fmt.Errorf("%s: a weight without a pool", key)
		}
		if seen[w.Pool] {
			return fmt.Errorf("%s: pool %q twice", key, w.Pool)
		}
		seen[w.Pool] = true
		if !(w.Weight >= 0 && w.Weight <= maxWeight) { // NaN is neither
			return fmt.Errorf("%s: pool %q has weight %v", key, w.Pool, w.Weight)
		}
		sum += w.Weight
	}
	if len(weights) > 0 && sum <= 0 {
		return errors.New(key + ": the weights add up to 0")
	}
	return nil
}
