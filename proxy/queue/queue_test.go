package queue

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// order has requests of these classes wait one after the other, and says in which order they are served.
func order(q *Queue, classes ...int) (served []int) {
	q.Enter()
	waiters := make([]*Waiter, len(classes))
	for i, c := range classes {
		waiters[i] = &Waiter{Class: c, Wake: func() { served = append(served, i) }}
		q.Join(waiters[i], 0)
	}
	for range classes {
		q.Leave(0)
	}
	q.Leave(0)
	return served
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Settings
		ask  []int
		want []int
	}{
		{"fifo", Settings{1, 10, FIFO}, []int{1, 1, 1}, []int{0, 1, 2}},
		{"lifo", Settings{1, 10, LIFO}, []int{1, 1, 1}, []int{2, 1, 0}},
		{"adaptive, half full", Settings{1, 6, Adaptive}, []int{1, 1, 1}, []int{0, 1, 2}},
		{"adaptive, more", Settings{1, 4, Adaptive}, []int{1, 1, 1}, []int{2, 0, 1}},
		{"classes", Settings{1, 10, FIFO}, []int{2, 1, 0, 2, 1, 0}, []int{2, 5, 1, 4, 0, 3}},
		// Who is shed is woken first.
		{"the lowest goes", Settings{1, 3, FIFO}, []int{2, 2, 1, 0}, []int{1, 3, 2, 0}},
		{"nobody goes for an equal", Settings{1, 2, FIFO}, []int{1, 1, 1}, []int{0, 1}},
		{"the oldest goes", Settings{1, 2, LIFO}, []int{1, 1, 1}, []int{0, 2, 1}},
		{"the oldest of the lowest", Settings{1, 3, LIFO}, []int{2, 2, 0, 1}, []int{0, 2, 3, 1}},
	} {
		if got := order(New(c.s), c.ask...); !slices.Equal(got, c.want) {
			t.Errorf("%s: served %v, want %v", c.name, got, c.want)
		}
	}
}

// TestLate: with two places and requests of 100 ms, the third in the queue has its turn in 150 ms.
func TestLate(t *testing.T) {
	q := New(Settings{Limit: 2, Size: 10})
	join := func(class int, deadline time.Duration) Verdict {
		return q.Join(&Waiter{Class: class, Deadline: int64(time.Second + deadline), Wake: func() {}}, int64(time.Second))
	}
	q.Enter()
	if v := join(1, time.Nanosecond); v != Admitted {
		t.Fatalf("with a free place: %d", v)
	}
	if v := join(1, time.Nanosecond); v != Waiting {
		t.Fatalf("nothing is known of the service time, but: %d", v)
	}
	q.Leave(100 * time.Millisecond)
	for i, c := range []struct {
		class    int
		deadline time.Duration
		want     Verdict
	}{
		{1, 49 * time.Millisecond, Late}, {1, 51 * time.Millisecond, Waiting},
		{1, 99 * time.Millisecond, Late}, {1, 101 * time.Millisecond, Waiting},
		{0, 51 * time.Millisecond, Waiting}, {1, 201 * time.Millisecond, Waiting},
		{2, 240 * time.Millisecond, Late}, {2, -time.Second / 2, Late},
	} {
		if v := join(c.class, c.deadline); v != c.want {
			t.Errorf("%d: class %d with %v: %d, want %d", i, c.class, c.deadline, v, c.want)
		}
	}
	if d := q.Expected(); d != 250*time.Millisecond {
		t.Errorf("expected %v", d)
	}
}

func TestPeak(t *testing.T) {
	q := New(Settings{Limit: 9})
	for range 5 {
		q.Enter()
	}
	q.Leave(0)
	if n := q.Peak(); n != 5 {
		t.Errorf("%d", n)
	}
	q.ForgetPeak()
	if n := q.Peak(); n != 4 {
		t.Errorf("then %d", n)
	}
}

