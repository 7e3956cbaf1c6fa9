package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Objective is what a rate must keep.
type Objective struct {
	SLO      time.Duration // of the latency
	Quantile float64       // of the answers that must keep it: 50, 90, 95, 99 or 99.9
	// MaxErrorRatio is the part of the requests due that may fail, those never sent included.
	MaxErrorRatio float64
}

// Saturation is the highest rate that keeps an objective, and how it was found. Durations are
// milliseconds, rates are requests a second.
type Saturation struct {
	Rate     float64 `json:"rate"`  // the highest that was kept; 0: none was
	Upper    float64 `json:"upper"` // the lowest that was not; 0: none was tried. The limit lies between both.
	End      string  `json:"end"`   // why the search ended
	SLO      float64 `json:"slo_ms"`
	Quantile float64 `json:"quantile"`
	Errors   float64 `json:"max_error_ratio"`
	Probes   []Probe `json:"probes"` // in the order in which they were made
}

// Probe is one rate that was tried.
type Probe struct {
	Rate       float64  `json:"rate"`
	Answered   float64  `json:"answered"` // a second
	Latency    *float64 `json:"latency_ms"`
	ErrorRatio float64  `json:"error_ratio"`
	Lag        float64  `json:"generator_lag_p99_ms"`
	Kept       bool     `json:"kept"`
	Why        string   `json:"why"` // it was not kept
	Limits     []string `json:"generator_limits,omitempty"`
}

// Saturate tries the rates of a search by the function try, which attacks at one rate and
// reports, and returns the report of the highest rate that was kept, or of the last when none was,
// with its Saturation. When ctx ends, the result is as far as the search came.
func Saturate(ctx context.Context, s *Search, o Objective, try func(rate float64) (*Report, error), say func(Probe)) (*Report, error) {
	found := &Saturation{SLO: milliseconds(int64(o.SLO)), Quantile: o.Quantile, Errors: o.MaxErrorRatio}
	var best, last *Report
	for rate := s.Next(); rate > 0 && ctx.Err() == nil; rate = s.Next() {
		r, err := try(rate)
		if err != nil {
			return nil, err
		}
		last = r
		if r.Interrupted {
			break
		}
		probe, byFar := o.judge(rate, r)
		found.Probes = append(found.Probes, probe)
		say(probe)
		if probe.Kept {
			best = r
		}
		s.Tell(probe.Kept, byFar)
	}
	if last == nil {
		return nil, context.Cause(ctx)
	}
	if best == nil {
		best = last
	}
	found.Rate, found.Upper, found.End = s.Found()
	if found.End == "" {
		best.Interrupted, found.End = true, "interrupted"
	}
	best.Saturation = found
	return best, nil
}

// Check says what is wrong with an objective.
func (o Objective) Check() error {
	if o.SLO <= 0 {
		return errors.New("an SLO is needed: the latency that answers must keep")
	}
	if _, ok := (&Quantiles{}).At(o.Quantile); !ok {
		return fmt.Errorf("quantile %v: must be 50, 90, 95, 99 or 99.9", o.Quantile)
	}
	return nil
}

// judge says whether a report keeps the objective, and whether it misses it by far.
func (o Objective) judge(rate float64, r *Report) (p Probe, byFar bool) {
	p = Probe{
		Rate: rate, Answered: r.Total.answered(r.Seconds), ErrorRatio: r.Total.ErrorRatio, Lag: r.Lag.P99,
	}
	if r.Generator != nil {
		p.Limits = r.Generator.Limits
	}
	slo := float64(o.SLO) / float64(time.Millisecond)
	var why []string
	switch ms, ok := r.Total.Latency.At(o.Quantile); {
	case !ok:
		why, byFar = append(why, "nothing was answered"), true
	default:
		p.Latency = &ms
		if ms > slo {
			why, byFar = append(why, fmt.Sprintf("p%g %s", o.Quantile, FormatMS(ms))), ms > 2*slo
		}
	}
	if p.ErrorRatio > o.MaxErrorRatio {
		why = append(why, fmt.Sprintf("%.3g%% errors (%s)", 100*p.ErrorRatio, r.Total.Kinds()))
		byFar = byFar || p.ErrorRatio > 2*o.MaxErrorRatio+0.01
	}
	p.Kept, p.Why = len(why) == 0, strings.Join(why, ", ")
	return p, byFar && len(p.Limits) == 0 // else it may have been the generator
}

// At returns a quantile by its percentage; false when it is not among those kept, or q is nil.
func (q *Quantiles) At(percent float64) (ms float64, ok bool) {
	if q == nil {
		return 0, false
	}
	switch percent {
	case 50:
		return q.P50, true
	case 90:
		return q.P90, true
	case 95:
		return q.P95, true
	case 99:
		return q.P99, true
	case 99.9:
		return q.P999, true
	}
	return 0, false
}

// String says what was found in a sentence.
func (s *Saturation) String() string {
	objective := fmt.Sprintf("p%g ≤ %s and errors ≤ %.3g%%", s.Quantile, FormatMS(s.SLO), 100*s.Errors)
	switch {
	case s.Rate == 0 && s.Upper == 0:
		return fmt.Sprintf("nothing was found out about %s: %s", objective, s.End)
	case s.Rate == 0:
		return fmt.Sprintf("no rate keeps %s: %.4g/s does not (%s)", objective, s.Upper, s.End)
	case s.Upper == 0:
		return fmt.Sprintf("%.4g/s keeps %s; no higher rate was tried (%s)", s.Rate, objective, s.End)
	}
	text := fmt.Sprintf("%.4g/s is the highest rate that keeps %s; %.4g/s does not (+%.1f%%)", s.Rate, objective, s.Upper, 100*(s.Upper/s.Rate-1))
	if s.End != "found" {
		text += ": " + s.End
	}
	if limits := s.limits(); len(limits) > 0 {
		text += ". Beware: there, " + strings.Join(limits, "; ")
	}
	return text
}

// limits are the generator's at the lowest rate that was not kept: whether the limit is its own.
func (s *Saturation) limits() []string {
	for _, p := range s.Probes {
		if p.Rate == s.Upper && !p.Kept && len(p.Limits) > 0 {
			return p.Limits
		}
	}
	return nil
}

// text writes the probes as a table and the answer below.
func (s *Saturation) text(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "probe\trate/s\tanswered/s\tp%g\terrors\tlag p99\tkept\t\n", s.Quantile)
	for i, p := range s.Probes {
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%s\t%.3g%%\t%s\t%s\t\n",
			i+1, p.Rate, p.Answered, p.latency(), 100*p.ErrorRatio, FormatMS(p.Lag), p.verdict())
	}
	_ = t.Flush() // a strings.Builder does not fail
	fmt.Fprintf(w, "\n%s\n\nThe highest rate that was kept, or the last:\n\n", s)
}

func (p *Probe) latency() string {
	if p.Latency == nil {
		return "-"
	}
	return FormatMS(*p.Latency)
}

func (p *Probe) verdict() string {
	if p.Kept {
		return "yes"
	}
	return "no: " + p.Why
}
