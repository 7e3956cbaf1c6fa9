// One goroutine after the other: the race detector has nothing to find here, and takes minutes.

//go:build !race

package h2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// model runs a client against a server in memory, whose owners do anything at any time. Each stream's bytes are
// known from its number, so that each side knows what has to come.
type model struct {
	t    *testing.T
	rand *rand.Rand
	ends [2]*end

	began, whole, torn int // streams
}

// end is one of the two Conns and its owner.
type end struct {
	m       *model
	c       *Conn
	server  bool
	streams []*half
}

// half is what one owner knows of a stream.
type half struct {
	s        *Stream
	key      int // of the request; -1 while it is not known
	out      int // bytes to send
	sent     int
	got      int
	held     int // told and not consumed
	came     bool
	gone     bool // reset by one of the sides
	localEnd bool
	blocked  bool // WriteData took less than it was given: Writable has to come
}

const modelStreams = 6

func pattern(key, at int, server bool) byte {
	b := byte(key*31 + at*7 + at>>8)
	if server {
		b ^= 0x5a
	}
	return b
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 7))}
	windows := []int32{0, 1, 2, 100, 20000, 65535, 70000, 200000}
	settings := func() Settings {
		pick := func() int32 { return windows[m.rand.IntN(len(windows))] }
		return Settings{MaxStreams: modelStreams, Window: pick(), ConnWindow: pick(), Grown: pick(), Unread: 10 * int64(pick())}
	}
	m.ends[0] = &end{m: m}
	m.ends[1] = &end{m: m, server: true}
	m.ends[0].c = NewClient(settings(), m.ends[0])
	m.ends[1].c = NewServer(settings(), m.ends[1])
	return m
}

func (e *end) half(s *Stream) *half { return s.User.(*half) }

func (e *end) Headers(s *Stream, fields []Field, last bool) {
	if s.User == nil {
		h := &half{s: s, out: e.m.size()}
		s.User = h
		e.streams = append(e.streams, h)
		if _, err := fmt.Sscan(fields[0].Value, &h.key); err != nil {
			e.m.t.Fatal(err)
		}
		s.WriteHeaders([]Field{{Name: ":status", Value: "200"}, {Name: "etag", Value: fields[0].Value}}, false)
	}
	e.ended(e.half(s), last)
}

func (e *end) Data(s *Stream, p []byte, last bool) {
	h := e.half(s)
	for i, b := range p {
		if b != pattern(h.key, h.got+i, !e.server) {
			e.m.t.Fatalf("stream %d: byte %d differs", s.ID, h.got+i)
		}
	}
	h.got += len(p)
	h.held += len(p)
	if e.m.rand.IntN(3) == 0 {
		e.consume(h)
	}
	if e.m.rand.IntN(400) == 0 {
		e.reset(h)
		return
	}
	e.ended(h, last)
}

func (e *end) ended(h *half, last bool) { h.came = h.came || last }

func (e *end) Closed(s *Stream, code Code, unprocessed bool) { e.half(s).gone = true }

func (e *end) Writable(s *Stream) {
	e.half(s).blocked = false
	if e.m.rand.IntN(2) == 0 { // The owner is another strand half of the time, which writes later.
		e.write(e.half(s))
	}
}

func (e *end) write(h *half) {
	if h.gone || h.localEnd || h.blocked {
		return
	}
	p := make([]byte, min(h.out-h.sent, 1+e.m.rand.IntN(30_000)))
	for i := range p {
		p[i] = pattern(h.key, h.sent+i, e.server)
	}
	last := h.sent+len(p) == h.out
	n := h.s.WriteData(p, last)
	h.sent += n
	h.blocked = n < len(p)
	h.localEnd = last && n == len(p)
}

func (e *end) consume(h *half) {
	n := e.m.rand.IntN(h.held + 1)
	h.held -= n
	h.s.Consumed(n)
}

func (e *end) reset(h *half) {
	if !h.gone {
		h.s.Reset(Cancel)
		h.gone = true
	}
}

func (m *model) size() int {
	return []int{0, 1, 100, 16384, 70_000, 150_000, 400_000}[m.rand.IntN(7)]
}

// begin opens a stream on the client.
func (m *model) begin() {
	e := m.ends[0]
	s := e.c.Open()
	if s == nil {
		return
	}
	h := &half{s: s, key: m.began, out: m.size()}
	m.began++
	s.User = h
	e.streams = append(e.streams, h)
	s.WriteHeaders([]Field{{Name: ":path", Value: fmt.Sprint(h.key)}, {Name: "x-id", Value: fmt.Sprint(m.rand.IntN(9))}}, false)
}

