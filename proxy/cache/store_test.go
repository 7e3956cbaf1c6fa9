package cache

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func number(n uint64) Key {
	return Sum(binary.LittleEndian.AppendUint64(nil, n))
}

func entry(n uint64, size int, asked int64) *Entry {
	e := NewEntry(200, lines(fmt.Sprint("X: ", n)), make([]byte, size))
	e.Asked, e.Came, e.Life.Fresh = asked, asked, time.Hour
	return e
}

// held is what a store holds, counted by hand.
func held(s *Store) (n int, bytes int64) {
	for i := range s.shards {
		for _, e := range s.shards[i].lru.Values() {
			n, bytes = n+1, bytes+e.Cost()
		}
	}
	return n, bytes
}

// TestStoreModel compares a store with a list of what was put last.
func TestStoreModel(t *testing.T) {
	const most = 100_000
	s, r := NewStore(most), rand.New(rand.NewPCG(1, 2))
	last := map[Key]*Entry{}
	limit := int64(most)
	for step := range int64(50_000) {
		key := number(r.Uint64N(300))
		switch r.IntN(10) {
		case 0:
			if e := s.get(key); e != nil && s.remove(key, e) {
				delete(last, key)
			}
		case 1, 2, 3:
			e := entry(r.Uint64(), r.IntN(3000), step+1)
			if s.put(key, e) != (e.Cost() <= limit) {
				t.Fatalf("step %d: put of %d bytes", step, e.Cost())
			}
			if e.Cost() <= limit {
				last[key] = e
			}
		case 4:
			if r.IntN(1000) == 0 {
				limit = 1 + r.Int64N(2*most)
				s.Resize(limit)
			}
		default:
			if e := s.get(key); e != nil && e != last[key] {
				t.Fatalf("step %d: not what was put last", step)
			}
		}
		if f := s.Figures(); f.Bytes > limit {
			t.Fatalf("step %d: %d bytes of %d", step, f.Bytes, limit)
		}
	}
	n, bytes := held(s)
	if f := s.Figures(); f.Entries != n || f.Bytes != bytes || f.Evictions == 0 || n < 10 {
		t.Errorf("%+v, but there are %d entries with %d bytes", f, n, bytes)
	}
	s.Resize(0)
	if n, bytes := held(s); n != 0 || s.Figures().Bytes != 0 {
		t.Errorf("%d entries, %d bytes after all had to go", n, bytes)
	}
}

// TestStoreKeepsWhatIsUsed: what is asked for stays while others come and go.
func TestStoreKeepsWhatIsUsed(t *testing.T) {
	s := NewStore(1 << 20)
	for n := range uint64(20) {
		s.put(number(n), entry(n, 100, 1))
	}
	for n := uint64(100); n < 50_000; n++ {
		s.put(number(n), entry(n, 100, 1))
		if n%20 == 0 {
			for hot := range uint64(20) {
				if s.get(number(hot)) == nil {
					t.Fatalf("%d was evicted when %d came", hot, n)
				}
			}
		}
	}
}

func TestStoreNewerStays(t *testing.T) {
	s := NewStore(1 << 20)
	newer := entry(1, 10, 20)
	s.put(number(1), newer)
	if s.put(number(1), entry(2, 10, 10)) || s.get(number(1)) != newer {
		t.Error("what was asked for earlier took the place of what was asked for later")
	}
	if n, bytes := held(s); n != 1 || s.Figures().Bytes != bytes {
		t.Errorf("%d entries; %d bytes, counted %d", n, bytes, s.Figures().Bytes)
	}
}

func TestMarksAndPurges(t *testing.T) {
	c := New(1 << 20)
	base, target := number(1), c.Target([]byte("h /x"))
	keep := func(asked int64) *Entry {
		e := entry(1, 10, asked)
		e.Target, e.Path = target, "/x"
		c.Keep(nil, base, nil, e)
		return c.Find(nil, base, nil, target, asked).Entry
	}
	if keep(10) == nil {
		t.Fatal("nothing is found")
	}
	c.Invalidate(target, 20)
	if c.Find(nil, base, nil, target, 21).Entry != nil {
		t.Error("found what was invalidated")
	}
	if keep(20) != nil {
		t.Error("kept what was asked for before it was invalidated")
	}
	if keep(21) == nil || c.Purge("/y", true, 30) != 0 || c.Find(nil, base, nil, target, 31).Entry == nil {
		t.Error("the purge of another path took it")
	}
	if keep(30) == nil || c.Find(nil, base, nil, target, 31).Entry.Asked != 21 {
		t.Error("kept what was asked for before a purge")
	}
	if keep(31) == nil || c.Purge("/x", false, 40) != 1 || c.Find(nil, base, nil, target, 41).Entry != nil {
		t.Error("not purged")
	}
}

