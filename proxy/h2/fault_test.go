package h2

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// fault is something that a peer does, and what has to come of it: "GOAWAY last code", which is an error of the
// connection, frames on streams, or "" where it is let pass.
type fault struct {
	name string
	do   func(r *rig)
	want string
}

// raw writes any frame.
func raw(kind uint8, flags uint8, id uint32, payload string) func(*rig) {
	return func(r *rig) {
		r.must(r.WriteRawFrame(http2.FrameType(kind), http2.Flags(flags), id, []byte(payload)))
	}
}

// after does one thing after the other; what was written before the last is received, and answered.
func after(steps ...func(*rig)) func(*rig) {
	return func(r *rig) {
		for i, step := range steps {
			if i > 0 {
				if err := r.receive(); err != nil {
					r.t.Fatalf("before the fault: %v", err)
				}
				r.frames()
			}
			step(r)
		}
	}
}

func opens(id uint32, end bool, fields ...string) func(*rig) {
	return func(r *rig) { r.head(id, end, append(slices.Clone(getFields), fields...)...) }
}

func answers(id uint32) func(*rig) { return func(r *rig) { answer(r.streams[id]) } }

func resets(id uint32) func(*rig) { return func(r *rig) { r.streams[id].Reset(Cancel) } }

func data(id uint32, end bool, p string) func(*rig) {
	return func(r *rig) { r.must(r.WriteData(id, end, []byte(p))) }
}

func settings(id http2.SettingID, value uint32) func(*rig) {
	return func(r *rig) { r.must(r.WriteSettings(http2.Setting{ID: id, Val: value})) }
}

func window(id, n uint32) func(*rig) { return func(r *rig) { r.must(r.WriteWindowUpdate(id, n)) } }

