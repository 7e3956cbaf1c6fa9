package h2

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// TestUnreadDataHoldsUpNobody: what waits on some streams makes the connection's window no smaller for others, within
// Settings.Unread; beyond that it does, to the byte.
func TestUnreadDataHoldsUpNobody(t *testing.T) {
	for _, more := range []int{0, 1} {
		r := newRig(t, true, Settings{Window: 50_000, ConnWindow: 100_000, Unread: 150_000}).greet()
		r.consume = false
		for i := range 5 { // 250,000 bytes in all
			id := uint32(2*i + 1)
			opens(id, false)(r)
			r.must(r.receive(), r.sendData(id, 50_000, 0))
		}
		opens(11, false)(r)
		r.must(r.receive())
		var e *Error
		if err := r.sendData(11, more, 0); errors.As(err, &e) != (more == 1) || more == 1 && e.Code != FlowControlError {
			t.Fatalf("%d bytes more than there is room for: %v", more, err)
		}
		if more == 1 {
			continue
		}
		r.frames()
		r.streams[1].Consumed(50_000) // which were credited when they came
		r.streams[3].Reset(Cancel)
		r.streams[5].Release()
		if r.c.unread != 0 {
			t.Errorf("%d bytes are still credited for data that waits", r.c.unread)
		}
		for id := uint32(7); id <= 9; id += 2 {
			r.streams[id].Consumed(50_000)
		}
		if r.c.recv+r.c.consumed != 100_000 {
			t.Errorf("the connection's window is %d+%d when all is consumed", r.c.recv, r.c.consumed)
		}
	}
}

// TestGrownWindow: a stream's window is small until its owner reads, and then large, to the byte.
func TestGrownWindow(t *testing.T) {
	for _, more := range []int{0, 1} {
		r := newRig(t, true, Settings{MaxStreams: 2, Window: 1000, Grown: 5000, ConnWindow: 100_000, Unread: 2*1000 + 4000}).greet()
		r.consume = false
		opens(1, false)(r)
		r.must(r.receive(), r.sendData(1, 1000, 0))
		r.streams[1].Consumed(499)
		if got := r.frames(); len(got) != 0 {
			t.Errorf("sent %q before half of the window was consumed", got)
		}
		r.streams[1].Consumed(1)
		if got := r.frames(); !slices.Equal(got, []string{"WINDOW_UPDATE 1 4500"}) {
			t.Errorf("sent %q", got)
		}
		r.streams[1].Consumed(500)
		r.must(r.sendData(1, 4500, 0))
		r.streams[1].Consumed(2000)
		if got := r.frames(); !slices.Equal(got, []string{"WINDOW_UPDATE 1 2500"}) {
			t.Errorf("sent %q", got)
		}
		opens(3, false)(r) // for whose growth there is no room while the other is there
		r.must(r.receive(), r.sendData(3, 1000, 0))
		r.streams[3].Consumed(1000)
		if got := r.frames(); !slices.Equal(got, []string{"WINDOW_UPDATE 3 1000"}) {
			t.Errorf("sent %q", got)
		}
		r.must(r.sendData(1, 2500+more, 0))
		want := map[int][]string{0: nil, 1: {"RST 1 FLOW_CONTROL_ERROR"}}[more]
		if got := r.frames(); !slices.Equal(got, want) {
			t.Errorf("%d bytes more: sent %q, want %q", more, got, want)
		}
		r.streams[1].Release()
		r.must(r.sendData(3, 1000, 0))
		r.frames()
		r.streams[3].Consumed(1000)
		if got := r.frames(); !slices.Equal(got, []string{"WINDOW_UPDATE 3 5000"}) {
			t.Errorf("sent %q once there is room", got)
		}
	}
}

// TestAmid: what has begun and not ended has a number, and what comes after it another one.
func TestAmid(t *testing.T) {
	r := newRig(t, true, Settings{})
	r.must(r.WriteSettings())
	feed := func(n int) uint64 {
		t.Helper()
		r.must(r.c.Receive(r.in.Next(n)))
		return r.c.Amid()
	}
	begin := r.c.Amid()
	if begin == 0 || feed(len(Preface)-1) != begin || feed(1) != begin || feed(8) != begin {
		t.Error("the preface does not last until SETTINGS have come")
	}
	if n := feed(1); n != 0 {
		t.Errorf("%d after SETTINGS", n)
	}
	r.must(r.WritePing(false, [8]byte{}), r.WritePing(false, [8]byte{}))
	first := feed(10)
	second := feed(10)
	if first == 0 || second == 0 || first == second {
		t.Errorf("two PINGs are %d and %d", first, second)
	}
	if n := feed(100); n != 0 {
		t.Errorf("%d after them", n)
	}
	block := r.block(getFields...)
	r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]}))
	head := feed(5)
	if head == 0 || feed(100) != head {
		t.Error("HEADERS end the head")
	}
	r.must(r.WriteContinuation(1, false, block[1:2]), r.WriteContinuation(1, true, block[2:]))
	if feed(12) != head || feed(1) != head || feed(100) != 0 {
		t.Error("CONTINUATION is not the head's, or does not end it")
	}
	r.must(r.WriteData(1, false, make([]byte, 100)))
	if n := feed(50); n != 0 {
		t.Errorf("%d amid DATA", n)
	}
}

// TestRefusedAreCounted: a stream more than allowed.
func TestRefusedAreCounted(t *testing.T) {
	r := newRig(t, true, Settings{MaxStreams: 1}).greet()
	r.head(1, false)
	r.head(3, false)
	r.head(5, false)
	r.must(r.receive())
	if n := r.c.Refused(); n != 2 {
		t.Errorf("%d of 2", n)
	}
}
