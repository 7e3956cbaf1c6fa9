package bench

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

// answers is a tally of n answers of a variant, each after d, of which one in ten fails.
func answers(variant string, n int, d time.Duration) *Tally {
	t := NewTally(0)
	for i := range n {
		r := Result{Done: d, Status: 200, Variant: []byte(variant), User: -1}
		if i%10 == 9 {
			r.Status = 500
		}
		t.Add(&r)
	}
	return t
}

func TestTimelineHoldsRatesAndQuantiles(t *testing.T) {
	var l Timeline
	l.Add(answers("blue", 200, 5*ms), 0, 2*s)
	l.Add(answers("green", 50, 7*ms), 2*s, 3*s)
	l.Add(NewTally(0), 3*s, 3*s) // no time at all
	l.Add(answers("green", 10, 90*ms), 3*s, 3100*ms)
	if len(l.Intervals) != 2 {
		t.Fatalf("%d intervals, want 2: a short one belongs to the one before", len(l.Intervals))
	}
	first, second := l.Intervals[0], l.Intervals[1]
	if first.At != 2 || first.Total.Rate != 100 || first.Total.Errors != 10 || math.Abs(first.Total.Latency.P50-5) > 0.01 {
		t.Errorf("first %+v; want 100/s of 5 ms, 10/s failed", first)
	}
	if math.Abs(second.At-3.1) > 1e-9 || math.Abs(second.Seconds-1.1) > 1e-9 || math.Abs(second.Total.Rate-60/1.1) > 1e-6 {
		t.Errorf("second %+v; want 60 answers in 1.1 s", second)
	}
	if green := second.of("green"); math.Abs(green.Latency.P99-90) > 0.1 || second.of("blue").Rate != 0 {
		t.Errorf("green %+v, blue %+v; want the higher p99 of both parts, and nothing", green, second.of("blue"))
	}
}

// Memory is bounded, and nothing is lost by it.
func TestTimelineIsBounded(t *testing.T) {
	var l Timeline
	blue, green := newInterval(answers("blue", 10, ms), 0, 1), newInterval(answers("green", 20, ms), 0, 1)
	const n = 3*MaxIntervals + 1
	for i := range n {
		part := blue
		if i%2 == 1 {
			part = green
		}
		part.At = float64(i + 1)
		l.add(part)
	}
	if len(l.Intervals) > MaxIntervals {
		t.Errorf("%d intervals, want %d at most", len(l.Intervals), MaxIntervals)
	}
	requests, errors, greens, at := 0.0, 0.0, 0.0, 0.0
	for _, i := range l.Intervals {
		requests += i.Total.Rate * i.Seconds
		errors += i.Total.Errors * i.Seconds
		greens += i.of("green").Rate * i.Seconds
		if at += i.Seconds; math.Abs(at-i.At) > 1e-6 {
			t.Fatalf("an interval ends at %v, want %v", i.At, at)
		}
	}
	if want := 10.0*(n/2+1) + 20*(n/2); math.Abs(requests-want) > 1e-3 || math.Abs(greens-20*(n/2)) > 1e-3 || math.Abs(errors-want/10) > 1e-3 {
		t.Errorf("%v requests, %v of green, %v errors; want %v, %v, %v", requests, greens, errors, want, 20*(n/2), want/10)
	}
}

func TestDistributionRunsToTheMaximum(t *testing.T) {
	d := answersOf(1000).line(s).Distribution
	if last := len(d.Tail) - 1; len(d.MS) != len(d.Tail) || d.Tail[0] != 1 || d.Tail[last] != 1000 || math.Abs(d.MS[last]-1000) > 1 {
		t.Fatalf("distribution %+v; want 1 in 1 to 1 in 1000, the last the maximum", d)
	}
	for i, tail := range d.Tail {
		if want := 1000 * (1 - 1/tail); math.Abs(d.MS[i]-want) > 3 {
			t.Errorf("all but 1 in %v are at most %v ms, want about %v", tail, d.MS[i], want)
		}
	}
	if one := answersOf(1).line(s).Distribution; len(one.Tail) != 1 {
		t.Errorf("distribution of one value: %+v", one)
	}
	if none := answersOf(0).line(s).Distribution; len(none.Tail) != 0 {
		t.Errorf("distribution of nothing: %+v", none)
	}
}

// answersOf is n answers, after 1 ms, 2 ms and so on.
func answersOf(n int) *Record {
	t := NewTally(0)
	for i := range n {
		t.Add(&Result{Done: time.Duration(i+1) * ms, Status: 200, User: -1})
	}
	return t.Total()
}

// The library's own reader reads the log back.
func TestIntervalLogIsReadBack(t *testing.T) {
	var b bytes.Buffer
	start := time.Unix(1_700_000_000, 250e6)
	l, err := NewIntervalLog(&b, start)
	if err != nil {
		t.Fatal(err)
	}
	part := answers("blue, the first", 10, 5*ms)
	part.Merge(answers("green", 5, 9*ms))
	part.Merge(answers("", 1, ms))
	if err := l.Add(part, start, start.Add(s)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "#[Logged by weir-bench]\n#[Histogram log format version 1.3]\n#[StartTime: 1700000000 ") {
		t.Errorf("log begins with %.150q", b.String())
	}
	got := map[string]int64{}
	for r := hdrhistogram.NewHistogramLogReader(&b); ; {
		h, err := r.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		got[h.Tag()] = h.TotalCount()
		if h.EndTimeMs()-h.StartTimeMs() != 1000 || h.StartTimeMs() != start.UnixMilli() {
			t.Errorf("%q is from %d to %d, want one second from %d", h.Tag(), h.StartTimeMs(), h.EndTimeMs(), start.UnixMilli())
		}
	}
	// Answers with an error have no latency: one of ten.
	if diff := cmp.Diff(map[string]int64{"": 15, "blue__the_first": 9, "green": 5}, got); diff != "" {
		t.Errorf("counts by tag (-want +got):\n%s", diff)
	}
}
