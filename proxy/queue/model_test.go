// One goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package queue

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// oracle is the same as a Queue in the plainest words: a list of who waits, sorted whenever somebody asks.
type oracle struct {
	s       Settings
	under   map[int]bool
	waiting []asked // in the order of arrival
	verdict map[int]Verdict
	mean    int64
}

type asked struct{ id, class int }

func (o *oracle) lifo() bool {
	return o.s.Order == LIFO || o.s.Order == Adaptive && 2*len(o.waiting) > o.s.Size
}

// turns are those that wait in the order in which they are served, and perhaps one more that has just come.
func (o *oracle) turns(newcomer ...asked) []asked {
	lifo := o.lifo()
	all := append(slices.Clone(o.waiting), newcomer...)
	if lifo {
		slices.Reverse(all)
	}
	slices.SortStableFunc(all, func(a, b asked) int { return cmp.Compare(a.class, b.class) })
	return all
}

func (o *oracle) join(a asked, now, deadline int64) {
	if len(o.under) < o.s.Limit {
		o.under[a.id] = true
		o.verdict[a.id] = Admitted
		return
	}
	turns := o.turns(a)
	full := len(o.waiting) >= o.s.Size
	if full && (len(o.waiting) == 0 || turns[len(turns)-1] == a) {
		o.verdict[a.id] = Full
		return
	}
	if ahead := int64(slices.Index(turns, a)) + 1; deadline != 0 && now+o.mean*ahead/int64(o.s.Limit) > deadline {
		o.verdict[a.id] = Late
		return
	}
	if full {
		o.end(turns[len(turns)-1].id, Shed)
	}
	o.waiting = append(o.waiting, a)
	o.verdict[a.id] = Waiting
}

// end takes one that waits out.
func (o *oracle) end(id int, v Verdict) {
	o.waiting = slices.DeleteFunc(o.waiting, func(a asked) bool { return a.id == id })
	o.verdict[id] = v
}

func (o *oracle) admit() {
	for len(o.waiting) > 0 && len(o.under) < o.s.Limit {
		id := o.turns()[0].id
		o.end(id, Admitted)
		o.under[id] = true
	}
}

// TestModel does the same at random to a queue and to the oracle: a plain queue, and one of a key among others.
func TestModel(t *testing.T) {
	for seed := range uint64(120) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 0)), seed%3 == 0) })
	}
}

func randomSettings(rng *rand.Rand) Settings {
	return Settings{Limit: 1 + rng.IntN(5), Size: rng.IntN(8), Order: Order(rng.IntN(3))}
}

func runModel(t *testing.T, rng *rand.Rand, keyed bool) {
	s := randomSettings(rng)
	o := &oracle{s: s, under: map[int]bool{}, verdict: map[int]Verdict{}}
	q, k, key := New(s), NewKeys(s), []byte("key")
	held := map[int]*Waiter{}
	woken := map[int]int{}
	entered := map[int]*Queue{}
	for step := range 1000 {
		now := int64(step) * 1000
		switch op := rng.IntN(20); {
		case op < 9:
			a := asked{id: step, class: rng.IntN(Classes)}
			w := &Waiter{Class: a.class, Wake: func() { woken[a.id]++ }}
			if rng.IntN(2) == 0 {
				w.Deadline = now + rng.Int64N(8000)
			}
			o.join(a, now, w.Deadline)
			held[a.id] = w
			var v Verdict
			if keyed {
				v = k.Join(key, w, now)
			} else {
				v = q.Join(w, now)
			}
			if v != o.verdict[a.id] {
				t.Fatalf("step %d: verdict %d, want %d", step, v, o.verdict[a.id])
			}
		case op < 11: // without a waiter
			ok := len(o.under) < s.Limit
			got := q.Enter
			if keyed {
				got = func() bool { entered[step] = k.Enter(key); return entered[step] != nil }
			}
			if got() != ok {
				t.Fatalf("step %d: Enter: %v, want %v", step, !ok, ok)
			}
			if ok {
				o.under[step], o.verdict[step] = true, Admitted
			}
		case op < 18 && len(o.under) > 0:
			id := pick(rng, o.under)
			served := rng.Int64N(2000) - 500
			from := q
			if w := held[id]; w != nil {
				from = w.Queue()
			} else if keyed {
				from = entered[id]
			}
			from.Leave(time.Duration(served))
			delete(o.under, id)
			if o.mean == 0 && served >= 0 {
				o.mean = served
			} else if served >= 0 {
				o.mean += (served - o.mean) / meanOf
			}
			o.admit()
		case op < 19 && len(held) > 0:
			id := pick(rng, held)
			waits := o.verdict[id] == Waiting
			if waits {
				o.end(id, Gone)
			}
			if o.verdict[id] != Full && o.verdict[id] != Late && held[id].Quit() != waits {
				t.Fatalf("step %d: Quit: %v, want %v", step, !waits, waits)
			}
		default:
			s = randomSettings(rng)
			o.s = s
			q.Configure(s)
			k.Configure(s)
			o.admit()
		}
		compare(t, step, o, q, k, keyed, held, woken)
	}
}

func compare(t *testing.T, step int, o *oracle, q *Queue, k *Keys, keyed bool, held map[int]*Waiter, woken map[int]int) {
	t.Helper()
	f, keys := q.Figures(), 0
	if keyed {
		f, keys = k.Figures()
		if want := min(len(o.under), 1); keys != want {
			t.Fatalf("step %d: %d keys, want %d", step, keys, want)
		}
	}
	if f != (Figures{o.s.Limit, len(o.under), len(o.waiting)}) {
		t.Fatalf("step %d: %+v, want %d under way, %d waiting of %+v", step, f, len(o.under), len(o.waiting), o.s)
	}
	for id, w := range held {
		v := o.verdict[id]
		if v == Full || v == Late {
			if woken[id] > 0 {
				t.Fatalf("step %d: %d was refused and woken", step, id)
			}
			delete(held, id)
			continue
		}
		if w.State() != v {
			t.Fatalf("step %d: %d is in state %d, want %d", step, id, w.State(), v)
		}
		if n := woken[id]; n > 1 || n == 1 && v != Admitted && v != Shed || n == 0 && v == Shed {
			t.Fatalf("step %d: %d in state %d was woken %d times", step, id, v, n)
		}
		if v != Waiting && v != Admitted {
			delete(held, id)
		}
	}
}

// pick draws one at random, the same for the same seed.
func pick[V any](rng *rand.Rand, from map[int]V) int {
	ids := make([]int, 0, len(from))
	for id := range from {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[rng.IntN(len(ids))]
}
