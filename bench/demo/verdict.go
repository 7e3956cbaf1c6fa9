package demo

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"weir/bench"
)

const (
	// unlikely is the probability below which a split counts as not following its weights.
	unlikely = 1e-6
	// fewUsers and fewAnswers are too few to judge a split and an accuracy by.
	fewUsers   = 50
	fewAnswers = 100
	// farOff is by how many standard deviations an accuracy may differ from its model's.
	farOff = 5
)

// verdict sums the demonstration up: as text, and as what should not be.
func (s *live) verdict() (summary string, problems []string) {
	report := bench.Summarize(s.total, s.took)
	b := &strings.Builder{}
	fmt.Fprintf(b, "\n%d requests in %.1f s: %d failed, %d late, %d dropped\n\n",
		report.Total.Requests, s.took.Seconds(), report.Total.Errors, report.Total.Late, report.Dropped)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "variant\tversion\trequests\terrors\tp50\tp95\tp99\taccuracy\tmodel says\t")
	for _, r := range s.rows(report, s.epochs[len(s.epochs)-1]) {
		p50, p95, p99 := r.quantiles()
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t\n",
			r.variant, r.version, r.line.Requests, r.line.Errors, p50, p95, p99, r.accuracy(), r.promised())
		problems = append(problems, r.accuracyProblem()...)
	}
	_ = t.Flush() // a strings.Builder does not fail
	b.WriteByte('\n')
	for _, e := range s.epochs {
		line, wrong := e.verdict(s.stack.pools)
		fmt.Fprintln(b, line)
		problems = append(problems, wrong...)
	}
	b.WriteByte('\n')
	if report.Total.Errors > 0 {
		problems = append(problems, fmt.Sprintf("%d of %d requests failed: %s", report.Total.Errors, report.Scheduled, report.Total.Kinds()))
	}
	if report.Total.OK == 0 {
		problems = append(problems, "no request was answered")
	}
	return b.String(), append(problems, s.problems...)
}

// accuracyProblem says when the answers are right less or more often than the model promises.
func (r *row) accuracyProblem() []string {
	if r.modelSays == 0 || r.line.Accuracy == nil || r.line.Judged < fewAnswers {
		return nil
	}
	deviation := math.Sqrt(r.modelSays * (1 - r.modelSays) / float64(r.line.Judged))
	if math.Abs(*r.line.Accuracy-r.modelSays) <= farOff*deviation {
		return nil
	}
	return []string{fmt.Sprintf("%s is right in %s of %d answers, but its model says %s", r.variant, r.accuracy(), r.line.Judged, r.promised())}
}

// verdict compares where users went with the weights. Requests of one user go together, so it
// is distinct users that are counted.
func (e *epoch) verdict(pools []*pool) (line string, problems []string) {
	names := slices.Sorted(maps.Keys(e.weights))
	var seen uint64
	var counts []uint64
	var weights []float64
	for _, name := range names {
		counts, weights = append(counts, e.users[name]), append(weights, e.weights[name])
		seen += e.users[name]
	}
	wanted := describe(e.weights, pools)
	if seen == 0 {
		return fmt.Sprintf("at %s no user was seen", wanted), nil
	}
	b := &strings.Builder{}
	fmt.Fprintf(b, "at %s: %d users,", wanted, seen)
	for i, name := range names {
		fmt.Fprintf(b, " %.1f%% on %s,", 100*float64(counts[i])/float64(seen), name)
	}
	fmt.Fprintf(b, " %d changed variant", e.moved)
	if e.moved > 0 {
		problems = append(problems, fmt.Sprintf("%d users changed variant while the weights were %s", e.moved, wanted))
	}
	p, err := bench.ChiSquare(counts, weights)
	switch {
	case err != nil:
		problems = append(problems, err.Error())
	case seen >= fewUsers && p < unlikely:
		problems = append(problems, fmt.Sprintf("the split does not follow the weights %s: %s (p = %.2g)", wanted, b, p))
	default:
		fmt.Fprintf(b, " (p = %.2g)", p)
	}
	return b.String(), problems
}
