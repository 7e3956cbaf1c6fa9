package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestReservations compares every grant with exact buckets that may go into debt: costs above the burst, callers
// that wait, costs that are taken in any case, and a bucket of all keys, from which is taken if and only if the
// key's was.
func TestReservations(t *testing.T) {
	for i, c := range figuresTested() {
		t.Run(fmt.Sprintf("%g_%d", c.rate, c.burst), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			l := New(c.rate, c.burst, 4096)
			keys := newModel(c.rate, c.burst)
			most := min(1.5*c.rate, maxRate)
			total, all := NewBucket(most, 2*c.burst), newModel(most, 2*c.burst)
			rounding := slack(l.shards[0].figures, c.burst) + slack(total.figures, 2*c.burst)
			seen := map[string]int{}
			now := int64(0)
			for range 20_000 {
				pause := 1e9 / c.rate * r.ExpFloat64()
				if r.IntN(50) == 0 {
					pause *= 20 * float64(c.burst)
				}
				now += int64(pause)
				key, cost := r.IntN(3), float64(1+r.IntN(c.burst))
				if r.IntN(10) == 0 {
					cost = float64(c.burst) * (1 + 4*r.Float64())
				}
				most := time.Duration(0)
				switch r.IntN(20) {
				case 0:
					most = Never
				case 1, 2, 3, 4, 5, 6:
					most = time.Duration(1e9 / c.rate * float64(c.burst) * r.Float64())
				}
				with := total
				if r.IntN(3) == 0 {
					with = nil
				}
				own := keys.wait(key, cost, now)
				together := own
				if with != nil {
					together = max(own, all.wait(0, cost, now))
				}
				g := l.Reserve(name(key), cost, most, now, with)
				near := 4 + 8*rounding/c.rate*1e9 + 1e-9*together
				switch {
				case g.OK && most != Never && together > float64(most)+near:
					t.Fatalf("granted within %v, where it takes %v", most, time.Duration(together))
				case !g.OK && together < float64(most)-near:
					t.Fatalf("refused within %v, where it takes %v", most, time.Duration(together))
				case g.OK && math.Abs(float64(g.Wait)-together) > near:
					t.Fatalf("the turn comes after %v, want %v", g.Wait, time.Duration(together))
				case !g.OK && !g.ByTotal && math.Abs(float64(g.Wait)-own) > near:
					t.Fatalf("refused for %v, want %v", g.Wait, time.Duration(own))
				case !g.OK && g.ByTotal && (with == nil || math.Abs(float64(g.Wait)-together) > near):
					t.Fatalf("refused by the total (%v) for %v, want %v", with, g.Wait, time.Duration(together))
				}
				switch {
				case g.OK && g.Wait > 0:
					seen["waits"]++
				case g.OK && cost > float64(c.burst):
					seen["in debt"]++
				case g.OK:
					seen["granted"]++
				case g.ByTotal:
					seen["refused by the total"]++
				default:
					seen["refused"]++
				}
				if !g.OK {
					continue
				}
				keys.tokens[key] -= cost
				if with != nil {
					all.tokens[0] -= cost
				}
			}
			for _, what := range []string{"waits", "in debt", "granted", "refused by the total", "refused"} {
				if seen[what] < 20 {
					t.Errorf("%d times %s: this does not test much; %v", seen[what], what, seen)
				}
			}
			if l.Refused() != uint64(seen["refused"]) || total.Refused() != uint64(seen["refused by the total"]) {
				t.Errorf("Refused %d and %d, want %v", l.Refused(), total.Refused(), seen)
			}
		})
	}
}

// wait is in how many nanoseconds a key can have the cost.
func (m *model) wait(key int, cost float64, now int64) float64 {
	return max(0, min(cost, m.burst)-m.has(key, now)) / m.rate * 1e9
}

// TestDebtHoldsTheRate: whatever single costs are, in the long run a key gets its rate.
func TestDebtHoldsTheRate(t *testing.T) {
	const rate, burst, most = 100.0, 20, 500
	r := rand.New(rand.NewPCG(9, 9))
	l := New(rate, burst, 1<<18)
	got, now := 0.0, int64(0)
	for now < 10_000*second {
		cost := 1 + float64(r.IntN(most))
		ok, wait, _ := l.Take(name(1), cost, now)
		if ok {
			got += cost
			continue
		}
		now += int64(wait) // which, for all costs beyond the burst, leads to a full bucket: not a tick too early
	}
	if want := rate * 10_000; got > want+burst+most || got < want-burst-most {
		t.Errorf("%g in 10,000 s, want %g", got, want)
	}
}

// TestDebtPassesWhileNobodyAsks: a debt of many buckets is over in its time, also where nothing else was asked.
func TestDebtPassesWhileNobodyAsks(t *testing.T) {
	for _, b := range []interface {
		Reserve([]byte, float64, time.Duration, int64, *Bucket) Grant
	}{New(10, 20, 4096), strangersOnly{NewBucket(10, 20)}} {
		b.Reserve(name(1), 1000, 0, second, nil) // until 99 s it is a debt
		if g := b.Reserve(name(1), 1, 0, 98*second, nil); g.OK || (g.Wait-1100*time.Millisecond).Abs() > time.Microsecond {
			t.Errorf("%T: %+v a second before that", b, g)
		}
		if g := b.Reserve(name(1), 1, 0, 100*second, nil); !g.OK {
			t.Errorf("%T: %+v when it was over", b, g)
		}
	}
}

