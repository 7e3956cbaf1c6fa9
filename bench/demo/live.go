package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"weir/bench"
	"weir/bench/process"
)

const (
	// defaultTick is how often results are taken and, on a terminal, shown.
	defaultTick = time.Second
	// windowTicks is how many ticks the live figures are over.
	windowTicks = 10
	// linesEvery is how many ticks pass between two lines without a terminal.
	linesEvery = 2
	// tourAfter is when a demonstration without an end shifts the weights, on a tour.
	tourAfter = 20 * time.Second
	// noticesKept is how many notices stay on the screen.
	noticesKept = 4
)

// live is the running demonstration.
type live struct {
	*Options
	stack   *stack
	attack  *bench.Attack
	watcher *bench.Watcher
	screen  *screen

	total  *bench.Tally
	window []slice       // the last ticks, oldest first, all under the present weights
	taken  time.Duration // when the last of them ended
	epochs []epoch       // the last one is the present
	took   time.Duration

	tourAt   time.Duration // 0 when there is no shift to come
	notices  []string
	problems []string
	gone     *process.Process // a backend whose end has been noticed
	told     chan string      // notices of the rollouts; nil without
}

// slice is what came in during one tick.
type slice struct {
	*bench.Tally
	length time.Duration
}

// epoch is a time in which the weights stayed the same.
type epoch struct {
	weights map[string]float64
	users   map[string]uint64 // seen, by the variant that served them first
	moved   uint64            // served by another one too
}

func newLive(o *Options, s *stack, attack *bench.Attack) *live {
	clock := func() time.Duration { return time.Since(attack.Start()) }
	l := &live{
		Options: o, stack: s, attack: attack,
		watcher: bench.NewWatcher(bench.NewAdmin(s.admin), routeName, o.Users, clock),
		screen:  newScreen(o),
		total:   bench.NewTally(0),
	}
	if o.Tour {
		l.tourAt = tourAfter
		if o.Duration > 0 {
			l.tourAt = o.Duration / 3
		}
	}
	return l
}

// run sends the load and shows it once a tick, until the load ends. It fails when weir ends.
func (s *live) run(ctx context.Context) error {
	if _, err := s.watcher.Poll(ctx); err != nil {
		return interrupted(ctx, err)
	}
	s.epochs = []epoch{{weights: s.watcher.Route().Weights()}}
	load, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan error, 1)
	go func() { finished <- s.attack.Run(load) }()
	ticker := time.NewTicker(s.tick)
	defer ticker.Stop()
	for ticks := 1; ; ticks++ {
		select {
		case <-ticker.C:
			s.take(ctx, s.attack.Take())
			if s.Terminal || ticks%linesEvery == 0 {
				s.screen.show(s.view())
			}
		case text := <-s.told:
			s.notice(text)
		case <-s.stack.weir.Done():
			stop()
			<-finished
			return s.stack.weir.Failure("ended while the load ran")
		case err := <-finished:
			s.took = time.Since(s.attack.Start())
			if err != nil {
				return interrupted(ctx, err)
			}
			// ctx may be done, and a last look at the weights is still wanted.
			s.take(context.WithoutCancel(ctx), s.attack.Take())
			s.screen.show(s.view())
			return nil
		}
	}
}

// rollOut is run with rollouts instead of a tour. It ends with them.
func (s *live) rollOut(ctx context.Context, answers *labelled) error {
	load, end := context.WithCancel(ctx)
	defer end()
	admin := bench.NewAdmin(s.stack.admin)
	s.told = make(chan string)
	told := &story{o: s.Options, stack: s.stack, admin: admin, told: s.told, end: end}
	var problems []string
	var beside sync.WaitGroup
	beside.Go(func() { problems = told.run(load) })
	var reported error
	beside.Go(func() {
		if reported = answers.report(load, admin); reported != nil {
			end()
		}
	})
	err := s.run(load)
	end()
	beside.Wait()
	for _, p := range problems {
		s.problem(p)
	}
	return errors.Join(err, reported)
}

// take takes in what happened during a tick.
func (s *live) take(ctx context.Context, part *bench.Tally) {
	s.total.Merge(part)
	now := time.Since(s.attack.Start())
	s.window = append(s.window, slice{part, now - s.taken})
	s.taken = now
	if len(s.window) > windowTicks {
		s.window = s.window[1:]
	}
	s.watcher.Add(part.Sightings)
	s.poll(ctx)
	if s.tourAt > 0 && now >= s.tourAt {
		s.tourAt = 0
		s.shift(ctx)
		s.poll(ctx)
	}
	if p := s.stack.group.Exited(); p != nil && p != s.gone {
		s.gone = p
		s.problem(fmt.Sprintf("%s has ended; its log is %s", p.Name, p.LogName))
	}
}

// poll looks at the weights, and counts the users seen since the last look.
func (s *live) poll(ctx context.Context) {
	changed, err := s.watcher.Poll(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.problem("the weights could not be read: " + err.Error())
		}
		return
	}
	if changed {
		weights := s.watcher.Route().Weights()
		s.notice("the weights are now " + s.describe(weights))
		s.epochs = append(s.epochs, epoch{weights: weights})
		// These results were split by the old weights, at least in part.
		s.window = nil
	}
	present := &s.epochs[len(s.epochs)-1]
	present.users, present.moved = s.watcher.Users()
}

// shift is the tour's change of weights.
func (s *live) shift(ctx context.Context) {
	even := map[string]float64{}
	for _, p := range s.stack.pools {
		even[p.Name] = 50
	}
	s.notice("shifting the weights to " + s.describe(even) + ", as weir shift would")
	if _, err := bench.NewAdmin(s.stack.admin).SetWeights(ctx, routeName, even, "tour"); err != nil {
		s.problem("the weights could not be shifted: " + err.Error())
	}
}

func (s *live) notice(text string) {
	at := time.Since(s.attack.Start()).Round(time.Second)
	s.notices = append(s.notices, fmt.Sprintf("%4s  %s", at, text))
	if len(s.notices) > noticesKept {
		s.notices = s.notices[1:]
	}
	s.screen.notice(s.notices[len(s.notices)-1])
}

// problem is a notice that ends in the verdict.
func (s *live) problem(text string) {
	if !slices.Contains(s.problems, text) {
		s.problems = append(s.problems, text)
		s.notice(text)
	}
}

// describe writes weights in the order of the pools: blue=90 green=10.
func (s *live) describe(weights map[string]float64) string {
	return describe(weights, s.stack.pools)
}

func describe(weights map[string]float64, pools []*pool) string {
	var names []string
	for _, p := range pools {
		names = append(names, p.Name)
	}
	// A pool that was added to the file while the demonstration runs comes after its own.
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	text := ""
	for _, name := range names {
		if w, ok := weights[name]; ok {
			text += fmt.Sprintf(" %s=%g", name, w)
		}
	}
	return text[min(1, len(text)):]
}
