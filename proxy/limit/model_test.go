package limit

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = int64(time.Second)

// slack is what a bucket may differ by from the exact one, in tokens: two ticks, and the rounding of the
// float64s of the model.
func slack(f figures, burst int) float64 { return 2/f.token + 1e-9*float64(burst) }

// model is the textbook's token buckets, in floating point.
type model struct {
	rate   float64
	burst  float64
	tokens map[int]float64
	at     map[int]int64
}

func newModel(rate float64, burst int) *model {
	return &model{rate: rate, burst: float64(burst), tokens: map[int]float64{}, at: map[int]int64{}}
}

// has refills a key's bucket and returns its tokens.
func (m *model) has(key int, now int64) float64 {
	tokens, ok := m.tokens[key]
	if !ok {
		tokens = m.burst
	}
	tokens = min(m.burst, tokens+m.rate*float64(now-m.at[key])/1e9)
	m.tokens[key], m.at[key] = tokens, now
	return tokens
}

func (m *model) configure(rate float64, burst int, now int64) {
	for key := range m.tokens {
		used := m.burst - m.has(key, now)
		inside := min(used, m.burst)
		m.tokens[key] = max(0, float64(burst)-inside) - (used - inside)
	}
	m.rate, m.burst = rate, float64(burst)
}

// follow checks that the buckets of m and l differ by at most tolerance, and gives m those of l.
func follow(t *testing.T, m *model, l *Limiter, now int64, tolerance float64) {
	t.Helper()
	s := &l.shards[0]
	ticks := s.clock.read(now, &s.figures, s.latest)
	for key, tokens := range m.tokens {
		used := 0.0
		if p := s.place(maphash.Bytes(l.seed, name(key)), ticks, false); p.found() {
			used = float64(max(*p.due-ticks, 0)) / s.figures.token
		}
		if math.Abs(m.burst-used-tokens) > tolerance {
			t.Fatalf("%g a second, burst %g: key %d has %g tokens, want %g", m.rate, m.burst, key, m.burst-used, tokens)
		}
		m.tokens[key] = m.burst - used
	}
}

func name(key int) []byte { return fmt.Appendf(nil, "key %d", key) }

// figuresTested are rates from one a day to the highest, with bursts from 1.
func figuresTested() []struct {
	rate  float64
	burst int
} {
	return []struct {
		rate  float64
		burst int
	}{
		{1.0 / 86400, 100}, {1.0 / 3600, 1}, {1.0 / 3600, 40}, {0.3, 1}, {1, 1}, {10, 20},
		{999.7, 7}, {1e5, 1}, {1e6, 1}, {1e6, 5000}, {3.3e8, 10}, {1e9, 1}, {1e9, 1 << 20},
	}
}

// TestLikeTokenBuckets compares every answer with the exact bucket's, through random costs, pauses and changes
// of the figures. Where the two may differ by a rounding, the model follows.
func TestLikeTokenBuckets(t *testing.T) {
	for i, c := range figuresTested() {
		t.Run(fmt.Sprintf("%g_%d", c.rate, c.burst), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			l := New(c.rate, c.burst, 4096)
			m := newModel(c.rate, c.burst)
			now := r.Int64N(math.MaxInt64 / 4)
			rate, burst := c.rate, c.burst
			granted, refused := 0, 0
			for range 20_000 {
				// A token every pause on average, with some pauses of a whole bucket.
				pause := 1e9 / rate * r.ExpFloat64()
				if r.IntN(200) == 0 {
					pause *= float64(burst)
				}
				now += int64(pause)
				if r.IntN(2000) == 0 {
					other := figuresTested()[r.IntN(len(figuresTested()))]
					rate, burst = other.rate, other.burst
					before := slack(l.shards[0].figures, burst)
					l.Configure(rate, burst, now)
					m.configure(rate, burst, now)
					// Debts carry the roundings of the figures that they were made with.
					follow(t, m, l, now, before+slack(l.shards[0].figures, burst))
				}
				key, cost := r.IntN(3), float64(1)
				if r.IntN(2) == 0 {
					cost = float64(1 + r.IntN(burst))
				}
				f := &l.shards[0].figures
				exact, rounding := m.has(key, now), slack(*f, burst)
				ok, wait, remaining := l.Take(name(key), cost, now)
				switch {
				case ok && exact < cost-rounding:
					t.Fatalf("%g tokens granted of %g", cost, exact)
				case !ok && exact >= cost+rounding:
					t.Fatalf("%g tokens refused of %g", cost, exact)
				case ok != (wait == 0):
					t.Fatalf("granted %v, and wait %v", ok, wait)
				case ok:
					m.tokens[key] = max(0, exact-cost)
					granted++
				default:
					want := (cost - exact) / rate * 1e9
					tolerance := 3 + 4*rounding/rate*1e9 + want*1e-9
					if math.Abs(float64(wait)-want) > tolerance {
						t.Fatalf("wait %v for %g tokens more, want %v", wait, cost-exact, time.Duration(want))
					}
					refused++
				}
				if left := m.tokens[key]; float64(remaining) > left+rounding || float64(remaining) < left-1-rounding {
					t.Fatalf("%d remain, want %g", remaining, left)
				}
			}
			if granted < 1000 || refused < 1000 {
				t.Errorf("%d granted and %d refused: the test does not test much", granted, refused)
			}
			if l.Refused() != uint64(refused) || l.Crowded() != 0 || l.Keys() != 3 {
				t.Errorf("Refused %d, Crowded %d, Keys %d; want %d, 0, 3", l.Refused(), l.Crowded(), l.Keys(), refused)
			}
		})
	}
}