type strangersOnly struct{ b *Bucket }

func (s strangersOnly) Reserve(_ []byte, cost float64, most time.Duration, now int64, total *Bucket) Grant {
	return s.b.reserve(cost, most, now, total)
}

// TestConfigureKeepsDebts: what is beyond a bucket stays owed.
func TestConfigureKeepsDebts(t *testing.T) {
	l, b := New(1, 10, 64), NewBucket(1, 10)
	l.Reserve(name(1), 110, 0, 0, b) // 100 owed
	l.Configure(2, 50, 0)
	b.Configure(2, 50, 0)
	// 10 used of the bucket and 100 owed: 60 to go to an empty... bucket of 50, which has 40.
	for _, g := range []Grant{l.Reserve(name(1), 1, 0, 0, nil), b.reserve(1, 0, 0, nil)} {
		if want := 61 * time.Second / 2; g.OK || (g.Wait-want).Abs() > time.Microsecond {
			t.Errorf("%+v, want %v to wait", g, want)
		}
	}
	l.Configure(2, 5, 0)
	if g := l.Reserve(name(1), 1, 0, 0, nil); g.OK || (g.Wait-61*time.Second/2).Abs() > time.Millisecond {
		t.Errorf("%+v with a smaller bucket", g)
	}
}

// TestDebtIsBounded: no cost keeps a key out for ever, and none overflows.
func TestDebtIsBounded(t *testing.T) {
	for _, c := range figuresTested() {
		l := New(c.rate, c.burst, 64)
		for range 100 {
			l.Reserve(name(1), math.MaxFloat64, Never, 5, nil)
		}
		_, wait, remaining := l.Take(name(1), 1, 5)
		if full := time.Duration(float64(c.burst) / c.rate * 1e9); wait < time.Hour || wait > 3*366*24*time.Hour+40*full || remaining != 0 {
			t.Errorf("%g a second, burst %d: %v to wait, %d remain", c.rate, c.burst, wait, remaining)
		}
	}
}

// TestTurnsInOrder: those that wait for a bucket get their turns in the order in which they asked, each at its
// own time.
func TestTurnsInOrder(t *testing.T) {
	l := New(100, 5, 64)
	var mu sync.Mutex
	var turns []time.Duration
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				mu.Lock()
				g := l.Reserve(name(1), 1, time.Minute, 0, nil)
				turns = append(turns, g.Wait)
				mu.Unlock()
				if !g.OK {
					t.Error("refused within a minute")
				}
			}
		})
	}
	wg.Wait()
	if !slices.IsSorted(turns) || turns[4] != 0 || (turns[399]-395*10*time.Millisecond).Abs() > time.Microsecond {
		t.Errorf("turns after %v … %v", turns[:10], turns[399])
	}
	if ok, _, _ := l.Take(name(1), 1, 0); ok {
		t.Error("somebody overtook those who wait")
	}
}

// TestTotalIsForAll: keys that are invented meet the bucket of all keys, in the table or not, and none that is
// refused there has lost anything of its own.
func TestTotalIsForAll(t *testing.T) {
	l, total := New(1, 10, 4096), NewBucket(10, 100)
	granted := 0
	for n := range uint64(10_000) {
		if g := l.Reserve(invented(n), 1, 0, 0, total); g.OK {
			granted++
		} else if !g.ByTotal {
			t.Fatalf("key %d: %+v", n, g)
		}
	}
	if granted != 100 || l.Keys() != 100 {
		t.Errorf("%d granted to 10,000 keys, of which %d are remembered; want the 100 of all", granted, l.Keys())
	}
	if g := l.Reserve(invented(5000), 10, 0, 0, nil); !g.OK || g.Remaining != 0 {
		t.Errorf("a key that the total had refused: %+v", g)
	}
	// It is refused by its own bucket now: the total keeps the 10 of one second.
	if g := l.Reserve(invented(5000), 5, 0, second, total); g.OK || g.ByTotal {
		t.Errorf("%+v of an empty bucket", g)
	}
	if g := total.reserve(10, 0, second, nil); !g.OK {
		t.Errorf("the total had %d left", g.Remaining)
	}
}

func TestTotalIsForStrangers(t *testing.T) {
	l, total := New(1, 10, ways), NewBucket(1, 10)
	for n := range uint64(ways) {
		l.Take(invented(n), 10, 0)
	}
	total.reserve(8, 0, 0, nil)
	for n, want := range []Grant{{OK: true, Remaining: 9}, {OK: true, Remaining: 8}, {ByTotal: true, Remaining: 8}, {ByTotal: true, Remaining: 8}} {
		if g := l.Reserve(invented(uint64(100+n)), 1, 0, 0, total); g.OK != want.OK || g.ByTotal != want.ByTotal || g.Remaining != want.Remaining {
			t.Errorf("stranger %d: %+v, want %+v", n, g, want)
		}
	}
	if l.strangers.reserve(8, 0, 0, total).OK || !l.strangers.reserve(8, 0, 0, nil).OK {
		t.Error("the strangers' bucket is not what it was before the total refused")
	}
}
