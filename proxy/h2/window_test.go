package h2

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// sendData sends n bytes of DATA, each frame with so much padding.
func (r *rig) sendData(id uint32, n, padding int) error {
	for n > 0 && r.c.err == nil {
		k := min(n, 10_000)
		pad := make([]byte, padding)
		if padding == 0 {
			pad = nil
		}
		r.must(r.WriteDataPadded(id, false, make([]byte, k), pad))
		r.receive()
		n -= k
	}
	var e *Error
	if r.c.err != nil {
		e = r.c.err
		return e
	}
	return nil
}

// TestWindowIsExact: a window is as large as was said, again after bytes were consumed, and not a byte larger.
func TestWindowIsExact(t *testing.T) {
	for _, more := range []int{0, 1} {
		r := newRig(t, true, Settings{Window: 1000, ConnWindow: 100_000}).greet()
		r.consume = false
		opens(1, false)(r)
		r.must(r.receive(), r.sendData(1, 1000, 0))
		r.streams[1].Consumed(499)
		if got := r.frames(); len(got) != 0 {
			t.Errorf("sent %q before half of the window was consumed", got)
		}
		r.streams[1].Consumed(501)
		if got := r.frames(); !slices.Equal(got, []string{"WINDOW_UPDATE 1 1000"}) {
			t.Errorf("sent %q", got)
		}
		r.must(r.sendData(1, 1000+more, 0))
		want := map[int][]string{0: nil, 1: {"RST 1 FLOW_CONTROL_ERROR"}}[more]
		if got := r.frames(); !slices.Equal(got, want) {
			t.Errorf("%d bytes more: sent %q, want %q", more, got, want)
		}
	}
	for _, more := range []int{0, 1} {
		r := newRig(t, true, Settings{Window: 300_000, ConnWindow: 100_000}).greet()
		r.consume = false
		opens(1, false)(r)
		r.must(r.receive(), r.sendData(1, 100_000, 0))
		r.streams[1].Reset(Cancel) // gives back what was not consumed
		if got := r.frames(); !slices.Equal(got, []string{"RST 1 CANCEL", "WINDOW_UPDATE 0 100000"}) {
			t.Errorf("sent %q", got)
		}
		opens(3, false)(r)
		r.must(r.receive())
		var e *Error
		if err := r.sendData(3, 100_000+more, 0); errors.As(err, &e) != (more == 1) || more == 1 && e.Code != FlowControlError {
			t.Errorf("%d bytes more: %v", more, err)
		}
	}
}

// TestSmallWindowBeforeAcknowledgement: until a client knows of a smaller window it may use the RFC's.
func TestSmallWindowBeforeAcknowledgement(t *testing.T) {
	r := newRig(t, true, Settings{Window: 1000})
	r.consume = false
	r.must(r.WriteSettings())
	opens(1, false)(r)
	r.must(r.receive(), r.sendData(1, 65535, 0), r.WriteSettingsAck(), r.receive())
	if got := r.frames(); slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, "RST") }) {
		t.Fatalf("sent %q", got)
	}
	r.streams[1].Consumed(65535)
	r.frames()
	r.must(r.sendData(1, 1000, 0))
	if got := r.frames(); len(got) != 0 {
		t.Errorf("within the new window: %q", got)
	}
	r.must(r.sendData(1, 1, 0))
	if got := r.frames(); !slices.Equal(got, []string{"RST 1 FLOW_CONTROL_ERROR"}) {
		t.Errorf("beyond the new window: %q", got)
	}
}

// TestPaddingIsConsumed: nobody but the Conn knows of padding.
func TestPaddingIsConsumed(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	opens(1, false)(r)
	r.must(r.receive())
	for range 2000 {
		r.must(r.sendData(1, 1, 250))
	}
	if got := r.frames(); len(got) == 0 || strings.HasPrefix(got[len(got)-1], "GOAWAY") {
		t.Errorf("sent %q", got)
	}
	if r.c.recv+r.c.consumed != 65535 || r.streams[1].recv+r.streams[1].consumed != 65535 || r.streams[1].unconsumed != 0 {
		t.Errorf("connection %d+%d, stream %+v", r.c.recv, r.c.consumed, r.streams[1])
	}
	r.streams[1].Reset(Cancel)
	r.must(r.sendData(1, 30_000, 99))
	if r.c.recv+r.c.consumed != 65535 {
		t.Errorf("connection %d+%d after DATA that nobody wants", r.c.recv, r.c.consumed)
	}
}

