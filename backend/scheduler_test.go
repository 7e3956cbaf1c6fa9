package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/backend/tensor"
)

// testLine is a scheduler with one line, whose runs are as the test says: each takes its runTime
// and answers the rows it got. It belongs into a bubble of synctest.
type testLine struct {
	t    *testing.T
	s    *scheduler
	line *line
	mu   sync.Mutex
	runs []string // the rows of each run, such as "a b b"
	// runTime is how long a run takes, by its rows.
	runTime func(rows int) time.Duration
	fail    func(rows []string) error
	ended   sync.WaitGroup
}

func newTestLine(t *testing.T, workers, limit int, serving Serving) *testLine {
	t.Helper()
	l := &testLine{t: t, s: newScheduler(workers, limit, newMeter(workers, time.Now), time.Now)}
	l.line = l.add(serving)
	return l
}

func (l *testLine) add(serving Serving) *line {
	l.t.Helper()
	if err := serving.Check(); err != nil {
		l.t.Fatal(err)
	}
	serving, err := serving.settle(&Options{Workers: 99, Queue: 99}, &tensor.Signature{Inputs: []tensor.Spec{{Shape: []int64{-1, -1}}}})
	if err != nil {
		l.t.Fatal(err)
	}
	return l.s.add(&scripted{within: l.run}, serving, nil)
}

func (l *testLine) run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	rows := inputs[0].Strings
	l.mu.Lock()
	l.runs = append(l.runs, strings.Join(rows, " "))
	l.mu.Unlock()
	if l.runTime != nil {
		select {
		case <-time.After(l.runTime(int(inputs[0].Shape[0]))):
		case <-ctx.Done():
			return nil, fmt.Errorf("broken off: %w", ctx.Err())
		}
	}
	if l.fail != nil {
		if err := l.fail(rows); err != nil {
			return nil, err
		}
	}
	out := tensor.Tensor{Name: "y", Type: tensor.Bytes, Shape: inputs[0].Shape}
	for _, r := range rows {
		out.Strings = append(out.Strings, strings.ToUpper(r))
	}
	return []tensor.Tensor{out}, nil
}

// rows are inputs of one column.
func rows(names ...string) []tensor.Tensor {
	return []tensor.Tensor{{Name: "x", Type: tensor.Bytes, Shape: []int64{int64(len(names)), 1}, Strings: names}}
}

// outcome is how a request ended, and when.
type outcome struct {
	err error
	at  time.Time
}

// ask sends a request in a goroutine of its own, and returns once it waits or runs.
func (l *testLine) ask(ctx context.Context, level int, names ...string) *outcome {
	o := &outcome{}
	l.ended.Go(func() {
		out, err := l.line.do(ctx, rows(names...), level)
		o.err, o.at = err, time.Now()
		if err == nil && strings.ToLower(strings.Join(out[0].Strings, " ")) != strings.Join(names, " ") {
			l.t.Errorf("%v is answered by %v", names, out[0].Strings)
		}
		if err == nil && out[0].Shape[0] != int64(len(names)) {
			l.t.Errorf("%v is answered by the shape %v", names, out[0].Shape)
		}
	})
	synctest.Wait()
	return o
}

// wantRuns waits until all requests have ended.
func (l *testLine) wantRuns(want ...string) {
	l.t.Helper()
	l.ended.Wait()
	if diff := cmp.Diff(want, l.runs); diff != "" {
		l.t.Errorf("the runs (-want +got):\n%s", diff)
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.line.waiting != 0 || l.line.running != 0 || l.s.waiting != 0 {
		l.t.Errorf("%d wait and %d run in the end", l.line.waiting, l.line.running)
	}
	l.runs = nil
}

func forever(int) time.Duration { return time.Hour }

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

const ms = time.Millisecond

func TestLineQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 2, 3, Serving{})
		l.runTime = always(10 * ms)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			l.ask(t.Context(), 0, name)
		}
		if o := l.ask(t.Context(), 0, "f"); !errors.Is(o.err, errBusy) {
			t.Errorf("a sixth request: %v", o.err)
		}
		if b := l.s.meter.busyNow(); b.queued != 3 {
			t.Errorf("%d wait, want 3", b.queued)
		}
		l.ended.Wait()
		slices.Sort(l.runs) // two begin at a time
		l.wantRuns("a", "b", "c", "d", "e")
		l.ask(t.Context(), 0, "g")
		l.wantRuns("g")
	})
}

func TestBatchTakesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 4}})
		l.runTime = always(10 * ms)
		begun := time.Now()
		last := &outcome{}
		for _, names := range [][]string{{"a"}, {"b"}, {"c", "d"}, {"e"}, {"f", "g", "h"}, {"i"}, {"j", "k", "l", "m", "n"}, {"o"}} {
			last = l.ask(t.Context(), 0, names...)
		}
		// Nobody waits while a worker is free, a batch has no more rows than it may, none is overtaken,
		// and a request of too many rows runs alone.
		l.wantRuns("a", "b c d e", "f g h i", "j k l m n", "o")
		if took := last.at.Sub(begun); took != 50*ms {
			t.Errorf("five runs took %v", took)
		}
	})
}

func TestBatchDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 3, MaxDelay: 10 * ms}})
		begun := time.Now()
		a := l.ask(t.Context(), 0, "a")
		time.Sleep(6 * ms)
		b := l.ask(t.Context(), 0, "b")
		l.wantRuns("a b")
		if a.at != b.at || a.at.Sub(begun) != 10*ms {
			t.Errorf("they ran after %v; want 10ms from the first", a.at.Sub(begun))
		}
		begun = time.Now()
		for _, name := range []string{"a", "b", "c"} {
			a = l.ask(t.Context(), 0, name)
		}
		l.wantRuns("a b c")
		if a.at != begun {
			t.Errorf("a full batch waited for %v", a.at.Sub(begun))
		}
		// A line without room does not wait for company that cannot come.
		l.line.serving.Queue = 2
		l.ask(t.Context(), 0, "a")
		a = l.ask(t.Context(), 0, "b")
		l.wantRuns("a b")
		if a.at != begun {
			t.Errorf("a full queue waited for %v", a.at.Sub(begun))
		}
	})
}

func TestBatchPreferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 8, MaxDelay: 10 * ms, Preferred: []int{2, 4}}})
		begun := time.Now()
		l.ask(t.Context(), 0, "a")
		l.ask(t.Context(), 0, "b")
		l.wantRuns("a b")
		if took := time.Since(begun); took != 0 {
			t.Errorf("a preferred batch took %v", took)
		}
		l.runTime = always(5 * ms)
		l.ask(t.Context(), 0, "a", "b")
		for _, name := range []string{"c", "d", "e", "f", "g"} {
			l.ask(t.Context(), 0, name)
		}
		// The largest preferred size first; what is left waits for its time.
		l.wantRuns("a b", "c d e f", "g")
		if took := time.Since(begun); took != 15*ms {
			t.Errorf("three runs took %v", took)
		}
	})
}

func TestPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 4, Serving{Priorities: 3})
		l.runTime = always(10 * ms)
		l.ask(t.Context(), 0, "a")
		low, normal := l.ask(t.Context(), lowest, "l"), l.ask(t.Context(), 0, "n")
		l.ask(t.Context(), 3, "m")
		l.ask(t.Context(), 1, "h")
		// The queue is full: the last of the lowest gives way to a higher one, but to no equal.
		if o := l.ask(t.Context(), 3, "k"); !errors.Is(o.err, errBusy) {
			t.Errorf("one more of the lowest: %v", o.err)
		}
		l.ask(t.Context(), 2, "o")
		l.wantRuns("a", "h", "n", "o", "l")
		if low.err != nil || normal.err != nil {
			t.Errorf("%v, %v", low.err, normal.err)
		}
	})
}

func TestBatchInOrderOfPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Priorities: 2, Priority: 2, Batching: &Batching{MaxBatch: 2}})
		l.runTime = always(10 * ms)
		for _, name := range []string{"a", "b", "c"} {
			l.ask(t.Context(), 0, name)
		}
		l.ask(t.Context(), 1, "h")
		l.wantRuns("a", "h b", "c")
	})
}