// TestKeysForget: whatever keys come, there are as many as have requests under way.
func TestKeysForget(t *testing.T) {
	k := NewKeys(Settings{Limit: 1, Size: 1})
	var key [8]byte
	var under []*Queue
	for n := range uint64(200_000) {
		binary.LittleEndian.PutUint64(key[:], n)
		q := k.Enter(key[:])
		if q == nil {
			t.Fatalf("key %d has requests of others", n)
		}
		if k.Enter(key[:]) != nil {
			t.Fatalf("key %d has two under way", n)
		}
		if under = append(under, q); len(under) > 5000 {
			under[0].Leave(0)
			under = under[1:]
		}
	}
	if f, keys := k.Figures(); keys != 5000 || f.Under != 5000 {
		t.Errorf("%d keys, %+v", keys, f)
	}
	for _, q := range under {
		q.Leave(0)
	}
	buckets := 0
	for i := range k.shards {
		buckets += len(k.shards[i].buckets)
	}
	if f, keys := k.Figures(); keys != 0 || f.Under != 0 || buckets != shards*minBuckets {
		t.Errorf("at the end %d keys, %+v, %d buckets", keys, f, buckets)
	}
}

// TestCrowd has goroutines do everything at once: never more than the limit are under way, and nobody who waits
// is forgotten.
func TestCrowd(t *testing.T) {
	const limit = 3
	k := NewKeys(Settings{Limit: limit, Size: 8, Order: Adaptive})
	keys := [][]byte{[]byte("a"), []byte("b")}
	var under [2]atomic.Int32
	var served, waited atomic.Int64
	var all sync.WaitGroup
	for g := range 24 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 2000 {
				n := rng.IntN(2)
				q := k.Enter(keys[n])
				if q == nil {
					woken := make(chan struct{}, 1)
					w := &Waiter{Class: rng.IntN(Classes), Wake: func() { woken <- struct{}{} }}
					if v := k.Join(keys[n], w, 0); v == Full {
						continue
					}
					if w.State() == Waiting && rng.IntN(4) > 0 {
						<-woken // or hang here
					}
					if w.Quit() || w.State() != Admitted {
						continue
					}
					waited.Add(1)
					q = w.Queue()
				}
				if now := under[n].Add(1); now > limit {
					t.Errorf("%d under way", now)
				}
				served.Add(1)
				for range rng.IntN(4) {
					runtime.Gosched()
				}
				under[n].Add(-1)
				q.Leave(1)
			}
		})
	}
	all.Wait()
	if f, keys := k.Figures(); f.Under != 0 || f.Waiting != 0 || keys != 0 {
		t.Errorf("at the end %+v, %d keys", f, keys)
	}
	if waited.Load() == 0 || served.Load() < 1000 {
		t.Errorf("%d served, %d of them waited: this tests nothing", served.Load(), waited.Load())
	}
}

func TestNoAllocation(t *testing.T) {
	q, k := New(Settings{Limit: 2}), NewKeys(Settings{Limit: 2})
	var key [8]byte
	n := uint64(0)
	trip := func() {
		q.Enter()
		n++
		binary.LittleEndian.PutUint64(key[:], n)
		kq := k.Enter(key[:])
		q.Leave(1)
		kq.Leave(1)
	}
	for range 10_000 { // each shard has one queue to use again
		trip()
	}
	if n := testing.AllocsPerRun(10_000, trip); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkQueue(b *testing.B) {
	q := New(Settings{Limit: 1 << 20})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q.Enter()
			q.Leave(1000)
		}
	})
}

func BenchmarkKeys(b *testing.B) {
	k := NewKeys(Settings{Limit: 1 << 20})
	b.RunParallel(func(pb *testing.PB) {
		key := binary.LittleEndian.AppendUint64(nil, rand.Uint64())
		for pb.Next() {
			key[0]++
			k.Enter(key).Leave(1000)
		}
	})
}
