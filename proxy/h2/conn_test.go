package h2

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// session is what a client might send, with every kind of frame and every way to write one.
func session(t *testing.T) []byte {
	r := newRig(t, true, Settings{})
	r.must(r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
	r.must(r.WriteSettingsAck(), r.WriteWindowUpdate(0, 1000))
	r.head(1, true)
	r.must(r.WritePing(false, [8]byte{1}))
	opens(3, false, "content-length: 12", "x: "+strings.Repeat("y", 300))(r)
	r.must(r.WriteDataPadded(3, false, []byte("hello "), make([]byte, 7)))
	r.must(r.WriteDataPadded(3, false, []byte("all"), []byte{}))
	r.must(r.WriteRawFrame(0x20, 0xff, 3, []byte("unknown")))
	r.must(r.WritePriority(3, http2.PriorityParam{StreamDep: 1, Weight: 3}))
	r.must(r.WriteDataPadded(3, false, nil, make([]byte, 3)))
	r.must(r.WriteData(3, false, []byte(" of")))
	r.head(3, true, "trailer-field: 1")
	block := r.block(append(slices.Clone(getFields), "a: b", "c: d")...)
	r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: block[:3], EndStream: true, PadLength: 9,
		Priority: http2.PriorityParam{StreamDep: 3, Weight: 200, Exclusive: true}}))
	r.must(r.WriteContinuation(5, false, nil), r.WriteContinuation(5, false, block[3:9]), r.WriteContinuation(5, true, block[9:]))
	opens(7, false)(r)
	r.must(r.WriteData(7, true, nil), r.WriteRSTStream(7, http2.ErrCodeCancel))
	r.must(r.WriteWindowUpdate(5, 10), r.WriteGoAway(0, http2.ErrCodeNo, []byte("bye")))
	return bytes.Clone(r.in.Bytes())
}

// play gives a server the pieces of a session; it is what was told, and what sent.
func play(t *testing.T, pieces ...[]byte) string {
	r := newRig(t, true, Settings{})
	for _, p := range pieces {
		// The memory is the caller's: nothing of it may be looked at later.
		q := bytes.Clone(p)
		if err := r.c.Receive(q); err != nil {
			t.Fatal(err)
		}
		for i := range q {
			q[i] = 0xee
		}
	}
	return strings.Join(append(r.log, r.frames()...), "\n")
}

// TestSplitAnywhere: where the bytes of a connection are cut into reads changes nothing.
func TestSplitAnywhere(t *testing.T) {
	all := session(t)
	want := play(t, all)
	wanted := []string{
		"headers 1 :method=GET :scheme=http :authority=h :path=/ end",
		"headers 3 :method=GET :scheme=http :authority=h :path=/ content-length=12 x=" + strings.Repeat("y", 300),
		"data 3 hello all of",
		"headers 3 trailer-field=1 end",
		"headers 5 :method=GET :scheme=http :authority=h :path=/ a=b c=d end",
		"headers 7 :method=GET :scheme=http :authority=h :path=/",
		"data 7 ", "end 7", "closed 7 CANCEL",
		"SETTINGS 0", "SETTINGS 0 end", "PING 0 end",
	}
	if want != strings.Join(wanted, "\n") {
		t.Fatalf("in one piece: %s\nwant %s", want, strings.Join(wanted, "\n"))
	}
	var bytewise [][]byte
	for i := range all {
		bytewise = append(bytewise, all[i:i+1])
		if got := play(t, all[:i], all[i:]); got != want {
			t.Errorf("cut at %d: %s\nwant %s", i, got, want)
		}
		if i%7 == 0 {
			if got := play(t, all[:i], all[i:min(i+5, len(all))], all[min(i+5, len(all)):]); got != want {
				t.Errorf("cut at %d and 5 later: %s\nwant %s", i, got, want)
			}
		}
	}
	if got := play(t, bytewise...); got != want {
		t.Errorf("in single bytes: %s\nwant %s", got, want)
	}
}

// TestRefusedMayBeRepeated: a client knows which of its requests nobody has acted upon.
func TestRefusedMayBeRepeated(t *testing.T) {
	r := newRig(t, false, Settings{}).greet()
	for range 4 {
		r.c.Open().WriteHeaders([]Field{{Name: ":method", Value: "GET"}}, true)
	}
	waiting := r.c.Open()
	r.must(r.WriteRSTStream(1, http2.ErrCodeRefusedStream), r.WriteRSTStream(3, http2.ErrCodeInternal))
	r.must(r.WriteGoAway(5, http2.ErrCodeNo, nil))
	if err := r.receive(); err != nil {
		t.Fatal(err)
	}
	want := []string{"closed 1 REFUSED_STREAM unprocessed", "closed 3 INTERNAL_ERROR", "closed 7 NO_ERROR unprocessed", "closed 0 NO_ERROR unprocessed"}
	if !slices.Equal(r.log, want) {
		t.Errorf("told %q, want %q", r.log, want)
	}
	waiting.WriteHeaders(nil, true)
	if r.c.Room() != 0 || r.c.Open() != nil || !r.c.Draining() || r.c.Drained() || r.c.Streams() != 1 {
		t.Errorf("room %d, draining %v, drained %v, %d streams", r.c.Room(), r.c.Draining(), r.c.Drained(), r.c.Streams())
	}
	r.head(5, true, ":status: 200")
	if err := r.receive(); err != nil {
		t.Fatal(err)
	}
	r.frames()
	if !r.c.Drained() || r.log[len(r.log)-1] != "headers 5 :status=200 end" {
		t.Errorf("drained %v, told %q", r.c.Drained(), r.log)
	}
}

