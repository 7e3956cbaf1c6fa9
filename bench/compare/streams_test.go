package compare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench"
	"weir/bench/frame"
)

// following are streams over one connection, whose other end it returns.
func following(t *testing.T, h2 bool) (*streams, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	c := newStreamConn(near, h2)
	if h2 {
		c.h2.out = nil
	}
	return &streams{began: time.Now(), tally: bench.NewTally(0), conns: []*streamConn{c}}, far
}

func stamp() string { return fmt.Sprintf("%019d", time.Now().UnixNano()) }

// A proxy may frame events as it likes.
func TestStreamsCountEventsHoweverTheyAreFramed(t *testing.T) {
	text := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for range 20 {
		text += "1f\r\ndata: " + stamp() + " xxxx\n\n\r\n"
	}
	for _, piece := range []int{1, 7, 100, len(text)} {
		s, far := following(t, false)
		go func() {
			for rest := text; len(rest) > 0; {
				n := min(piece, len(rest))
				_, _ = io.WriteString(far, rest[:n])
				rest = rest[n:]
			}
			far.Close()
		}()
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "a stream ended") {
			t.Errorf("in pieces of %d: %v; want that it ended", piece, err)
		}
		if total := s.Take().Total(); total.OK != 20 || total.Requests != 20 {
			t.Errorf("in pieces of %d: %d of %d events, want 20", piece, total.OK, total.Requests)
		}
	}
}

func TestStreamsCountMessagesHoweverTheyAreFramed(t *testing.T) {
	var messages []byte
	for range 20 {
		messages = append(messages, "\x00\x00\x00\x00\x1d"+stamp()+"0123456789"...)
	}
	for _, piece := range []int{1, 7, 34, 100, len(messages)} {
		s, far := following(t, true)
		go func() {
			f := http2.NewFramer(far, strings.NewReader(""))
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
			for rest := messages; len(rest) > 0; {
				n := min(piece, len(rest))
				_ = f.WriteDataPadded(1, false, rest[:n], make([]byte, 3))
				rest = rest[n:]
			}
			far.Close()
		}()
		if err := s.Run(t.Context()); err == nil {
			t.Errorf("in pieces of %d: its end is none", piece)
		}
		if total := s.Take().Total(); total.OK != 20 || total.Requests != 20 {
			t.Errorf("in pieces of %d: %d of %d messages, want 20", piece, total.OK, total.Requests)
		}
	}
}

func TestStreamsThatAreNone(t *testing.T) {
	status := func(text string) string {
		var b bytes.Buffer
		_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: text})
		return string(frame.AppendHeaders(nil, 1, b.Bytes(), false))
	}
	for _, tt := range []struct {
		name, sent string
		h2         bool
		said       string
	}{
		{"a status", "HTTP/1.1 503 Service Unavailable\r\n\r\n", false, "503"},
		{"an endless event", "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("\n", streamBuffer) + strings.Repeat("x", 2*streamBuffer), false, ""},
		{"a status of HTTP/2", status("502"), true, `status "502"`},
		{"its end", status("200") + string(frame.Append(nil, http2.FrameData, http2.FlagDataEndStream, 1, nil)), true, "it ended"},
		{"a reset", string(frame.AppendNumber(nil, http2.FrameRSTStream, 1, 0)), true, "RST_STREAM"},
		{"no frame", "\xff\xff\xff\x00\x00\x00\x00\x00\x00", true, "not valid HTTP/2"},
	} {
		s, far := following(t, tt.h2)
		go func() { _, _ = io.WriteString(far, tt.sent); far.Close() }()
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.said) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.said)
		}
	}
}

func TestStreamsEndWithTheirContext(t *testing.T) {
	s, _ := following(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestAskOverHTTP2(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); r.URL.Path != "/predict" || r.Method != http.MethodPost || string(body) != "idle" {
			t.Errorf("asked %s %s %q", r.Method, r.URL, body)
		}
		w.WriteHeader(status)
		_, _ = w.Write(make([]byte, 100_000))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	ask := func() error {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		if err := askOverHTTP2(c, &Workload{HTTP2: true}, "x"); err != nil {
			return err
		}
		return idle{c}.check() // nothing more comes
	}
	if err := ask(); err != nil {
		t.Error(err)
	}
	status = http.StatusBadGateway
	if err := ask(); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("error %v, want the status 502", err)
	}
}
