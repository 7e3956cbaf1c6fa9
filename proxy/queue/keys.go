package queue

import (
	"hash/maphash"
	"math/bits"
	"time"
)

// Keys are queues by key. One exists only while requests of its key are under way or wait, so that there are no
// more of them than requests, whatever keys somebody invents. Two keys whose hashes of 64 bits are the same share
// a queue: with a million of them at one time that happens to a key with a probability of 1e-13.
type Keys struct {
	seed   maphash.Seed // so that nobody outside can choose keys that meet
	shards [shards]shard
}

const (
	shards     = 64
	maxFree    = 32 // queues that a shard keeps for the next keys
	minBuckets = 16
)

// shard is a part of the keys under one lock. Two share no cache line.
type shard struct {
	group
	buckets []*Queue
	keys    int
	free    *Queue
	nfree   int
	_       [64]byte
}

// NewKeys returns queues of which each has these settings.
func NewKeys(s Settings) *Keys {
	k := &Keys{seed: maphash.MakeSeed()}
	for i := range k.shards {
		k.shards[i].settings = s
		k.shards[i].buckets = make([]*Queue, minBuckets)
	}
	return k
}

// Enter takes a place of the key's if there is one; else it returns nil.
func (k *Keys) Enter(key []byte) *Queue {
	s, hash := k.shard(key)
	s.mu.Lock()
	q := s.queue(hash)
	if !q.enter() {
		q = nil
	}
	s.mu.Unlock()
	return q
}

// Join is Queue.Join at the key's queue.
func (k *Keys) Join(key []byte, w *Waiter, now int64) Verdict {
	s, hash := k.shard(key)
	s.mu.Lock()
	v, shed := s.queue(hash).join(w, now)
	s.mu.Unlock()
	if shed != nil {
		shed.Wake()
	}
	return v
}

// Expected is how long another request of the key would have to wait.
func (k *Keys) Expected(key []byte) time.Duration {
	s, hash := k.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := 0
	if q := s.find(hash); q != nil {
		waiting = q.waiting
	}
	return time.Duration(s.mean * int64(waiting+1) / int64(max(s.settings.Limit, 1)))
}

// Configure puts settings in force, as Queue.Configure does.
func (k *Keys) Configure(settings Settings) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		s.settings = settings
		var admitted *Waiter
		for _, q := range s.buckets {
			for ; q != nil; q = q.next {
				admitted = q.admit(admitted)
			}
		}
		s.mu.Unlock()
		wake(admitted)
	}
}

// Figures are those of all keys together; Limit is that of each.
func (k *Keys) Figures() (f Figures, keys int) {
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		f.Limit = s.settings.Limit
		f.Under += s.under
		f.Waiting += s.waiting
		keys += s.keys
		s.mu.Unlock()
	}
	return f, keys
}

func (k *Keys) shard(key []byte) (*shard, uint64) {
	hash := maphash.Bytes(k.seed, key)
	top, _ := bits.Mul64(hash, shards)
	return &k.shards[top], hash
}

func (s *shard) bucket(hash uint64) **Queue { return &s.buckets[hash&uint64(len(s.buckets)-1)] }

func (s *shard) find(hash uint64) *Queue {
	q := *s.bucket(hash)
	for q != nil && q.hash != hash {
		q = q.next
	}
	return q
}

// queue finds that of a key, or makes it: its first request enters at once.
func (s *shard) queue(hash uint64) *Queue {
	q := s.find(hash)
	if q != nil {
		return q
	}
	if s.keys >= len(s.buckets) {
		s.resize(2 * len(s.buckets))
	}
	if q = s.free; q != nil {
		s.free, q.next = q.next, nil
		s.nfree--
	} else {
		q = &Queue{g: &s.group, shard: s}
	}
	q.hash = hash
	b := s.bucket(hash)
	q.next, *b = *b, q
	s.keys++
	return q
}

// forget takes the queue of a key that has nothing under way out of the table. Nobody waits then, either.
func (s *shard) forget(q *Queue) {
	b := s.bucket(q.hash)
	for *b != q {
		b = &(*b).next
	}
	*b, q.next = q.next, nil
	s.keys--
	if s.nfree < maxFree {
		q.next, s.free = s.free, q
		s.nfree++
	}
	if n := len(s.buckets); n > minBuckets && s.keys < n/8 {
		s.resize(n / 2)
	}
}

func (s *shard) resize(n int) {
	old := s.buckets
	s.buckets = make([]*Queue, n)
	for _, q := range old {
		for q != nil {
			next := q.next
			b := s.bucket(q.hash)
			q.next, *b = *b, q
			q = next
		}
	}
}
