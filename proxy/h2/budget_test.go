package h2

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// flood is frames of a peer that brings no request any further, the i-th time.
type flood struct {
	name  string
	most  int // rounds
	frame func(r *rig, i int)
}

// ids that a flood uses: each round has a stream of its own.
func fresh(i int) uint32 { return uint32(2*i + 3) }

var floods = []flood{
	{"rapid reset (CVE-2023-44487)", budgetMax / costReset, func(r *rig, i int) {
		r.head(fresh(i), true)
		r.must(r.WriteRSTStream(fresh(i), http2.ErrCodeCancel))
	}},
	{"faults that make the server reset (CVE-2025-8671)", budgetMax / (costReset + costFrame), func(r *rig, i int) {
		r.head(fresh(i), true)
		window(fresh(i), 0)(r)
	}},
	{"malformed requests", budgetMax / costReset, func(r *rig, i int) { r.head(fresh(i), true, ":method: GET") }},
	{"more streams than allowed", budgetMax/costRefused + defaultStreams, func(r *rig, i int) { r.head(fresh(i), false) }},
	{"DATA on closed streams", budgetMax / costReset, func(r *rig, i int) {
		if i == 0 {
			r.head(3, true)
			r.must(r.WriteRSTStream(3, http2.ErrCodeCancel))
		}
		data(3, false, "x")(r)
	}},
	{"PING (CVE-2019-9512)", budgetMax, func(r *rig, i int) { r.must(r.WritePing(false, [8]byte{1})) }},
	{"PING acknowledgements", budgetMax, func(r *rig, i int) { r.must(r.WritePing(true, [8]byte{1})) }},
	{"SETTINGS (CVE-2019-9515)", budgetMax / costSettings, func(r *rig, i int) { r.must(r.WriteSettings()) }},
	{"SETTINGS acknowledgements", budgetMax / costSettings, func(r *rig, i int) { r.must(r.WriteSettingsAck()) }},
	{"SETTINGS that move windows", budgetMax / costSettings, func(r *rig, i int) { settings(http2.SettingInitialWindowSize, uint32(i%9+1000))(r) }},
	{"empty DATA (CVE-2019-9518)", budgetMax, func(r *rig, i int) { data(1, false, "")(r) }},
	{"empty padded DATA", budgetMax, func(r *rig, i int) { r.must(r.WriteDataPadded(1, false, nil, make([]byte, 9))) }},
	{"WINDOW_UPDATE", budgetMax, func(r *rig, i int) { window(0, 1)(r) }},
	{"WINDOW_UPDATE of a stream", budgetMax, func(r *rig, i int) { window(1, 1)(r) }},
	{"PRIORITY (CVE-2019-9513)", budgetMax, func(r *rig, i int) { r.must(r.WritePriority(1, http2.PriorityParam{StreamDep: 9})) }},
	{"RST_STREAM of a closed stream", budgetMax, func(r *rig, i int) { r.must(r.WriteRSTStream(1, http2.ErrCodeCancel)) }},
	{"GOAWAY", budgetMax, func(r *rig, i int) { r.must(r.WriteGoAway(0, 0, nil)) }},
	{"unknown frames", budgetMax, func(r *rig, i int) { raw(0xbb, 0, 1, "x")(r) }},
	{"CONTINUATION (CVE-2024-27316)", budgetMax, func(r *rig, i int) {
		if i == 0 {
			r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: r.block(getFields...)}))
		}
		r.must(r.WriteContinuation(3, false, nil))
	}},
	{"CONTINUATION that is kept (CVE-2023-45288)", budgetMax, func(r *rig, i int) {
		if i == 0 {
			r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: r.block(getFields...)}))
		}
		r.must(r.WriteContinuation(3, false, r.block(fmt.Sprint("x-", i, ": value"))))
	}},
}

