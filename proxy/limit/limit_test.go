package limit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

func TestCosts(t *testing.T) {
	l := New(1, 10, 100)
	for _, c := range []struct {
		cost      float64
		ok        bool
		wait      time.Duration
		remaining int
	}{
		{math.NaN(), true, 0, 10},
		{-1, true, 0, 10},
		{0, true, 0, 10},
		{2.5, true, 0, 7},
		{7.5, true, 0, 0},
		{0, true, 0, 0},
		{0.5, false, time.Second / 2, 0},
		{10, false, 10 * time.Second, 0},
		{10.001, false, 10 * time.Second, 0}, // a full bucket will do
		{math.Inf(1), false, 10 * time.Second, 0},
	} {
		ok, wait, remaining := l.Take(name(1), c.cost, second)
		if ok != c.ok || (wait-c.wait).Abs() > 5 || remaining != c.remaining {
			t.Errorf("cost %g: %v, %v, %d; want %v, %v, %d", c.cost, ok, wait, remaining, c.ok, c.wait, c.remaining)
		}
	}
	if l.Keys() != 1 {
		t.Errorf("%d keys", l.Keys())
	}
	l.Take(name(2), 0, second)
	if l.Keys() != 1 {
		t.Errorf("%d keys, of which one has taken something", l.Keys())
	}
}

// TestFractions adds up to the whole but for a tick each, of which a token has 512.
func TestFractions(t *testing.T) {
	l := New(1e6, 1000, 16)
	n := 0
	for ok := true; ok; n++ {
		ok, _, _ = l.Take(name(1), 0.1, 0)
	}
	if n--; n < 9846 || n > 10_000 {
		t.Errorf("%d times a tenth of 1000 tokens", n)
	}
}

func TestFiguresOutOfRange(t *testing.T) {
	for _, rate := range []float64{math.NaN(), math.Inf(-1), -1, 0, 1e-300, 1e300, math.Inf(1)} {
		for _, burst := range []int{math.MinInt, 0, 1, math.MaxInt} {
			l := New(rate, burst, -5)
			if ok, _, _ := l.Take(name(1), 1, second); !ok {
				t.Errorf("rate %g, burst %d: the first was refused", rate, burst)
			}
			ok, _, _ := l.Take(name(1), 1, second)
			if want := burst > 1; ok != want {
				t.Errorf("rate %g, burst %d: the second at once: %v", rate, burst, ok)
			}
			l.Configure(1, 1, second)
			if ok, wait, _ := l.Take(name(1), 1, second); ok || wait > time.Second+5 {
				t.Errorf("rate %g, burst %d, then 1 and 1: %v, wait %v", rate, burst, ok, wait)
			}
		}
	}
}

// TestClockBehind is what loops do that read the time now and then, and one that was held up: nobody gains by their difference.
func TestClockBehind(t *testing.T) {
	const rate, burst = 100, 50
	r := rand.New(rand.NewPCG(1, 1))
	l := New(rate, burst, 16)
	granted := 0
	for now := int64(0); now < 100*second; now += second / 1000 {
		if ok, _, _ := l.Take(name(1), 1, now-r.Int64N(second)-59*second*(now/second%2)*r.Int64N(2)); ok {
			granted++
		}
	}
	if most := rate*100 + burst; granted > most || granted < most*98/100 {
		t.Errorf("%d granted, want %d", granted, most)
	}
}

// TestClockSet sets the clock back and forward by an hour and by decades. Nobody waits for the hour, and nobody
// gets more than a full bucket.
func TestClockSet(t *testing.T) {
	const rate, burst = 1, 10
	for _, jump := range []time.Duration{-2 * time.Minute, -time.Hour, time.Hour, math.MinInt64, math.MaxInt64} {
		l := New(rate, burst, 16)
		now := int64(1000 * second)
		drain := func() (n int) {
			for ; n <= burst; n++ {
				if ok, _, _ := l.Take(name(1), 1, now); !ok {
					break
				}
			}
			return n
		}
		if n := drain(); n != burst {
			t.Fatalf("%d at first", n)
		}
		now += int64(jump)
		if n := drain(); n > burst || jump > math.MinInt64 && jump < 0 && n > 0 {
			t.Errorf("%d after %v", n, jump)
		}
		now += 5*second + 10
		if n := drain(); n != 5 {
			t.Errorf("%d in the 5 seconds after %v", n, jump)
		}
	}
}

