package stats

import (
	"testing"
	"time"
)

func TestWindowShowsTheLastMinute(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	w.Tick(start)
	w.Record(time.Second)
	for s := 1; s <= 120; s++ {
		w.Tick(start.Add(time.Duration(s) * time.Second))
		_, ok := w.Quantile(0.5)
		if s <= 55 && !ok {
			t.Fatalf("forgotten after %d s, want at least 55", s)
		}
		if s >= 60 && ok {
			t.Fatalf("still shown after %d s, want at most 60", s)
		}
	}
}

func TestWindowOfASteadyStreamHoldsTheLastMinute(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	for s := range 300 {
		w.Tick(start.Add(time.Duration(s) * time.Second))
		w.Record(time.Millisecond)
		if n := w.Count(); s >= 60 && (n < 55 || n > 60) {
			t.Fatalf("second %d: %d records shown, want those of the last 55 to 60 s", s, n)
		}
	}
}

func TestWindowQuantilesFollowTheStream(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	for s := range 120 {
		w.Tick(start.Add(time.Duration(s) * time.Second))
		d := time.Millisecond
		if s >= 60 {
			d = time.Second
		}
		for range 10 {
			w.Record(d)
		}
	}
	for _, q := range []float64{0.01, 0.5, 0.99} {
		got, ok := w.Quantile(q)
		if !ok || got < 970*time.Millisecond || got > 1030*time.Millisecond {
			t.Errorf("Quantile(%v) = %v, %v; the last minute had only 1s", q, got, ok)
		}
	}
}

func TestWindowForgetsAllAfterALongGap(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	w.Tick(start)
	for range 100 {
		w.Record(time.Millisecond)
	}
	w.Tick(start.Add(24 * time.Hour))
	if n := w.Count(); n != 0 {
		t.Errorf("%d records after a day, want 0", n)
	}
	w.Record(time.Millisecond)
	w.Tick(start.Add(24*time.Hour + 5*time.Second))
	if n := w.Count(); n != 1 {
		t.Errorf("%d records 5 s after one, want 1", n)
	}
}

func TestWindowIgnoresTimeThatGoesBack(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	w.Tick(start)
	w.Record(time.Millisecond)
	w.Tick(start.Add(-time.Hour))
	w.Tick(start.Add(20 * time.Second))
	if n := w.Count(); n != 1 {
		t.Errorf("%d records, want 1: an hour back and 20 s on forget nothing", n)
	}
}

func TestWindowRecent(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	if r := w.Recent(start); r.Span != 0 || r.Count() != 0 {
		t.Errorf("before the first tick: %v, %d", r.Span, r.Count())
	}
	for s := range 100 { // 10 a second, one of which fails from second 60 on
		now := start.Add(time.Duration(s) * time.Second)
		w.Tick(now)
		for i := range 10 {
			if s >= 60 && i == 0 {
				w.RecordFailed(time.Millisecond)
			} else {
				w.Record(time.Millisecond)
			}
		}
		r := w.Recent(now.Add(time.Second))
		if want := 10 * r.Span.Seconds(); float64(r.Count()) != want || s > 15 && (r.Span < 10*time.Second || r.Span > 15*time.Second) {
			t.Fatalf("second %d: %d in %v, want %v in 10 to 15 s", s, r.Count(), r.Span, want)
		}
		if s > 75 && r.Failed*10 != r.Count() {
			t.Fatalf("second %d: %d of %d failed, want a tenth", s, r.Failed, r.Count())
		}
	}
	if r := w.Recent(start.Add(100 * time.Second)); r.Failed == 0 {
		t.Error("nothing failed")
	}
	w.Tick(start.Add(time.Hour))
	if r := w.Recent(start.Add(time.Hour)); r.Count() != 0 || r.Failed != 0 {
		t.Errorf("after an hour: %d, %d failed", r.Count(), r.Failed)
	}
}