// TestNoWindowHasMore checks the promise itself, in all windows and without a model: at most burst + rate × t
// from one grant to another, both included.
func TestNoWindowHasMore(t *testing.T) {
	for i, c := range figuresTested() {
		r := rand.New(rand.NewPCG(uint64(i), 2))
		l := New(c.rate, c.burst, 16)
		rounding := slack(l.shards[0].figures, c.burst)
		var at []int64
		var costs []float64
		for now := int64(0); len(at) < 1000; now += int64(0.3e9 / c.rate * float64(max(1, c.burst/10)) * r.ExpFloat64()) {
			cost := float64(1 + r.IntN(max(1, c.burst/3)))
			if ok, _, _ := l.Take(name(1), cost, now); ok {
				at, costs = append(at, now), append(costs, cost)
			}
		}
		for from := range at {
			sum := 0.0
			for to := from; to < len(at); to++ {
				sum += costs[to]
				if most := float64(c.burst) + c.rate*float64(at[to]-at[from])/1e9; sum > most+rounding {
					t.Fatalf("%g a second, burst %d: %g in %d ns, at most %g", c.rate, c.burst, sum, at[to]-at[from], most)
				}
			}
		}
	}
}

// TestOwnRateIsNeverRefused asks at the rate, for long, and then for the burst but one, which finds a bias that a
// bound on single answers does not. One token is for the nanoseconds that the times asked at are rounded to.
func TestOwnRateIsNeverRefused(t *testing.T) {
	for _, c := range figuresTested() {
		burst := max(2, c.burst)
		l := New(c.rate, burst, 16)
		n := int(min(100_000, 4e9*c.rate)) // as long as a clock goes
		for i := range n + burst - 2 {
			now := int64(math.Ceil(float64(min(i, n-1)) / c.rate * 1e9))
			if ok, wait, _ := l.Take(name(1), 1, now); !ok {
				t.Fatalf("%g a second, burst %d: request %d refused for %v", c.rate, burst, i, wait)
			}
		}
		if _, _, remaining := l.Take(name(1), 0, int64(float64(n)/c.rate*1e9)); remaining > 2 {
			t.Errorf("%g a second, burst %d: %d remain", c.rate, burst, remaining)
		}
	}
}

func TestRetryAfterIsExact(t *testing.T) {
	for _, c := range figuresTested() {
		l := New(c.rate, c.burst, 16)
		for now := int64(0); now < 4e18 && now < int64(1000*float64(c.burst)/c.rate*1e9); {
			ok, wait, _ := l.Take(name(1), float64(c.burst), now)
			if ok {
				continue
			}
			early := 4 + int64(3/l.shards[0].figures.perNano)
			if ok, _, _ := l.Take(name(1), float64(c.burst), now+int64(wait)-early); ok {
				t.Fatalf("%g a second, burst %d: granted %d ns before retryAfter", c.rate, c.burst, early)
			}
			now += int64(wait)
			if ok, more, _ := l.Take(name(1), float64(c.burst), now); !ok {
				t.Fatalf("%g a second, burst %d: refused for %v after retryAfter", c.rate, c.burst, more)
			}
		}
	}
}
