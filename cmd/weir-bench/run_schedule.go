package main

import (
	"errors"
	"fmt"
	"time"

	"weir/bench"
)

// schedule returns when requests are due, and for how long: 0 until interrupted.
func (o *runOptions) schedule() (s bench.Schedule, length time.Duration, err error) {
	s = bench.Schedule{Arrivals: o.arrivals, Rate: o.rate, RampTo: o.rampTo, Over: o.duration, Even: o.even, Seed: o.seed}
	if err := o.checkSchedule(); err != nil {
		return s, 0, err
	}
	if o.steps != "" {
		if s.Steps, err = bench.ParseSteps(o.steps); err != nil {
			return s, 0, err
		}
	}
	if o.burst != "" {
		if s.Burst, err = bench.ParseBurst(o.burst); err != nil {
			return s, 0, err
		}
	}
	if o.trace != "" {
		if s.Trace, err = bench.ReadTrace(o.trace); err != nil {
			return s, 0, fmt.Errorf("trace: %w", err)
		}
	}
	length = o.duration
	if own := s.Length(); own > 0 && (!o.durationGiven || length == 0 || own < length) {
		length = own
	}
	return s, length, nil
}

// checkSchedule refuses flags that would do nothing, or are missing.
func (o *runOptions) checkSchedule() error {
	if o.duration < 0 {
		return fmt.Errorf("duration %v: must not be negative", o.duration)
	}
	for _, f := range []struct {
		flag, arrivals string
		given          bool
	}{
		{"--ramp-to", bench.ArrivalsRamp, o.rampTo != 0},
		{"--steps", bench.ArrivalsSteps, o.steps != ""},
		{"--burst", bench.ArrivalsBursts, o.burst != ""},
		{"--trace", bench.ArrivalsTrace, o.trace != ""},
	} {
		switch needed := o.arrivals == f.arrivals && !o.closed; {
		case f.given && !needed:
			return fmt.Errorf("%s goes with --arrivals %s", f.flag, f.arrivals)
		case needed && !f.given && f.arrivals != bench.ArrivalsRamp:
			return fmt.Errorf("--arrivals %s needs %s", f.arrivals, f.flag)
		}
	}
	switch {
	case o.even && o.arrivals != bench.ArrivalsRamp && o.arrivals != bench.ArrivalsSteps:
		return errors.New("--even goes with --arrivals ramp or steps")
	case o.saturate && (o.closed || o.arrivals != bench.ArrivalsPoisson && o.arrivals != bench.ArrivalsConstant):
		return errors.New("--saturate goes with --arrivals poisson or constant")
	}
	return nil
}

// search returns what --saturate looks for, and how.
func (o *runOptions) search() (*bench.Search, bench.Objective, error) {
	objective := bench.Objective{SLO: o.slo, Quantile: o.quantile, MaxErrorRatio: defaultMaxErrors}
	if o.maxErrors != "" {
		ratio, err := parseRatio("max-error-rate", o.maxErrors)
		if err != nil {
			return nil, objective, err
		}
		objective.MaxErrorRatio = ratio
	}
	if err := objective.Check(); err != nil {
		return nil, objective, fmt.Errorf("--saturate: %w (--slo, --quantile)", err)
	}
	if o.probe < 100*time.Millisecond {
		return nil, objective, fmt.Errorf("probe %v: must be at least 100ms", o.probe)
	}
	precision, err := parseRatio("precision", o.precision)
	if err != nil {
		return nil, objective, err
	}
	search, err := bench.NewSearch(o.rate, o.maxRate, precision)
	return search, objective, err
}

// defaultMaxErrors is the part of the requests that may fail at a rate that --saturate accepts.
const defaultMaxErrors = 0.001