func TestAnyClock(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	l := New(1000, 10, 16)
	before := int64(0)
	for range 200_000 {
		now := int64(r.Uint64()) >> r.IntN(64)
		ok, wait, remaining := l.Take(name(r.IntN(20)), 1, now)
		if ticks := l.shards[0].clock.ticks; ticks < before || wait < 0 || wait > 10*time.Millisecond || remaining < 0 || ok && remaining > 9 {
			t.Fatalf("at %d: %v, %v, %d; ticks from %d to %d", now, ok, wait, remaining, before, ticks)
		} else {
			before = ticks
		}
	}
}

func TestConfigureKeepsTokensUsed(t *testing.T) {
	l := New(1, 10, 100)
	l.Take(name(1), 4, 0)
	l.Take(name(2), 10, 0)
	for _, c := range []struct {
		rate       float64
		burst      int
		now        int64
		one, other int // remaining
	}{
		{1, 10, 0, 6, 0},
		{1.0 / 3600, 20, 0, 16, 10},
		{1e6, 8, 0, 4, 0},             // 10 used of 8 counts as 8
		{1.0 / 3600, 8, 2000, 6, 2},   // 2 tokens at 1e6 a second
		{2, 8, 2000 + second, 6, 2},   // nothing at one an hour
		{2, 12, 2000 + second, 10, 6}, //
		{2, 12, 2001 + 2*second, 12, 8},
	} {
		l.Configure(c.rate, c.burst, c.now)
		for key, want := range []int{c.one, c.other} {
			if _, _, remaining := l.Take(name(key+1), 0, c.now); remaining != want {
				t.Errorf("%g a second, burst %d: key %d has %d left, want %d", c.rate, c.burst, key+1, remaining, want)
			}
		}
	}
}

func TestShardsShareNoCacheLine(t *testing.T) {
	if size := unsafe.Sizeof(shard{}); size%128 != 0 { // processors fetch lines in pairs
		t.Errorf("a shard is %d bytes", size)
	}
	if size := unsafe.Sizeof(set{}); size != 16*ways {
		t.Errorf("a set is %d bytes", size)
	}
}

// TestConcurrent is many goroutines that ask for few keys while the figures change to and fro, and a reader of
// the counters. What a key gets is at most what the higher figures allow.
func TestConcurrent(t *testing.T) {
	const keys, goroutines, rounds = 5, 8, 20_000
	l := New(10_000, 100, 5000)
	var clock atomic.Int64
	var granted [keys]atomic.Int64
	var refused atomic.Uint64
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 4))
			for range rounds {
				now := clock.Add(1000) // 1 µs
				key := r.IntN(keys)
				if ok, _, _ := l.Take(name(key), 1, now); ok {
					granted[key].Add(1)
				} else {
					refused.Add(1)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			l.Configure(5000, 100, clock.Load())
			l.Configure(10_000, 100, clock.Load())
			if n := l.Keys(); n > keys || l.Crowded() != 0 {
				t.Errorf("%d keys, %d crowded", n, l.Crowded())
			}
		}
	})
	wg.Wait()
	seconds := float64(clock.Load()) / 1e9
	for key := range granted {
		if n := float64(granted[key].Load()); n > 100+10_000*seconds+1 || n < 5000*seconds {
			t.Errorf("key %d got %g in %g s", key, n, seconds)
		}
	}
	if l.Refused() != refused.Load() {
		t.Errorf("Refused %d, want %d", l.Refused(), refused.Load())
	}
}