func TestVaried(t *testing.T) {
	c := New(1 << 20)
	base := number(1)
	of := func(asked int64, vary string, request ...string) *Entry {
		e := NewEntry(200, lines("Vary: "+vary), nil)
		e.Asked, e.Life.Fresh = asked, time.Hour
		c.Keep(nil, base, lines(request...), e)
		return e
	}
	find := func(request ...string) *Entry { return c.Find(nil, base, lines(request...), 0, 5).Entry }
	de := of(1, "X-Lang, Accept", "X-Lang: de")
	fr := of(2, "x-lang,ACCEPT", "X-Lang: fr", "Accept: a, b")
	for _, q := range []struct {
		request []string
		want    *Entry
	}{
		{[]string{"x-LANG:de  "}, de}, {[]string{"Accept: a, b", "X-Lang: fr"}, fr}, {[]string{"Accept: a", "Accept: b", "X-Lang: fr"}, nil},
		{nil, nil}, {[]string{"X-Lang: de", "Accept:"}, nil}, {[]string{"X-Lang: d", "Accept: e"}, nil},
	} {
		if e := find(q.request...); e != q.want {
			t.Errorf("%q: %v", q.request, e)
		}
	}
	if !c.Answers(nil, base, lines("X-Lang: de", "Y: z"), de) || c.Answers(nil, base, lines("X-Lang: fr"), de) {
		t.Error("who waited for it got the answer of another")
	}
	// Its request was the earlier one, of two that differ, and its answer the later.
	it := of(1, "x-lang, accept", "X-Lang: it")
	if e := find("X-Lang: it"); e != it {
		t.Error("not kept because an answer to a later request came first")
	}
	if of(1, "X-Other", "X-Lang: it", "X-Other: a"); find("X-Lang: it") != it || find("X-Lang: de") != de {
		t.Error("what answers vary by is what the later request said")
	}
	if n := c.Purge("", false, 10); n != 3 || c.Figures().Entries != 0 {
		t.Errorf("%d purged, %+v", n, c.Figures())
	}
}

// TestFlights has many ask at once, some of whom leave: nobody waits for ever, and nobody leads beside another.
func TestFlights(t *testing.T) {
	c := New(1 << 20)
	var leading [8]atomic.Int32
	var all sync.WaitGroup
	for worker := range uint64(16) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(worker, 7))
			for range 3000 {
				n := r.Uint64N(uint64(len(leading)))
				for done := false; !done; {
					woken := make(chan struct{}, 1)
					f, place, leads := c.Join(number(n), 1, 0, nil, func() { woken <- struct{}{} })
					if leads {
						if leading[n].Add(1) != 1 {
							t.Error("two lead")
						}
						v := Verdict(r.IntN(4))
						leading[n].Add(-1)
						c.Land(f, v, &Entry{Status: int(n)})
						break
					}
					if r.IntN(10) == 0 {
						c.Leave(f, place)
						break
					}
					<-woken
					e, v, ok := f.Result()
					if !ok || e.Status != int(n) {
						t.Error("woken without the result")
					}
					done = v != Again
				}
			}
		})
	}
	all.Wait()
	if n := c.UnderWay(); n != 0 {
		t.Errorf("%d flights are left", n)
	}
}

// TestFlightsOfBefore: nobody joins what was asked for before it must have been, or what is late.
func TestFlightsOfBefore(t *testing.T) {
	c := New(1 << 20)
	first, _, leads := c.Join(number(1), 10, 0, nil, nil)
	if !leads {
		t.Fatal("the first does not lead")
	}
	if f, _, leads := c.Join(number(1), 11, 9, nil, nil); leads || f != first {
		t.Error("the second leads")
	}
	second, _, leads := c.Join(number(1), 12, 10, nil, nil)
	if !leads {
		t.Error("joined what was asked for too early")
	}
	third, _, leads := c.Join(number(1), 13, 10, second, nil)
	if !leads {
		t.Error("joined what is late")
	}
	c.Land(second, Landed, nil)
	if f, _, leads := c.Join(number(1), 14, 10, nil, nil); leads || f != third {
		t.Error("the end of a flight that was late ended another")
	}
	c.Purge("", false, 15)
	if _, _, leads := c.Join(number(1), 16, 0, nil, nil); !leads {
		t.Error("joined what was asked for before a purge")
	}
}

