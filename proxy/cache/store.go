package cache

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Store holds answers up to a number of bytes, those that were used last. Its locks are held for the time of
// a look-up, whatever it does.
type Store struct {
	shards    [shards]shard
	max       atomic.Int64
	bytes     atomic.Int64 // in the store, or about to be
	evictions atomic.Uint64
	purged    atomic.Int64 // what was asked for before is not kept
}

const shards = 16

type shard struct {
	mu  sync.Mutex
	lru *simplelru.LRU[Key, *Entry]
	_   [40]byte // a cache line of its own
}

// NewStore returns an empty store for so many bytes.
func NewStore(most int64) *Store {
	s := new(Store)
	s.max.Store(most)
	for i := range s.shards {
		// The bound is that of bytes.
		s.shards[i].lru, _ = simplelru.NewLRU[Key, *Entry](math.MaxInt, nil) // fails below 1 only
	}
	return s
}

func (s *Store) shard(key Key) (*shard, uint32) {
	i := uint32(key[0]) % shards
	return &s.shards[i], i
}

// get returns what is kept by that key, and notes that it was used.
func (s *Store) get(key Key) *Entry {
	sh, _ := s.shard(key)
	sh.mu.Lock()
	e, _ := sh.lru.Get(key)
	sh.mu.Unlock()
	return e
}

// put keeps e, in the place of what was kept by that key before. Others make room first, so that there is
// never more in the store than it may hold. It returns false where e is not kept.
func (s *Store) put(key Key, e *Entry) bool {
	cost := e.Cost()
	if cost > s.max.Load() || e.Asked <= s.purged.Load() {
		return false
	}
	sh, at := s.shard(key)
	s.bytes.Add(cost)
	s.shrink(at)
	sh.mu.Lock()
	before, _ := sh.lru.Peek(key)
	if before != nil && before.Asked > e.Asked { // that is the newer one
		before = e
	} else {
		sh.lru.Add(key, e)
	}
	sh.mu.Unlock()
	if before != nil {
		s.bytes.Add(-before.Cost())
	}
	return before != e
}

// remove forgets e, if it is still what is kept by that key.
func (s *Store) remove(key Key, e *Entry) bool {
	sh, _ := s.shard(key)
	sh.mu.Lock()
	now, _ := sh.lru.Peek(key)
	if now == e {
		sh.lru.Remove(key)
	}
	sh.mu.Unlock()
	if now != e {
		return false
	}
	s.bytes.Add(-e.Cost())
	return true
}

// shrink evicts what was not used for longest until the rest is within bounds: in this shard, and where that is
// empty in the others.
func (s *Store) shrink(at uint32) {
	for empty := uint32(0); s.bytes.Load() > s.max.Load() && empty < shards; {
		if !s.evict((at + empty) % shards) {
			empty++
		}
	}
}

// evict evicts what was not used for longest in a shard; false where that is empty.
func (s *Store) evict(at uint32) bool {
	sh := &s.shards[at]
	sh.mu.Lock()
	_, e, ok := sh.lru.RemoveOldest()
	sh.mu.Unlock()
	if ok {
		s.bytes.Add(-e.Cost())
		s.evictions.Add(1)
	}
	return ok
}

// Resize changes the bound.
func (s *Store) Resize(most int64) {
	if s.max.Swap(most) <= most {
		return
	}
	for s.bytes.Load() > most { // from all in turn
		before := s.bytes.Load()
		for at := uint32(0); at < shards && s.bytes.Load() > s.max.Load(); at++ {
			s.evict(at)
		}
		if s.bytes.Load() >= before {
			return // what is left is about to be put, which shrinks by itself
		}
	}
}

// purge forgets what gone says, and has what was asked for before now not be kept. It returns how many answers
// it has forgotten.
func (s *Store) purge(now int64, gone func(*Entry) bool) (n int) {
	for before := s.purged.Load(); before < now && !s.purged.CompareAndSwap(before, now); before = s.purged.Load() {
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		keys := sh.lru.Keys()
		sh.mu.Unlock()
		for _, key := range keys {
			sh.mu.Lock()
			e, ok := sh.lru.Peek(key)
			sh.mu.Unlock()
			if ok && gone(e) && s.remove(key, e) && e.answers() {
				n++
			}
		}
	}
	return n
}

// answers reports whether e is an answer, and no note about others.
func (e *Entry) answers() bool { return e.vary == nil && !e.refused }

// Figures are what a store holds.
type Figures struct {
	Entries   int // with notes on how answers vary, and on those that are not kept
	Bytes     int64
	Max       int64
	Evictions uint64
}

// Figures returns the store's.
func (s *Store) Figures() Figures {
	f := Figures{Bytes: s.bytes.Load(), Max: s.max.Load(), Evictions: s.evictions.Load()}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		f.Entries += sh.lru.Len()
		sh.mu.Unlock()
	}
	return f
}