var serverFaults = []fault{
	// Framing.
	{"too long a frame", raw(frameData, 0, 1, strings.Repeat("x", 16385)), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"unknown frame", raw(0xfa, 0xff, 7, "whatever"), ""},
	{"padding longer than DATA", after(opens(1, false), raw(frameData, flagPadded, 1, "\x05abcd")), "GOAWAY 1 PROTOCOL_ERROR"},
	{"padded DATA of nothing", after(opens(1, false), raw(frameData, flagPadded, 1, "")), "GOAWAY 1 FRAME_SIZE_ERROR"},
	{"padding longer than HEADERS", raw(frameHeaders, flagPadded|flagEndHeaders, 1, "\x05\x82\x86\x84"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"padded HEADERS of nothing", raw(frameHeaders, flagPadded|flagEndHeaders, 1, ""), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"HEADERS without their priority", raw(frameHeaders, flagPriority|flagEndHeaders, 1, "\x00\x00\x00"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"HEADERS on stream 0", raw(frameHeaders, flagEndHeaders, 0, "\x82"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"DATA on stream 0", raw(frameData, 0, 0, "x"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"RST_STREAM on stream 0", raw(frameReset, 0, 0, "\x00\x00\x00\x08"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"PRIORITY on stream 0", raw(framePriority, 0, 0, "\x00\x00\x00\x01\x08"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"SETTINGS on a stream", raw(frameSettings, 0, 1, ""), "GOAWAY 0 PROTOCOL_ERROR"},
	{"PING on a stream", raw(framePing, 0, 1, "12345678"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"GOAWAY on a stream", raw(frameGoAway, 0, 1, "\x00\x00\x00\x00\x00\x00\x00\x00"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"PING of 7 bytes", raw(framePing, 0, 0, "1234567"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"GOAWAY of 7 bytes", raw(frameGoAway, 0, 0, "1234567"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"RST_STREAM of 3 bytes", after(opens(1, false), raw(frameReset, 0, 1, "123")), "GOAWAY 1 FRAME_SIZE_ERROR"},
	{"WINDOW_UPDATE of 3 bytes", raw(frameWindowUpdate, 0, 0, "123"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"PRIORITY of 4 bytes", after(opens(1, false), raw(framePriority, 0, 1, "1234")), "RST 1 FRAME_SIZE_ERROR"},
	{"PRIORITY of 4 bytes on an idle stream", raw(framePriority, 0, 1, "1234"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"PRIORITY on an idle stream", raw(framePriority, 0, 3, "\x00\x00\x00\x01\x08"), ""},
	{"PRIORITY on itself", after(opens(1, false), raw(framePriority, 0, 1, "\x00\x00\x00\x01\x08")), "RST 1 PROTOCOL_ERROR"},
	{"HEADERS that depend on themselves", raw(frameHeaders, flagPriority|flagEndHeaders, 1, "\x00\x00\x00\x01\x08\x82\x86\x84"), "RST 1 PROTOCOL_ERROR"},
	{"PUSH_PROMISE", raw(framePushPromise, flagEndHeaders, 1, "\x00\x00\x00\x02\x82"), "GOAWAY 0 PROTOCOL_ERROR"},

	// Field blocks.
	{"CONTINUATION of nothing", raw(frameContinuation, flagEndHeaders, 1, "\x82"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"PING inside a field block", after(raw(frameHeaders, 0, 1, "\x82"), raw(framePing, 0, 0, "12345678")), "GOAWAY 0 PROTOCOL_ERROR"},
	{"unknown frame inside a field block", after(raw(frameHeaders, 0, 1, "\x82"), raw(0xfa, 0, 1, "")), "GOAWAY 0 PROTOCOL_ERROR"},
	{"CONTINUATION of another stream", after(raw(frameHeaders, 0, 1, "\x82"), raw(frameContinuation, 4, 3, "")), "GOAWAY 0 PROTOCOL_ERROR"},
	{"CONTINUATION behind END_HEADERS", after(opens(1, true), raw(frameContinuation, 4, 1, "\x82")), "GOAWAY 1 PROTOCOL_ERROR"},
	{"index that is not there", raw(frameHeaders, flagEndHeaders, 1, "\xff\x00"), "GOAWAY 0 COMPRESSION_ERROR"},
	{"cut field block", raw(frameHeaders, flagEndHeaders, 1, "\x82\x40\x05ab"), "GOAWAY 0 COMPRESSION_ERROR"},
	{"table larger than allowed", raw(frameHeaders, flagEndHeaders, 1, "\x3f\xe2\x1f\x82"), "GOAWAY 0 COMPRESSION_ERROR"},
	{"cut field block of a closed stream", after(opens(1, true), answers(1), raw(frameHeaders, flagEndHeaders, 1, "\x40\x05ab")), "GOAWAY 1 COMPRESSION_ERROR"},

	// Streams.
	{"even stream", opens(2, true), "GOAWAY 0 PROTOCOL_ERROR"},
	{"stream behind a later one", after(opens(5, true), opens(3, true)), "GOAWAY 5 PROTOCOL_ERROR"},
	{"DATA on an idle stream", data(1, false, "x"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"DATA on an even stream", data(2, false, "x"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"RST_STREAM on an idle stream", raw(frameReset, 0, 1, "\x00\x00\x00\x08"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"WINDOW_UPDATE on an idle stream", window(1, 1), "GOAWAY 0 PROTOCOL_ERROR"},
	{"DATA behind END_STREAM", after(opens(1, true), data(1, false, "x")), "RST 1 STREAM_CLOSED"},
	{"HEADERS behind END_STREAM", after(opens(1, true), opens(1, true)), "RST 1 STREAM_CLOSED"},
	{"WINDOW_UPDATE behind END_STREAM", after(opens(1, true), window(1, 1)), ""},
	{"DATA on a closed stream", after(opens(1, true), answers(1), data(1, false, "x")), "RST 1 STREAM_CLOSED"},
	{"HEADERS on a closed stream", after(opens(1, true), answers(1), opens(1, true)), "GOAWAY 1 STREAM_CLOSED"},
	{"WINDOW_UPDATE on a closed stream", after(opens(1, true), answers(1), window(1, 1)), ""},
	{"RST_STREAM on a closed stream", after(opens(1, true), answers(1), raw(frameReset, 0, 1, "\x00\x00\x00\x08")), ""},
	{"DATA behind RST_STREAM", after(opens(1, false), raw(frameReset, 0, 1, "\x00\x00\x00\x08"), data(1, false, "x")), "RST 1 STREAM_CLOSED"},
	{"HEADERS behind RST_STREAM", after(opens(1, false), raw(frameReset, 0, 1, "\x00\x00\x00\x08"), opens(1, true)), "RST 1 STREAM_CLOSED"},
	{"DATA on a stream that was reset", after(opens(1, false), resets(1), data(1, true, "x")), ""},
	{"trailers on a stream that was reset", after(opens(1, false), resets(1), opens(1, true)), ""},
	{"WINDOW_UPDATE on a stream that was reset", after(opens(1, false), resets(1), window(1, 1)), ""},
	{"one stream too many", after(opens(1, false), opens(3, false), opens(5, false)), "RST 5 REFUSED_STREAM"},
	{"DATA of a refused stream", after(opens(1, false), opens(3, false), opens(5, false), data(5, true, "x")), ""},
	{"trailers that do not end", after(opens(1, false), opens(1, false)), "RST 1 PROTOCOL_ERROR"},

	// Lengths.
	{"less than content-length", after(opens(1, false, "content-length: 3"), data(1, true, "xx")), "RST 1 PROTOCOL_ERROR"},
	{"more than content-length", after(opens(1, false, "content-length: 3"), data(1, false, "xx"), data(1, false, "xx")), "RST 1 PROTOCOL_ERROR"},
	{"content-length without DATA", opens(1, true, "content-length: 3"), "RST 1 PROTOCOL_ERROR"},
	{"content-length and trailers", after(opens(1, false, "content-length: 3"), data(1, false, "xx"), func(r *rig) { r.head(1, true, "a: b") }), "RST 1 PROTOCOL_ERROR"},
	{"content-length that is none", opens(1, false, "content-length: +3"), "RST 1 PROTOCOL_ERROR"},

	// Settings and windows.
	{"SETTINGS of 5 bytes", raw(frameSettings, 0, 0, "12345"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"acknowledgement of 6 bytes", raw(frameSettings, flagAck, 0, "123456"), "GOAWAY 0 FRAME_SIZE_ERROR"},
	{"ENABLE_PUSH 2", settings(http2.SettingEnablePush, 2), "GOAWAY 0 PROTOCOL_ERROR"},
	{"INITIAL_WINDOW_SIZE 2^31", settings(http2.SettingInitialWindowSize, 1<<31), "GOAWAY 0 FLOW_CONTROL_ERROR"},
	{"MAX_FRAME_SIZE 16383", settings(http2.SettingMaxFrameSize, 16383), "GOAWAY 0 PROTOCOL_ERROR"},
	{"MAX_FRAME_SIZE 2^24", settings(http2.SettingMaxFrameSize, 1<<24), "GOAWAY 0 PROTOCOL_ERROR"},
	{"unknown setting", settings(0xfafa, 1<<31), "SETTINGS 0 end"}, // ACK and END_STREAM are the same bit
	{"INITIAL_WINDOW_SIZE too large for a stream", after(opens(1, false), window(1, 1<<30), settings(http2.SettingInitialWindowSize, 1<<31-1)), "GOAWAY 1 FLOW_CONTROL_ERROR"},
	{"WINDOW_UPDATE 0", window(0, 0), "GOAWAY 0 PROTOCOL_ERROR"},
	{"WINDOW_UPDATE 0 of a stream", after(opens(1, false), window(1, 0)), "RST 1 PROTOCOL_ERROR"},
	{"WINDOW_UPDATE too large", window(0, 1<<31-1), "GOAWAY 0 FLOW_CONTROL_ERROR"},
	{"WINDOW_UPDATE too large for a stream", after(opens(1, false), window(1, 1<<31-1)), "RST 1 FLOW_CONTROL_ERROR"},
	{"DATA beyond a stream's window", after(opens(1, false), func(r *rig) {
		r.consume = false
		for range 3 {
			r.must(r.WriteData(1, false, make([]byte, 16384)))
		}
	}), "RST 1 FLOW_CONTROL_ERROR, WINDOW_UPDATE 0 32768"},
	{"DATA beyond the connection's window", after(opens(1, false), opens(3, false), func(r *rig) {
		r.consume = false
		for i := range 5 {
			r.must(r.WriteData(uint32(i%2*2+1), false, make([]byte, 13200)))
		}
	}), "GOAWAY 3 FLOW_CONTROL_ERROR"},
}

var clientFaults = []fault{
	{"stream that nobody opened", func(r *rig) { r.head(3, true, ":status: 200") }, "GOAWAY 0 PROTOCOL_ERROR"},
	{"stream of the server's", func(r *rig) { r.head(2, true, ":status: 200") }, "GOAWAY 0 PROTOCOL_ERROR"},
	{"PUSH_PROMISE", raw(framePushPromise, flagEndHeaders, 1, "\x00\x00\x00\x02\x82"), "GOAWAY 0 PROTOCOL_ERROR"},
	{"ENABLE_PUSH 1", settings(http2.SettingEnablePush, 1), "GOAWAY 0 PROTOCOL_ERROR"},
	{"DATA before a head", data(1, true, "x"), "RST 1 PROTOCOL_ERROR"},
	{"DATA behind an interim head", after(func(r *rig) { r.head(1, false, ":status: 100") }, data(1, true, "x")), "RST 1 PROTOCOL_ERROR"},
	{"interim head that ends", func(r *rig) { r.head(1, true, ":status: 103") }, "RST 1 PROTOCOL_ERROR"},
	{"no status", func(r *rig) { r.head(1, true, "a: b") }, "RST 1 PROTOCOL_ERROR"},
	{"status of 2 digits", func(r *rig) { r.head(1, true, ":status: 20") }, "RST 1 PROTOCOL_ERROR"},
	{"DATA of 204", after(func(r *rig) { r.head(1, false, ":status: 204") }, data(1, true, "x")), "RST 1 PROTOCOL_ERROR"},
	{"304 with content-length", func(r *rig) { r.head(1, true, ":status: 304", "content-length: 5") }, ""},
	{"short answer", after(func(r *rig) { r.head(1, false, ":status: 200", "content-length: 5") }, data(1, true, "x")), "RST 1 PROTOCOL_ERROR"},
	{"answer to HEAD with content-length", func(r *rig) { r.head(3, true, ":status: 200", "content-length: 5") }, ""},
	{"head that is too large", func(r *rig) { r.head(1, true, ":status: 200", "a: "+strings.Repeat("x", 17000)) }, "RST 1 PROTOCOL_ERROR"},
}

func (f *fault) check(t *testing.T, r *rig) {
	t.Helper()
	f.do(r)
	err := r.receive()
	got := strings.Join(r.frames(), ", ")
	if got != f.want {
		t.Errorf("%s: sent %q (%v), want %q", f.name, got, err, f.want)
	}
	var e *Error
	switch broken := strings.Contains(f.want, "GOAWAY"); {
	case broken != errors.As(err, &e):
		t.Errorf("%s: Receive returns %v", f.name, err)
	case broken && (!strings.HasSuffix(f.want, e.Code.String()) || e.Reason == "" || r.c.Streams() != 0 || !r.c.Drained()):
		t.Errorf("%s: %+v, %d streams left, drained %v", f.name, e, r.c.Streams(), r.c.Drained())
	}
	if broken := r.receive(); (broken != nil) != (err != nil) {
		t.Errorf("%s: Receive returns %v, then %v", f.name, err, broken)
	}
}

func TestServerFaults(t *testing.T) {
	for _, f := range serverFaults {
		f.check(t, newRig(t, true, Settings{MaxStreams: 2, Window: 40000}).greet())
	}
	f := fault{"no preface", func(r *rig) { r.in.Reset(); r.in.WriteString("GET / HTTP/1.1\r\n\r\n") }, "SETTINGS 0, GOAWAY 0 PROTOCOL_ERROR"}
	f.check(t, newRig(t, true, Settings{}))
	for _, first := range []func(*rig){raw(framePing, 0, 0, "12345678"), raw(frameSettings, flagAck, 0, ""), opens(1, true)} {
		f := fault{"no SETTINGS", first, "SETTINGS 0, GOAWAY 0 PROTOCOL_ERROR"}
		f.check(t, newRig(t, true, Settings{}))
	}
}

func TestClientFaults(t *testing.T) {
	for _, f := range clientFaults {
		r := newRig(t, false, Settings{}).greet()
		for _, method := range []string{"GET", "HEAD"} {
			r.c.Open().WriteHeaders([]Field{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}}, true)
		}
		if f.want == "GOAWAY 0 PROTOCOL_ERROR" && strings.HasPrefix(f.name, "stream that") {
			r = newRig(t, false, Settings{}).greet()
		}
		r.frames()
		f.check(t, r)
	}
}

// TestFaultsAreTold: the owner learns of what was wrong with a stream, and its connection goes on.
func TestFaultsAreTold(t *testing.T) {
	r := newRig(t, true, Settings{}).greet()
	opens(1, false, "content-length: 3")(r)
	data(1, true, "x")(r)
	opens(3, true)(r)
	if err := r.receive(); err != nil {
		t.Fatal(err)
	}
	want := []string{"headers 1 :method=GET :scheme=http :authority=h :path=/ content-length=3", "data", "closed 1 PROTOCOL_ERROR", "headers 3 :method=GET :scheme=http :authority=h :path=/ end"}
	want = slices.Delete(want, 1, 2)
	if !slices.Equal(r.log, want) {
		t.Errorf("told %q, want %q", r.log, want)
	}
	if f := r.streams[1].Fault; f != "content-length is 3, but 1 bytes came" {
		t.Errorf("the fault is %q", f)
	}
}