// TestRace uses everything at once.
func TestRace(t *testing.T) {
	const most = 200_000
	c := New(most)
	var all sync.WaitGroup
	var clock atomic.Int64
	for worker := range uint64(8) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(worker, 3))
			for range 4000 {
				now := clock.Add(1)
				key, request := number(r.Uint64N(200)), lines(fmt.Sprint("A: ", r.IntN(3)))
				target := c.Target(key[:])
				switch r.IntN(20) {
				case 0:
					c.Invalidate(target, now)
				case 1:
					if r.IntN(50) == 0 {
						c.Purge([]string{"", "/a"}[r.IntN(2)], true, now)
					}
				case 2:
					c.Resize(most/2 + r.Int64N(most/2))
				case 3:
					c.Refuse(key, c.Find(nil, key, request, target, now).Entry, now, now, r.IntN(2) == 0)
				case 4, 5, 6, 7, 8, 9:
					e := entry(0, r.IntN(2000), now)
					if r.IntN(2) == 0 {
						e = NewEntry(200, lines("Vary: a"), make([]byte, r.IntN(2000)))
						e.Asked, e.Came, e.Life.Fresh = now, now, time.Hour
					}
					e.Target, e.Path = target, "/a/b"
					c.Keep(nil, key, request, e)
				default:
					if e := c.Find(nil, key, request, target, now).Entry; e != nil && e.Target != target {
						t.Error("the answer to another request")
					}
				}
				if f := c.Figures(); f.Bytes > most+8*4000 || f.Bytes < 0 {
					t.Errorf("%d bytes", f.Bytes)
				}
			}
		})
	}
	all.Wait()
	if n, bytes := held(c.Store); c.Figures().Bytes != bytes || bytes > most {
		t.Errorf("%d entries with %d bytes, counted %d", n, bytes, c.Figures().Bytes)
	}
}

func TestKeysKeepPartsApart(t *testing.T) {
	k := NewKeyer()
	seen := map[Key]string{}
	for _, parts := range [][]string{{"a", "b"}, {"ab"}, {"ab", ""}, {"", "ab"}, {"a", "b", ""}, {"a\x01\x00\x00\x00b"}, {}} {
		b := k.Begin(nil)
		for _, p := range parts {
			b = Part(b, p)
		}
		key := Sum(b)
		if other, ok := seen[key]; ok {
			t.Errorf("%q has the key of %q", parts, other)
		}
		seen[key] = fmt.Sprintf("%q", parts)
		if key == Sum(NewKeyer().Begin(nil)) {
			t.Error("two secrets are alike")
		}
	}
	fields := map[string]bool{}
	for _, l := range [][]byte{nil, lines("A:"), lines("A: x"), lines("A: x", "A: y"), lines("A: y", "A: x"), lines("A: xy"), lines("A: x, y"), lines("AB: x")} {
		fields[string(Fields(nil, l, "a"))] = true
	}
	if len(fields) != 7 { // the first and the last are the same: no A
		t.Errorf("%d of 7 differ", len(fields))
	}
}

func BenchmarkKey(b *testing.B) {
	k := NewKeyer()
	for _, size := range []int{0, 200, 1 << 10, 16 << 10} {
		body, buf := make([]byte, size), make([]byte, 0, 1024)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = k.Begin(buf)
				for range 8 {
					buf = Part(buf, "application/json")
				}
				if size > 0 {
					buf = Body(buf, body)
				}
				Sum(buf)
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	c := New(64 << 20)
	for n := range uint64(10_000) {
		c.Keep(nil, number(n), nil, entry(n, 100, 1))
	}
	keys := make([]Key, 10_000)
	for n := range keys {
		keys[n] = number(uint64(n))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := rand.IntN(len(keys)); pb.Next(); n = (n + 1) % len(keys) {
			c.Find(nil, keys[n], nil, 7, 2)
		}
	})
}