// TestFloods: each ends with ENHANCE_YOUR_CALM after a bounded number of frames and with a bounded answer, whether the
// peer reads what is sent to it or not.
func TestFloods(t *testing.T) {
	for _, f := range floods {
		for _, reads := range []bool{true, false} {
			r := newRig(t, true, Settings{}).greet()
			opens(1, false)(r)
			r.must(r.receive())
			r.on = func(s *Stream, text string) {
				if strings.HasPrefix(text, "headers") && !strings.Contains(text, ":path=") {
					s.Reset(ProtocolError)
				}
			}
			var err error
			rounds, most := 0, 0
			for ; err == nil && rounds < 100_000; rounds++ {
				f.frame(r, rounds)
				err = r.receive()
				most = max(most, len(r.c.Pending()))
				if reads {
					r.c.Sent(len(r.c.Pending()))
				}
				for id, s := range r.streams { // Whatever was closed is forgotten.
					if !s.Open() {
						delete(r.streams, id)
					}
				}
				r.log = r.log[:0]
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != EnhanceYourCalm {
				t.Errorf("%s: %v after %d rounds", f.name, err, rounds)
			}
			if rounds < 50 || rounds > f.most+1 {
				t.Errorf("%s: ended after %d rounds", f.name, rounds)
			}
			if most > 64<<10 {
				t.Errorf("%s: %d bytes were pending", f.name, most)
			}
		}
	}
}

// TestUnreadAnswers: a client that asks on and on and reads nothing fills no more than what is allowed.
func TestUnreadAnswers(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	r.on = func(s *Stream, text string) {
		if s.Open() {
			s.WriteHeaders([]Field{{Name: ":status", Value: "200"}, {Name: "x", Value: fmt.Sprintf("%01000d", len(r.log))}}, true)
		}
		s.Release()
	}
	most, rounds := 0, 0
	for ; ; rounds++ {
		r.head(fresh(rounds), true)
		r.c.Tick()
		if err := r.receive(); err != nil {
			break
		}
		most = max(most, len(r.c.Pending()))
	}
	if r.c.err.Code != EnhanceYourCalm || most < maxUnread || most > maxUnread+64<<10 {
		t.Errorf("%v after %d requests, %d bytes were pending", r.c.err, rounds, most)
	}
}

// TestDribble: a client whose windows make a server send single bytes does not earn by it (CVE-2019-9511, 9517).
func TestDribble(t *testing.T) {
	r := newRig(t, true, Settings{})
	settings(http2.SettingInitialWindowSize, 0)(r)
	r.greet()
	opens(1, true)(r)
	r.must(r.receive())
	s := r.streams[1]
	s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
	body := make([]byte, 1<<20)
	s.WriteData(body, true)
	r.on = func(s *Stream, _ string) { s.WriteData(body, true) }
	for i := range 100_000 {
		window(1, 1)(r)
		if err := r.receive(); err != nil {
			if i < 1000 || i > 2*budgetMax || r.c.err.Code != EnhanceYourCalm {
				t.Errorf("%v after %d bytes", err, i)
			}
			return
		}
		r.c.Sent(len(r.c.Pending()))
	}
	t.Error("it went on")
}

// busy has a client make requests that it is entitled to; what it does with each is given. It returns the error.
func busy(t *testing.T, requests int, with func(r *rig, i int, id uint32)) error {
	r := newRig(t, true, Settings{}).greet()
	for i := range requests {
		id := uint32(2*i + 1)
		r.head(id, true)
		if err := r.receive(); err != nil {
			return err
		}
		with(r, i, id)
		if err := r.receive(); err != nil {
			return err
		}
		r.c.Sent(len(r.c.Pending()))
		r.streams[id].Release()
		delete(r.streams, id)
		r.log = r.log[:0]
	}
	return nil
}

func answerWith(r *rig, id uint32, body string) {
	s := r.streams[id]
	s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
	s.WriteData([]byte(body), true)
}

// TestBusyClientsAreCalm: what clients do that are no flood, as long as they like and without a Tick.
func TestBusyClientsAreCalm(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(r *rig, i int, id uint32)
	}{
		{"answers without a body", func(r *rig, i int, id uint32) { answer(r.streams[id]) }},
		{"two WINDOW_UPDATEs and a PING for each answer", func(r *rig, i int, id uint32) {
			answerWith(r, id, "hello")
			r.must(r.WriteWindowUpdate(0, 5), r.WriteWindowUpdate(id, 5), r.WritePing(false, [8]byte{1}))
		}},
		{"every second request is cancelled before its answer", func(r *rig, i int, id uint32) {
			if i%2 == 0 {
				answerWith(r, id, "hello")
			} else {
				r.must(r.WriteRSTStream(id, http2.ErrCodeCancel))
			}
		}},
		{"every request is cancelled within its answer", func(r *rig, i int, id uint32) {
			s := r.streams[id]
			s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
			s.WriteData([]byte("a token"), false)
			r.must(r.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
	} {
		if err := busy(t, 6_000, c.with); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// One that cancels everything, a hundred in a second.
	if err := busy(t, 6_000, func(r *rig, i int, id uint32) {
		r.must(r.WriteRSTStream(id, http2.ErrCodeCancel))
		if i%100 == 0 {
			r.c.Tick()
		}
	}); err != nil {
		t.Errorf("a hundred cancelled in a second: %v", err)
	}
}

// TestLongAnswerIsCalm: a client that acknowledges each frame of a long answer with two updates and a PING.
func TestLongAnswerIsCalm(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	opens(1, true)(r)
	r.must(r.receive())
	s := r.streams[1]
	s.WriteHeaders([]Field{{Name: ":status", Value: "200"}}, false)
	for range 5000 {
		n := s.WriteData(make([]byte, 50), false)
		if n != 50 {
			t.Fatalf("%d bytes were taken", n)
		}
		r.c.Sent(len(r.c.Pending()))
		r.must(r.WriteWindowUpdate(0, 50), r.WriteWindowUpdate(1, 50), r.WritePing(false, [8]byte{1}))
		r.must(r.receive())
	}
	// And one that does so after each kilobyte that it reads.
	body := make([]byte, 64_000)
	for range 500 {
		for rest := len(body); rest > 0; {
			n := s.WriteData(body[:rest], false)
			rest -= n
			r.c.Sent(len(r.c.Pending()))
			for ; n > 0; n -= 1024 {
				r.must(r.WriteWindowUpdate(0, uint32(min(n, 1024))), r.WriteWindowUpdate(1, uint32(min(n, 1024))))
			}
			r.must(r.receive())
		}
	}
}