// endsIn is a context that ends after d. Its timer is stopped with the test.
func endsIn(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 8, MaxDelay: 40 * ms}})
		l.runTime = func(rows int) time.Duration { return time.Duration(rows) * 10 * ms }
		l.ask(t.Context(), 0, "a")
		l.wantRuns("a") // a row takes 10 ms
		l.ask(t.Context(), 0, "a", "b", "c", "d")
		l.wantRuns("a b c d") // and four 40 ms

		begun := time.Now()
		// The delay ends when the deadline wants it.
		l.ask(endsIn(t, 25*ms), 0, "a")
		l.wantRuns("a")
		if took := time.Since(begun); took != 15*ms {
			t.Errorf("with a deadline of 25ms it took %v", took)
		}
		// While four rows run, three requests come: one cannot be answered any more when they have,
		// one can alone, and one has time.
		l.ask(t.Context(), 0, "a", "b", "c", "d")
		time.Sleep(40 * ms)
		synctest.Wait()
		late := l.ask(endsIn(t, 45*ms), 0, "e")
		soon := l.ask(endsIn(t, 70*ms), 0, "f")
		l.ask(t.Context(), 0, "g", "h", "i")
		l.wantRuns("a b c d", "f", "g h i")
		if !errors.Is(late.err, errLate) || soon.err != nil {
			t.Errorf("%v and %v; want that the first is late", late.err, soon.err)
		}
		// A deadline that passes in the queue ends the wait there and then.
		begun = time.Now()
		l.ask(t.Context(), 0, "a", "b", "c", "d", "e", "f", "g", "h")
		passed := l.ask(endsIn(t, 5*ms), 0, "z")
		l.wantRuns("a b c d e f g h")
		if !errors.Is(passed.err, context.DeadlineExceeded) || passed.at.Sub(begun) != 5*ms {
			t.Errorf("%v after %v", passed.err, passed.at.Sub(begun))
		}
	})
}

func TestOnlyTheSameShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 4}})
		l.runTime = always(10 * ms)
		wide := func(names ...string) {
			l.ended.Go(func() {
				in := rows(names...)
				in[0].Shape = []int64{1, int64(len(names))}
				out, err := l.line.do(t.Context(), in, 0)
				if err != nil || !slices.Equal(out[0].Shape, in[0].Shape) {
					t.Errorf("%v: %v, %v", names, out, err)
				}
			})
			synctest.Wait()
		}
		l.ask(t.Context(), 0, "a")
		l.ask(t.Context(), 0, "b")
		wide("c", "d")
		l.ask(t.Context(), 0, "e")
		wide("f", "g")
		wide("h", "i", "j")
		l.wantRuns("a", "b e", "c d f g", "h i j")
	})
}

func TestCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 2}})
		l.runTime = forever
		client := func() (context.Context, func()) {
			ctx, cancel := context.WithCancel(t.Context())
			return ctx, func() { cancel(); synctest.Wait() }
		}
		begun := time.Now()
		aCtx, aLeaves := client()
		bCtx, bLeaves := client()
		cCtx, cLeaves := client()
		dCtx, dLeaves := client()
		a, b := l.ask(aCtx, 0, "a"), l.ask(bCtx, 0, "b")
		c, d := l.ask(cCtx, 0, "c"), l.ask(dCtx, 0, "d")
		bLeaves() // out of the line
		if !errors.Is(b.err, context.Canceled) {
			t.Errorf("one that waited: %v", b.err)
		}
		aLeaves() // alone in its run
		if !errors.Is(a.err, context.Canceled) {
			t.Errorf("one that ran alone: %v", a.err)
		}
		dLeaves() // in a run that c still waits for
		if c.err != nil || d.err != nil {
			t.Errorf("a run ended although somebody waits for it: %v, %v", c.err, d.err)
		}
		cLeaves() // the last one
		if !errors.Is(c.err, context.Canceled) || !errors.Is(d.err, context.Canceled) {
			t.Errorf("a run of two: %v, %v", c.err, d.err)
		}
		l.wantRuns("a", "c d")
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
		l.runTime = nil
		l.ask(t.Context(), 0, "e")
		l.wantRuns("e")
	})
}

