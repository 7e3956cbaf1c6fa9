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
		if s <= 50 && !ok {
			t.Fatalf("forgotten after %d s, want at least 50", s)
		}
		if s >= 60 && ok {
			t.Fatalf("still shown after %d s, want at most 60", s)
		}
	}
}

func TestWindowOfASteadyStreamHoldsFiftyToSixtySeconds(t *testing.T) {
	var w Window
	start := time.Unix(1000, 0)
	for s := range 300 {
		w.Tick(start.Add(time.Duration(s) * time.Second))
		w.Record(time.Millisecond)
		if n := w.Count(); s >= 60 && (n < 50 || n > 60) {
			t.Fatalf("second %d: %d records shown, want those of the last 50 to 60 s", s, n)
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