// carry moves some bytes from one side to the other.
func (m *model) carry(from, to *end, most int) {
	p := from.c.Pending()
	if len(p) > maxPending+modelStreams*(frameHeaderLen+quantum) {
		m.t.Fatalf("%d bytes are pending", len(p))
	}
	p = bytes.Clone(p[:min(len(p), most)])
	if m.rand.IntN(2) == 0 { // while a write is under way, more may come
		m.step()
		if !bytes.HasPrefix(from.c.Pending(), p) {
			m.t.Fatal("what was pending has changed")
		}
	}
	if len(p) == 0 {
		return
	}
	from.c.Sent(len(p))
	if err := to.c.Receive(p); err != nil {
		m.t.Fatal(err)
	}
	for _, e := range m.ends {
		if e.c.recv < 0 || e.c.send < 0 {
			m.t.Fatalf("the connection's windows: %d to come, %d to go", e.c.recv, e.c.send)
		}
	}
}

// step does something to a stream.
func (m *model) step() {
	e := m.ends[m.rand.IntN(2)]
	if len(e.streams) == 0 {
		return
	}
	h := e.streams[m.rand.IntN(len(e.streams))]
	switch n := m.rand.IntN(1000); {
	case n < 500:
		e.write(h)
	case n < 998:
		e.consume(h)
	default:
		e.reset(h)
	}
}

// reap lets go of streams that are over.
func (m *model) reap(e *end) {
	kept := e.streams[:0]
	for _, h := range e.streams {
		if !h.gone && (!h.came || !h.localEnd) {
			kept = append(kept, h)
			continue
		}
		if !h.gone && h.s.Open() {
			m.t.Fatalf("stream %d is open, but both sides have ended it", h.s.ID)
		}
		if h.gone {
			m.torn++
		} else {
			m.whole++
		}
		h.s.Release()
	}
	e.streams = kept
}

func (m *model) run(steps int) {
	for i := range steps {
		if m.rand.IntN(8) == 0 {
			m.begin()
		}
		from := m.rand.IntN(2)
		m.carry(m.ends[from], m.ends[1-from], 1+m.rand.IntN(30_000))
		m.step()
		if i%16 == 0 {
			m.reap(m.ends[0])
			m.reap(m.ends[1])
			m.ends[0].c.Tick() // a second of theirs
			m.ends[1].c.Tick()
		}
	}
	m.finish()
}

// finish brings everything to its end: no stream may be stuck.
func (m *model) finish() {
	for range 20_000 {
		moved := false
		for i, e := range m.ends {
			for _, h := range e.streams {
				before := h.sent
				e.write(h)
				h.s.Consumed(h.held)
				moved = moved || h.held > 0 || h.sent > before
				h.held = 0
			}
			m.reap(e)
			n := len(e.c.Pending())
			moved = moved || n > 0
			m.carry(e, m.ends[1-i], n)
			e.c.Tick()
		}
		if !moved && len(m.ends[0].streams)+len(m.ends[1].streams) == 0 {
			m.settled()
			return
		}
	}
	m.t.Fatalf("%d and %d streams do not end", len(m.ends[0].streams), len(m.ends[1].streams))
}

// settled: both sides agree on the windows, and no byte of them was lost.
func (m *model) settled() {
	for i, e := range m.ends {
		if got := e.c.recv + e.c.consumed; got != int64(e.c.local.ConnWindow) {
			m.t.Errorf("of the connection's window of %d there are %d", e.c.local.ConnWindow, got)
		}
		if other := m.ends[1-i].c; other.send != e.c.recv {
			m.t.Errorf("one side may send %d, the other takes %d", other.send, e.c.recv)
		}
		if e.c.unread != 0 || e.c.grown != 0 {
			m.t.Errorf("%d bytes are unread, of no stream, and windows larger by %d", e.c.unread, e.c.grown)
		}
		if e.c.Streams() != 0 || len(e.c.streams) != 0 || e.c.notified != 0 || e.c.first != nil || e.c.out != nil || e.c.in != nil {
			m.t.Errorf("%d streams, %d told that they may write, buffers %v and %v", e.c.Streams(), e.c.notified, e.c.in, e.c.out)
		}
	}
}

// TestModel: whatever the owners do and however the bytes are cut, what arrives is what was sent, the windows hold, and
// nothing is stuck.
func TestModel(t *testing.T) {
	whole, torn := 0, 0
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newModel(t, seed)
			m.run(1000)
			whole, torn = whole+m.whole, torn+m.torn
		})
	}
	if t.Logf("%d halves of streams came to their end, %d were reset", whole, torn); whole < 500 || torn < 100 {
		t.Error("too few to mean anything")
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) { newModel(t, seed).run(int(steps % 2000)) })
}
