package limit

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// invented returns a key of its own for each n.
func invented(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// TestTwoSetsFill is what New promises: which part of the places holds debts before a key finds none.
func TestTwoSetsFill(t *testing.T) {
	for _, keys := range []int{4096, 10_000, 1 << 18} {
		l := New(1e-3, 1, keys)
		n := uint64(0)
		fill := func(percent int) uint64 {
			for ; n < uint64(keys*percent/100); n++ {
				l.Take(invented(n), 1, 0)
			}
			return l.Crowded()
		}
		if crowded := fill(80); crowded > 0 {
			t.Errorf("%d keys: %d of 80 %% found no place", keys, crowded)
		}
		if crowded := fill(90); crowded > uint64(keys)/1000 {
			t.Errorf("%d keys: %d of 90 %% found no place", keys, crowded)
		}
		fill(300)
		if l.Keys() > keys || l.Keys() < keys*99/100 {
			t.Errorf("%d keys remembered of %d", l.Keys(), keys)
		}
	}
}

// TestInventedKeysShareABucket: however many keys are invented, what they get is a bucket for each place and the
// strangers' one.
func TestInventedKeysShareABucket(t *testing.T) {
	const keys, rate, burst = 4096, 1.0 / 60, 3
	l := New(rate, burst, keys)
	granted, n := 0, uint64(0)
	for ; n < 200_000; n++ {
		for range burst {
			if ok, _, _ := l.Take(invented(n), 1, 0); ok {
				granted++
			}
		}
	}
	// A bucket each, and a hundredth of them.
	most := float64(keys*burst) * 1.01
	if float64(granted) > most || float64(granted) < 0.98*most {
		t.Errorf("%d granted at once to 200,000 keys, want %g", granted, most)
	}
	// From now on all in the table are kept in debt, and strangers get their rate.
	granted = 0
	for now := second; now <= 60*second; now += second {
		for range 100 {
			n++
			if ok, wait, remaining := l.Take(invented(n), 1, now); ok {
				granted++
			} else if wait <= 0 || wait > 2*time.Second || remaining != 0 {
				t.Fatalf("wait %v, %d remain", wait, remaining)
			}
		}
	}
	if want := rate * 60 * keys / 100; float64(granted) < want-1 || float64(granted) > want+burst {
		t.Errorf("strangers got %d in a minute, want %g", granted, want)
	}
	if l.Crowded() == 0 || l.Refused() < l.Crowded()/2 {
		t.Errorf("%d crowded, %d refused", l.Crowded(), l.Refused())
	}
}

// TestKnownKeysKeepTheirs: whoever was there before somebody began to invent keys gets all that it would get
// without, in debt or not when the next key looks for a place. The newcomer that is not served is what tells
// that the table was full.
func TestKnownKeysKeepTheirs(t *testing.T) {
	const keys, honest, rate, burst = 8192, 800, 1.0 / 60, 5
	l := New(rate, burst, keys)
	now, n := int64(0), uint64(1)<<32
	ask := func(minute int) (refused int) {
		for i := range honest {
			now += 60 * second / honest
			// Each asks at its rate, but every third one each other minute, so that its bucket is full between.
			if i%3 != 0 || minute%2 == 1 {
				if ok, _, _ := l.Take(name(i), 1, now); !ok {
					refused++
				}
			}
			if minute < 10 {
				continue
			}
			for range 50 { // 667 a second, where 137 a second fill the table
				n++
				l.Take(invented(n), 1, now)
			}
		}
		return refused
	}
	for minute := range 40 {
		if refused := ask(minute); refused > 0 {
			t.Fatalf("%d of %d known keys refused in minute %d", refused, honest, minute)
		}
	}
	if l.Crowded() < 500_000 {
		t.Errorf("only %d invented keys found no place", l.Crowded())
	}
	if _, wait, _ := l.Take(invented(n+1), 1, now); wait == 0 {
		t.Error("a newcomer was served: the table was not full, and this tests nothing")
	}
}

// TestKeptIsNoWayToOccupy: keys that came back and went away for good give their places to others, half of a set
// at once and the rest when a bucket would have filled.
func TestKeptIsNoWayToOccupy(t *testing.T) {
	const keys, rate, burst = 4096, 1, 60
	l := New(rate, burst, keys)
	for n := range uint64(10 * keys) {
		l.Take(invented(n), 1, 0)
		l.Take(invented(n), 1, 0)
	}
	fresh := func(now int64, from uint64) (crowded uint64) {
		before := l.Crowded()
		for n := range uint64(keys) {
			l.Take(invented(from+n), 1, now)
		}
		return l.Crowded() - before
	}
	if n := fresh(5*second, 1<<40); n > keys*55/100 {
		t.Errorf("%d of %d new keys found no place beside keys that came back", n, keys)
	}
	if n := fresh(70*second, 2<<40); n > keys/20 {
		t.Errorf("%d of %d new keys found no place when those had been full for a minute", n, keys)
	}
}

// TestFullIsAsNeverSeen gives the place of a full bucket away and gets it back: nobody notices.
func TestFullIsAsNeverSeen(t *testing.T) {
	l := New(10, 5, 16)
	now := second
	for round := range uint64(1000) {
		for n := range uint64(16) {
			key := invented(round*8 + n) // half of them again
			if ok, _, remaining := l.Take(key, 5, now); !ok || remaining != 0 {
				t.Fatalf("round %d: key %d: %v, %d remain", round, n, ok, remaining)
			}
			if ok, _, _ := l.Take(key, 1, now); ok {
				t.Fatalf("round %d: key %d got more than its burst", round, n)
			}
		}
		now += 10 * second // full for long
	}
	if l.Crowded() != 0 || l.Keys() != 16 {
		t.Errorf("%d crowded, %d keys", l.Crowded(), l.Keys())
	}
}

// TestOldestGoesFirst fills a set with keys, to be full again in the order of rank, and looks which make place.
func TestOldestGoesFirst(t *testing.T) {
	l := New(1, 2, ways)
	s := &l.shards[0]
	rank := rand.New(rand.NewPCG(5, 5)).Perm(ways)
	for n, rank := range rank {
		l.Take(invented(uint64(n)), float64(1+rank)/ways, 0)
	}
	now := 3 * second / 2
	first := slices.Index(rank, 0)
	l.Take(invented(uint64(first)), 0.001, now) // comes back, so that it is kept
	now += second / 100
	for want := 1; want < ways; want++ {
		l.Take(invented(uint64(100+want)), 2, now)
		for n, rank := range rank {
			p := s.place(maphash.Bytes(l.seed, invented(uint64(n))), s.clock.ticks, false)
			if kept := rank == 0 || rank > want; p.found() != kept {
				t.Fatalf("when %d keys had come, the one of rank %d was there: %v", want, rank, p.found())
			}
		}
	}
	l.Take(invented(200), 1, now)
	if l.Crowded() != 1 {
		t.Errorf("%d keys found no place, want the one that came when a kept one was left", l.Crowded())
	}
}