// TestNegativeWindow: what a SETTINGS takes away has to be given back before more is sent.
func TestNegativeWindow(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	r.head(1, true)
	r.must(r.receive())
	s := r.streams[1]
	s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
	if n := s.WriteData(make([]byte, 30_000), false); n != 30_000 {
		t.Fatalf("%d bytes were taken", n)
	}
	settings(http2.SettingInitialWindowSize, 10_000)(r)
	r.must(r.receive())
	if s.send != -20_000 || s.WriteData([]byte("x"), true) != 0 {
		t.Errorf("the window is %d", s.send)
	}
	window(1, 20_000)(r)
	r.must(r.receive())
	if len(r.log) != 1 {
		t.Errorf("with a window of 0: %q", r.log)
	}
	window(1, 1)(r)
	r.must(r.receive())
	if r.log[len(r.log)-1] != "writable 1" || s.WriteData([]byte("x"), true) != 1 || s.Open() {
		t.Errorf("with a window of 1: %q, open %v", r.log, s.Open())
	}
}

// TestTurns: of streams that all want to send, none waits for more than one turn of each other.
func TestTurns(t *testing.T) {
	for _, later := range []bool{false, true} { // the owner writes when it is told, or a while later
		r := newRig(t, true, Settings{}).greet()
		r.must(r.WriteWindowUpdate(0, 1<<30), r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
		var wrote []int
		sent := map[*Stream]int{}
		write := func(s *Stream) {
			n := s.WriteData(make([]byte, 1<<20), false)
			sent[s] += n
			wrote = append(wrote, n)
		}
		var due []*Stream
		r.on = func(s *Stream, text string) {
			switch {
			case !strings.HasPrefix(text, "writable"):
				s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
				write(s)
			case later:
				due = append(due, s)
			default:
				write(s)
			}
		}
		for i := range 10 {
			r.head(uint32(2*i+1), true)
			r.must(r.receive())
		}
		for range 50 {
			r.c.Sent(len(r.c.Pending()))
			for _, s := range due {
				write(s)
			}
			due = nil
		}
		least, most := 1<<30, 0
		for _, s := range r.streams {
			least, most = min(least, sent[s]), max(most, sent[s])
		}
		if len(r.streams) != 10 || least < 50*maxPending/10/2 || most-least > maxPending+quantum {
			t.Errorf("later %v: %d streams sent between %d and %d bytes: %v", later, len(r.streams), least, most, wrote)
		}
	}
}

// TestOpenedAgain: each way in which a window opens tells the stream that waited for it.
func TestOpenedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		shut func(r *rig)
		open func(r *rig)
	}{
		{"the stream's, by WINDOW_UPDATE", settings(http2.SettingInitialWindowSize, 5), window(1, 1)},
		{"the stream's, by SETTINGS", settings(http2.SettingInitialWindowSize, 5), settings(http2.SettingInitialWindowSize, 6)},
		{"the connection's", window(1, 1<<20), window(0, 1)},
	} {
		r := newRig(t, true, Settings{}).greet()
		opens(1, true)(r)
		c.shut(r)
		r.must(r.receive())
		s := r.streams[1]
		s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
		for s.WriteData(make([]byte, maxPending), false) > 0 {
			r.frames()
		}
		r.frames()
		r.log = nil
		r.must(r.receive())
		if len(r.log) != 0 {
			t.Errorf("%s: told %q with the window shut", c.name, r.log)
		}
		c.open(r)
		r.must(r.receive())
		if !slices.Equal(r.log, []string{"writable 1"}) {
			t.Errorf("%s: told %q", c.name, r.log)
		}
		if n := s.WriteData(make([]byte, 10), false); n != 1 {
			t.Errorf("%s: %d bytes were taken", c.name, n)
		}
	}
}

// TestToldInVain: streams whose owners are told that they may write, and do not, hold the others up only until something happens.
func TestToldInVain(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	r.must(r.WriteWindowUpdate(0, 1<<30), r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
	body := make([]byte, 200_000)
	left := map[uint32]int{}
	r.on = func(s *Stream, text string) {
		if n, ok := left[s.ID]; !ok {
			s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
			left[s.ID] = len(body) - s.WriteData(body, true)
		} else if s.ID > 21 {
			left[s.ID] -= s.WriteData(body[:n], true)
		}
	}
	for id := uint32(1); id <= 31; id += 2 {
		r.head(id, true)
	}
	r.must(r.receive())
	for range 10 {
		for len(r.c.Pending()) > 0 {
			r.c.Sent(len(r.c.Pending()))
		}
		window(0, 1)(r)
		r.must(r.receive())
	}
	for id, n := range left {
		if n > 0 == (id > 21) {
			t.Errorf("stream %d has %d bytes left", id, n)
		}
	}
}
