package cache

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
	"time"
)

// Cache is what is kept for a route, what is on its way, and what is out of date by what was asked since.
type Cache struct {
	*Keyer
	*Store
	Flights
	marks [marks]atomic.Int64
	seed  maphash.Seed
}

// marks is the number of moments at which something was changed. Targets share them: what is out of date too
// often is only fetched once more.
const marks = 4096

// New returns an empty cache for so many bytes.
func New(most int64) *Cache {
	c := &Cache{Keyer: NewKeyer(), Store: NewStore(most), seed: maphash.MakeSeed()}
	c.Flights.init()
	return c
}

// Target is a number for what b names.
func (c *Cache) Target(b []byte) uint64 { return maphash.Bytes(c.seed, b) }

// Invalidate has answers of a target not be used any more that were asked for until now, also those that are
// still on their way.
func (c *Cache) Invalidate(target uint64, now int64) { c.marks[target%marks].Store(now) }

// Since is the moment from which on an answer of the target that is on its way must have been asked for.
func (c *Cache) Since(target uint64) int64 {
	return max(c.marks[target%marks].Load(), c.purged.Load())
}

// Found is what a look-up has found.
type Found struct {
	Entry *Entry // nil: nothing
	Key   Key    // of answers to requests like this one, as far as is known how they vary
	// Refused: answers to such requests were not kept a moment ago.
	Refused bool
}

// Find looks for an answer to a request with these header lines, whose key is base without regard to what its
// answers vary by. It uses b[:0].
func (c *Cache) Find(b []byte, base Key, lines []byte, target uint64, now int64) Found {
	f := Found{Entry: c.get(base), Key: base}
	if f.Entry != nil && f.Entry.vary != nil {
		f.Key = c.Varied(b, base, f.Entry.vary, lines)
		f.Entry = c.get(f.Key)
	}
	switch {
	case f.Entry == nil:
	case f.Entry.vary != nil, f.Entry.Asked <= c.marks[target%marks].Load():
		f.Entry = nil
	case f.Entry.refused:
		f.Refused = f.Entry.Left(now) > 0
		f.Entry = nil
	}
	return f
}

// Keep keeps an answer to a request with these header lines.
func (c *Cache) Keep(b []byte, base Key, lines []byte, e *Entry) {
	names := Vary(e.Head)
	if e.key = base; names != nil {
		e.key = c.Varied(b, base, names, lines)
	}
	if e.Asked <= c.Since(e.Target) {
		return
	}
	if names != nil && !c.put(base, &Entry{vary: names, Asked: e.Asked, Path: e.Path}) {
		// An answer to a later request has come first, perhaps to one that differs in a field of these names.
		if note := c.get(base); note == nil || !bytes.Equal(note.vary, names) {
			return
		}
	}
	c.put(e.key, e)
}

// Answers reports whether e, which was an answer to a request with the same base, is one to a request with
// these header lines: whether they agree in what it varies by.
func (c *Cache) Answers(b []byte, base Key, lines []byte, e *Entry) bool {
	if names := Vary(e.Head); names != nil {
		base = c.Varied(b, base, names, lines)
	}
	return e.key == base
}

// refusal is how long answers are known not to be kept: requests for them do not wait for each other.
const refusal = 10 * time.Second

// Refuse notes that an answer was not kept that was asked for and came at these times, and forgets the one
// before it, which may be nil.
func (c *Cache) Refuse(key Key, before *Entry, asked, came int64, note bool) {
	if note {
		c.put(key, &Entry{refused: true, Asked: asked, Came: came, Life: Life{Fresh: refusal}})
	} else if before != nil {
		c.remove(key, before)
	}
}

// Purge forgets all answers, or those at a path, with below also those under it. What was asked for before now
// is not kept.
func (c *Cache) Purge(path string, below bool, now int64) int {
	c.Flights.part()
	return c.purge(now, func(e *Entry) bool { return path == "" || e.keepsPath(path, below) })
}
