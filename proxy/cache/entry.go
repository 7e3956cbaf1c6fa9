package cache

import (
	"bytes"
	"slices"
	"sync/atomic"
	"time"
)

// Entry is an answer that is kept. Nobody changes it, so that it may be sent while it leaves the store. Times
// are nanoseconds of a clock that never goes back.
type Entry struct {
	Status  int
	Head    []byte // its header lines, each with its CRLF, without those of framing, and Age
	Body    []byte
	Variant string // that answered
	Asked   int64  // when the endpoint was asked
	Came    int64  // when its answer came
	Life    Life
	Target  uint64 // what it is an answer to, for Invalidate
	Path    string // normalised, for purges

	key      Key
	size     int64  // that Head and Body take
	vary     []byte // not nil: no answer, but the names of fields by which answers differ
	refused  bool   // no answer, but the notice that there is none to be kept until Life ends
	tag      [2]int32
	modified time.Time
	hold     atomic.Int64
}

// Hold reports whether a new answer may be fetched in the background, now and not again before until.
func (e *Entry) Hold(now, until int64) bool {
	before := e.hold.Load()
	return before <= now && e.hold.CompareAndSwap(before, until)
}

// NewEntry copies the parts of an answer that its other fields are about.
func NewEntry(status int, lines, body []byte) *Entry {
	b := slices.Grow([]byte(nil), len(lines)+len(body)) // one allocation, whose true size cap tells
	e := &Entry{Status: status, size: int64(cap(b))}
	for line := range bytes.Lines(lines) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case fold(name, "age"):
			continue
		case fold(name, "etag"):
			from := len(b) + len(line) - len(value)
			from += len(value) - len(bytes.TrimLeft(value, " \t"))
			e.tag = [2]int32{int32(from), int32(from + len(bytes.TrimSpace(value)))}
		case fold(name, "last-modified"):
			e.modified, _ = parseTime(bytes.TrimSpace(value))
		}
		b = append(b, line...)
	}
	head := len(b)
	b = append(b, body...)
	e.Head, e.Body = b[:head:head], b[head:]
	return e
}

func (e *Entry) etag() []byte { return e.Head[e.tag[0]:e.tag[1]] }

// Age is how old the answer is.
func (e *Entry) Age(now int64) time.Duration { return e.Life.Age + time.Duration(now-e.Came) }

// Left is how much longer it is fresh; what is negative, it is stale.
func (e *Entry) Left(now int64) time.Duration { return e.Life.Fresh - e.Age(now) }

// WhileRevalidating reports whether it may be used while a new one is fetched.
func (e *Entry) WhileRevalidating(now int64) bool { return -e.Left(now) < e.Life.Refresh }

// IfError reports whether it may be used while endpoints fail.
func (e *Entry) IfError(now int64) bool { return -e.Left(now) < e.Life.IfError }

// overhead is what an entry costs beside its head and body, with its places in the maps and lists of a store.
// TestMemory measures it.
const overhead = 512

// Cost is the number of bytes that e is charged with.
func (e *Entry) Cost() int64 {
	return e.size + int64(len(e.Path)+len(e.vary)) + overhead
}

// keepsPath reports whether e is an answer at this path, or below it.
func (e *Entry) keepsPath(path string, below bool) bool {
	switch {
	case e.Path == path, below && path == "/":
		return true
	case !below || len(e.Path) <= len(path):
		return false
	}
	return e.Path[:len(path)] == path && (e.Path[len(path)] == '/' || path[len(path)-1] == '/')
}
