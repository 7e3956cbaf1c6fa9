package proxy

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"weir/proxy/aside"
	"weir/proxy/compare"
)

// mirrorCopy is a copy of a request, from the choice of its endpoint to the end of the shadow's answer.
type mirrorCopy struct {
	m      *mirror
	sent   []byte // what the endpoint was sent: the head, and of the body what there is so far
	head   int    // of it, the length of the head
	length int64  // of a sized body; -1
	limit  int    // of sent
	whole  bool   // sent is all of it
	over   bool   // it is longer than limit
	// timeField is the name of the field that says what time the client has left; "": the head says nothing of it.
	timeField string
	asked     bool // the head asks for a report of load

	// What is known once the request has ended.
	p       *Proxy
	ended   time.Time
	time    time.Time
	id      string
	method  string
	path    string
	status  int
	ok      bool // an endpoint answered, and the client has all of that
	took    time.Duration
	primary *tee // nil: it is not compared
}

// again says that the request is sent from its beginning.
func (c *mirrorCopy) again() {
	if c != nil && !c.whole {
		c.sent = c.sent[:0]
	}
}

// add copies a piece that is sent to the endpoint.
func (c *mirrorCopy) add(piece []byte) {
	if c == nil || c.whole || c.over {
		return
	}
	if c.over = len(c.sent)+len(piece) > c.limit; c.over {
		c.sent = nil
		return
	}
	c.sent = append(c.sent, piece...)
}

// uploaded says that no more is sent of this attempt. Whether that was all, the bytes tell.
func (c *mirrorCopy) uploaded() {
	if c == nil || c.whole || len(c.sent) < c.head {
		return
	}
	body := c.sent[c.head:]
	c.whole = c.length >= 0 && int64(len(body)) == c.length || c.length < 0 && wholeChunks(body)
}

// wholeChunks reports whether b, which weir has framed, ends with the end of a chunked body.
func wholeChunks(b []byte) bool {
	for {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok {
			return false
		}
		n, err := strconv.ParseUint(unsafeString(line), 16, 32)
		switch {
		case err != nil:
			return false
		case n == 0:
			return string(rest) == "\r\n" || bytes.HasSuffix(rest, []byte("\r\n\r\n"))
		case uint64(len(rest)) < n+2:
			return false
		}
		b = rest[n+2:]
	}
}

// note keeps what is told of the request, whose memory the next one gets.
func (c *mirrorCopy) note(r *request) {
	path, _, _ := bytes.Cut(r.target, []byte("?")) // a query may hold secrets
	c.p, c.time, c.ended = r.p, r.start, time.Now()
	c.id, c.method, c.path = string(r.id), methods[r.method], string(path[:min(len(path), maxSampled)])
	stale := r.caching != nil && r.caching.result == cacheStale // since the endpoint failed
	c.status, c.ok, c.took = r.status, r.kind == success && !stale, r.took
	if c.m.rules != nil {
		c.primary = r.tee
	}
}

// run sends the copy and looks at the answer.
func (c *mirrorCopy) run(ctx context.Context) {
	l := c.m.live
	defer l.leave()
	defer func() {
		if v := recover(); v != nil {
			c.p.panicked(v)
		}
	}()
	if now := time.Now(); now.Sub(c.ended) > c.p.options.mirrorPatience {
		l.pause(now)
		l.skip(skippedOverloaded)
		return
	}
	head := unasked(append(make([]byte, 0, c.head+len(mirrorField)+8), c.sent[:c.head-len("\r\n")]...), c.asked)
	if c.timeField != "" {
		head = removeField(head, 0, strings.ToLower(c.timeField))
	}
	head = append(appendField(head, mirrorField+": ", []byte("true")), "\r\n"...)
	a := c.p.aside.Send(ctx, c.m.pool, &aside.Request{
		Method: c.method, Head: head, Body: c.sent[c.head:], Timeout: c.m.cfg.Timeout, MaxBody: int64(c.m.cfg.MaxBody),
	})
	c.sent = nil
	if errors.Is(a.Err, aside.ErrNoEndpoint) {
		l.skip(skippedNoEndpoint)
		return
	}
	l.answered(c, &a)
	if c.m.rules == nil {
		return
	}
	// One at a time: comparing takes a processor, and requests need the rest of them.
	c.p.comparing.Lock()
	v := c.m.rules.Compare(c.primaryAnswer(), shadowAnswer(&a))
	c.p.comparing.Unlock()
	l.compared(c, &a, v)
}

func (c *mirrorCopy) primaryAnswer() compare.Answer {
	t := c.primary
	return compare.Answer{
		Status: t.status, Body: t.body, Whole: t.whole && len(t.body) <= int(c.m.cfg.MaxBody),
		Field: func(name string) string { return string(lookup(t.head, name)) },
	}
}

func shadowAnswer(a *aside.Answer) compare.Answer {
	b := compare.Answer{Status: a.Status, Body: a.Body, Whole: a.Whole, Field: a.Header.Get}
	if a.Err != nil {
		b.Status = 0
	}
	return b
}