// TestSpoiledBatch has a request that fails, and takes none with it.
func TestSpoiledBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 4}})
		l.runTime = always(10 * ms)
		bad := errors.New("index out of range")
		l.fail = func(rows []string) error {
			if slices.Contains(rows, "c") {
				return bad
			}
			return nil
		}
		l.ask(t.Context(), 0, "a")
		b, c, d := l.ask(t.Context(), 0, "b"), l.ask(t.Context(), 0, "c"), l.ask(t.Context(), 0, "d")
		l.wantRuns("a", "b c d", "b", "c", "d")
		if b.err != nil || !errors.Is(c.err, bad) || d.err != nil {
			t.Errorf("%v, %v, %v", b.err, c.err, d.err)
		}
	})
}

func TestWorkerSurvivesPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{Batching: &Batching{MaxBatch: 2}})
		l.runTime = always(10 * ms)
		l.fail = func(rows []string) error {
			if slices.Contains(rows, "b") {
				panic("in the run")
			}
			return nil
		}
		l.ask(t.Context(), 0, "a")
		panicked := make(chan any, 1)
		go func() {
			defer func() { panicked <- recover() }()
			_, _ = l.line.do(t.Context(), rows("b"), 0)
		}()
		synctest.Wait()
		c := l.ask(t.Context(), 0, "c")
		d := l.ask(t.Context(), 0, "d")
		l.wantRuns("a", "b c", "d")
		if p := <-panicked; p != "in the run" {
			t.Errorf("the panic is %v", p)
		}
		if !errors.Is(c.err, errUnfinished) || d.err != nil {
			t.Errorf("who shared the run: %v; the next one: %v", c.err, d.err)
		}
	})
}

// TestLinesTakeTurns has two models for one worker, and one that may run once at a time for three.
func TestLinesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLine(t, 1, 99, Serving{})
		l.runTime = always(10 * ms)
		other := l.add(Serving{})
		ask := func(to *line, name string) {
			l.ended.Go(func() {
				if _, err := to.do(t.Context(), rows(name), 0); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for _, name := range []string{"a", "b", "c"} {
			ask(l.line, name)
		}
		for _, name := range []string{"x", "y"} {
			ask(other, name)
		}
		l.wantRuns("a", "x", "b", "y", "c")
		l.s.remove(other)

		l = newTestLine(t, 3, 99, Serving{Instances: 1})
		l.runTime = always(10 * ms)
		begun := time.Now()
		for _, name := range []string{"a", "b", "c"} {
			l.ask(t.Context(), 0, name)
		}
		l.wantRuns("a", "b", "c")
		if took := time.Since(begun); took != 30*ms {
			t.Errorf("three runs of one instance took %v", took)
		}
	})
}

func TestServingRefused(t *testing.T) {
	f := func(want string, s Serving) {
		t.Helper()
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", s, err, want)
		}
	}
	f("max_batch is -1", Serving{Batching: &Batching{MaxBatch: -1}})
	f("max_delay is -1s", Serving{Batching: &Batching{MaxBatch: 2, MaxDelay: -time.Second}})
	f("without a max_batch of at least 2", Serving{Batching: &Batching{MaxDelay: time.Second}})
	f("without a max_batch of at least 2", Serving{Batching: &Batching{MaxBatch: 1, Preferred: []int{1}}})
	f("the preferred size 9 is not within 1 to max_batch, 8", Serving{Batching: &Batching{MaxBatch: 8, Preferred: []int{4, 9}}})
	f("instances is -1", Serving{Instances: -1})
	f("queue -1", Serving{Queue: -1})
	f("priorities is 101", Serving{Priorities: 101})
	f("priority is 3; want a level of 1 to 2", Serving{Priorities: 2, Priority: 3})
	fixed := tensor.Signature{
		Inputs:  []tensor.Spec{{Name: "x", Type: tensor.FP32, Shape: []int64{-1, 2}}},
		Outputs: []tensor.Spec{{Name: "y", Type: tensor.FP32, Shape: []int64{1, 2}}},
	}
	o := Options{Workers: 1, Batching: Batching{MaxBatch: 4}}
	if _, err := (Serving{Batching: &Batching{MaxBatch: 2}}).settle(&o, &fixed); err == nil || !strings.Contains(err.Error(), "the first dimension of y FP32[1,2] is not free") {
		t.Errorf("a model of fixed size: %v", err)
	}
	if s, err := (Serving{}).settle(&o, &fixed); err != nil || s.Batching.MaxBatch != 1 {
		t.Errorf("a model of fixed size among others: %+v, %v", s, err)
	}
}
