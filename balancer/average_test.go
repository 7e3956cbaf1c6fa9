package balancer

import (
	"math"
	"sync"
	"testing"
	"time"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-3*max(math.Abs(a), math.Abs(b), 1e-3) }

// at is a moment some seconds after an endpoint was made.
func at(seconds float64) moment {
	return (&line{born: start}).moment(start.Add(time.Duration(seconds * 1e9)))
}

func TestAverageFollowsAndForgets(t *testing.T) {
	var a average
	if s := a.load(); s.n != 0 || s.now(at(1)) != 0 {
		t.Fatalf("an empty average holds %+v", s)
	}
	for i, want := range []float64{8, 6, 16.0 / 3} { // 8, 4 and 4: each counts as much while they are few
		a.add([]float64{8, 4, 4}[i], at(1))
		if s := a.load(); s.n != i+1 || !near(s.value, want) {
			t.Errorf("after %d samples: %+v, want %v", i+1, s, want)
		}
	}
	for range 200 {
		a.add(2, at(2))
	}
	s := a.load()
	if !near(s.value, 2.006) && (s.value < 2 || s.value > 2.02) || s.n != mostSamples {
		t.Errorf("after 200 samples of 2: %+v", s)
	}
	if got := s.now(at(12)) / s.now(at(2)); !near(got, 1/math.E) {
		t.Errorf("10 s later %.4f of it is left, want 1/e", got)
	}
	one := sample{value: 4, n: 1, at: at(0)}
	if one.hope() != 2 || !near(one.left(at(1.25)), 1/math.E) {
		t.Errorf("a single sample of 4 is taken for %v, and %v of it is left after 1.25 s; want 2, and 1/e", one.hope(), one.left(at(1.25)))
	}
	if one.left(at(-3)) != 1 {
		t.Error("a sample from the future is not whole")
	}
}

func TestPeakCountsAtOnceAndFades(t *testing.T) {
	var a average
	for range 20 {
		a.addPeak(1, at(0))
	}
	a.addPeak(5, at(1))
	if v := a.load().value; v != 5 {
		t.Fatalf("a peak of 5 over 1 makes %v", v)
	}
	a.addPeak(1, at(11))
	if v := a.load().value; !near(v, 5/math.E+1-1/math.E) {
		t.Errorf("10 s later it is %v, want what Finagle's formula gives, %v", v, 5/math.E+1-1/math.E)
	}
}

// TestMomentsWrapAround: after 37 hours a moment is small again.
func TestMomentsWrapAround(t *testing.T) {
	const day = 86400.0
	for _, began := range []float64{0, 1.5 * day, 37.28 * 3600, 10 * day} {
		if got := at(began + 20).since(at(began)); !near(got, 20) {
			t.Errorf("20 s after %v s are %v s", began, got)
		}
		if got := at(began).since(at(began + 20)); got != 0 {
			t.Errorf("20 s before: %v s, want 0", got)
		}
	}
}

func TestAverageUnderConcurrency(t *testing.T) {
	var a average
	var running sync.WaitGroup
	for w := range 4 {
		running.Go(func() {
			for i := range 2000 {
				a.add(float64(1+w%2), at(float64(i)/1000))
			}
		})
	}
	running.Wait()
	if v := a.load().value; v < 1 || v > 2 {
		t.Errorf("an average of ones and twos is %v", v)
	}
}

func TestClassesOfRequestsInFlight(t *testing.T) {
	want := []int{0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8}
	for n, class := range want {
		if got := classOf(int64(n)); got != class {
			t.Errorf("%d in flight are of class %d, want %d", n, got, class)
		}
	}
	for n := int64(1); n < 1<<20; n++ {
		if c := classOf(n); c < classOf(n-1) || c >= rifClasses {
			t.Fatalf("%d in flight are of class %d, after %d", n, c, classOf(n-1))
		}
	}
}

// TestLatencyAtSimilarRif: what was measured at as many in flight counts; else the latency grows with them.
func TestLatencyAtSimilarRif(t *testing.T) {
	var l learned
	if l.latencyAt(1, at(0)) != 0 || l.peakShare(at(0)) != 0 {
		t.Fatal("something is expected of an endpoint of which nothing is known")
	}
	for range 40 {
		l.learn(Success, 0.010, 1, at(1))
		l.learn(Success, 0.012, 4, at(1))
	}
	if got := l.latencyAt(1, at(1)); math.Abs(got-0.010) > 0.0005 {
		t.Errorf("with none in flight %.4f s, want 0.010", got)
	}
	if got := l.latencyAt(4, at(1)); math.Abs(got-0.012) > 0.0005 {
		t.Errorf("with three in flight %.4f s, want 0.012", got)
	}
	if got := l.latencyAt(20, at(1)); got < 0.05 { // 20 × (10/1 and 12/4, on average)
		t.Errorf("with 19 in flight, as never before, %.4f s, want more", got)
	}
	if got := l.latencyAt(1, at(60)); got > 0.0001 {
		t.Errorf("a minute later %.4f s, want next to nothing: it is to be tried again", got)
	}
}

// TestFailuresAreNotFast: each way of failing lengthens what is expected.
func TestFailuresAreNotFast(t *testing.T) {
	for _, o := range []Outcome{Status, Connect, Reset, Timeout, Protocol} {
		var l learned
		for range 20 {
			l.learn(Success, 0.010, 1, at(1))
		}
		for range 10 {
			l.learn(o, 0.0001, 1, at(1))
		}
		if got := l.latencyAt(1, at(1)); got < 0.013 {
			t.Errorf("%v: 10 of 30 lead to %.4f s, want more than the 0.010 of those that succeed", o, got)
		}
		if got := l.peakShare(at(1)); got < 0.013 {
			t.Errorf("%v: 10 of 30 lead to a peak of %.4f s", o, got)
		}
		var never learned
		never.learn(o, 0.0001, 1, at(1))
		if got := never.latencyAt(1, at(1)); got < 1000 {
			t.Errorf("%v: one that has never succeeded has %.4f s, want far more than any other", o, got)
		}
		for range 40 {
			l.learn(Success, 0.010, 1, at(40))
		}
		if got := l.latencyAt(1, at(40)); got > 0.011 {
			t.Errorf("%v: %.4f s when it is well again, want 0.010", o, got)
		}
	}
	var l learned
	l.learn(Success, 0.010, 1, at(1))
	l.learn(Canceled, 0.001, 1, at(1))
	short := l.peakShare(at(1))
	l.learn(Canceled, 0.500, 1, at(1))
	if long := l.peakShare(at(1)); long < 20*short {
		t.Errorf("clients that gave up after 1 ms and 500 ms make %.4f and %.4f s, want the second to count", short, long)
	}
}