// TestShutdown: a server names its last stream only when the client cannot have sent others unknowingly.
func TestShutdown(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	r.head(1, true)
	r.receive()
	r.c.Shutdown()
	r.c.Shutdown()
	if got := r.frames(); !slices.Equal(got, []string{"GOAWAY 2147483647 NO_ERROR", "PING 0"}) {
		t.Fatalf("sent %q", got)
	}
	r.head(3, true)
	r.must(r.WritePing(true, [8]byte{7: byte(pingShutdown)}))
	opens(5, false)(r)
	r.must(r.WriteData(5, true, []byte("x")))
	if err := r.receive(); err != nil {
		t.Fatal(err)
	}
	if got := r.frames(); !slices.Equal(got, []string{"GOAWAY 3 NO_ERROR"}) {
		t.Fatalf("sent %q", got)
	}
	if len(r.streams) != 2 || r.c.Drained() {
		t.Errorf("%d streams were told, drained %v", len(r.streams), r.c.Drained())
	}
	answer(r.streams[1])
	answer(r.streams[3])
	if r.c.Drained() {
		t.Error("drained with answers pending")
	}
	r.frames()
	if !r.c.Drained() {
		t.Error("not drained")
	}
}

// TestIDsAreUsedUp: a client's connection ends when there are no more IDs.
func TestIDsAreUsedUp(t *testing.T) {
	r := newRig(t, false, Settings{}).greet()
	r.c.next = maxStreamID - 2
	if r.c.Room() != 2 {
		t.Errorf("room for %d streams, there are 2 IDs", r.c.Room())
	}
	first, second := r.c.Open(), r.c.Open()
	if r.c.Open() != nil || r.c.Draining() {
		t.Error("a third stream, or none could be opened any more")
	}
	second.WriteHeaders([]Field{{Name: ":method", Value: "GET"}}, true)
	first.WriteHeaders([]Field{{Name: ":method", Value: "GET"}}, true)
	if first.ID != maxStreamID || second.ID != maxStreamID-2 || !r.c.Draining() || r.c.Open() != nil {
		t.Errorf("the streams %d and %d, draining %v", first.ID, second.ID, r.c.Draining())
	}
	if got := r.frames(); !slices.Equal(got, []string{"HEADERS 2147483645 end", "HEADERS 2147483647 end"}) {
		t.Errorf("sent %q", got)
	}
}

// TestPing: the sign of life.
func TestPing(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	if !r.c.Pinged() {
		t.Error("a sign of life is awaited that nobody asked for")
	}
	r.c.Ping()
	r.c.Ping()
	if got := r.frames(); !slices.Equal(got, []string{"PING 0"}) || r.c.Pinged() {
		t.Errorf("sent %q, pinged %v", got, r.c.Pinged())
	}
	r.must(r.WritePing(true, [8]byte{7: 99}))
	r.receive()
	if r.c.Pinged() {
		t.Error("another's PING was taken for ours")
	}
	r.must(r.WritePing(true, [8]byte{7: byte(pingShutdown)}))
	r.receive()
	if got := r.frames(); len(got) != 0 {
		t.Errorf("sent %q for the answer to a PING that nobody sent", got)
	}
	r.must(r.WritePing(true, [8]byte{7: byte(pingLiveness)}))
	r.receive()
	if !r.c.Pinged() {
		t.Error("the answer was not seen")
	}
}

// TestTooLarge: a head that is larger than allowed can be answered, one beyond all measure ends the connection.
func TestTooLarge(t *testing.T) {
	r := newRig(t, true, Settings{MaxHeader: 1000}).greet()
	r.on = func(s *Stream, text string) {
		if s.TooLarge {
			s.WriteHeaders([]Field{{Name: ":status", Value: "431"}}, true)
		}
	}
	for i := range 40 {
		opens(uint32(2*i+1), true, "a: b", fmt.Sprintf("x-%d: %s", i, strings.Repeat("x", 1100)))(r)
		r.must(r.receive())
	}
	if got := r.frames(); len(got) != 40 || got[39] != "HEADERS 79 end" {
		t.Errorf("sent %q", got)
	}
	if last := r.log[39]; last != "headers 79 :method=GET :scheme=http :authority=h :path=/ a=b end" {
		t.Errorf("told %q", last)
	}
	opens(81, true, "x-39: "+strings.Repeat("x", 500))(r) // the table is still the peer's
	r.must(r.receive())
	if last := r.log[40]; last != "headers 81 :method=GET :scheme=http :authority=h :path=/ x-39="+strings.Repeat("x", 500)+" end" {
		t.Errorf("told %q", last)
	}
	r = newRig(t, true, Settings{MaxHeader: 1000}).greet()
	r.must(r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(getFields...)}))
	for i := range 50 {
		r.must(r.WriteContinuation(1, false, r.block(fmt.Sprintf("x-%d: %s", i, strings.Repeat("x", 1000)))))
	}
	if err := r.receive(); err == nil || !strings.HasPrefix(err.Error(), "ENHANCE_YOUR_CALM: a field block of more than 4000") {
		t.Errorf("a long field block: %v", err)
	}
	for _, field := range []string{"x: " + strings.Repeat("~", 2001), strings.Repeat("~", 5000) + ": x"} {
		r := newRig(t, true, Settings{MaxHeader: 1000}).greet()
		opens(1, true, field)(r)
		if err := r.receive(); err == nil || !strings.HasPrefix(err.Error(), "ENHANCE_YOUR_CALM: a field") {
			t.Errorf("a field of %d bytes: %v", len(field), err)
		}
	}
}
