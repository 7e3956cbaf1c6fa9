package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestEdgeH2SlowHeads: what a client has begun to send and does not end has the time of a head, whatever else is under
// way on its connection, and however many bytes of it come in between.
func TestEdgeH2SlowHeads(t *testing.T) {
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) { <-q.Context().Done() })
	part := func(f *frames, flags http2.Flags) []byte {
		var b bytes.Buffer
		block := f.encode(plain("GET", "/slow"))
		_ = http2.NewFramer(&b, nil).WriteRawFrame(http2.FrameHeaders, flags|http2.FlagHeadersEndStream, f.next, block)
		return b.Bytes()
	}
	for name, send := range map[string]func(f *frames) (more func()){
		"a part of a frame's header": func(f *frames) func() { f.raw(part(f, http2.FlagHeadersEndHeaders)[:4]); return nil },
		"a part of HEADERS":          func(f *frames) func() { f.raw(part(f, http2.FlagHeadersEndHeaders)[:12]); return nil },
		"HEADERS without an end":     func(f *frames) func() { f.raw(part(f, 0)); return nil },
		"CONTINUATION without an end": func(f *frames) func() {
			f.raw(part(f, 0))
			return func() { f.try(f.fr.WriteContinuation(f.next, false, f.encode(fields("x-more", "1")))) }
		},
		"HEADERS byte by byte": func(f *frames) func() {
			b := part(f, http2.FlagHeadersEndHeaders)
			f.raw(b[:9])
			b = b[9 : len(b)-1]
			return func() {
				if len(b) > 0 {
					f.raw(b[:1])
					b = b[1:]
				}
			}
		},
		"a part of a PING": func(f *frames) func() { f.raw([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2}); return nil },
	} {
		for _, busy := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "", true: " beside a request"}[busy], func(t *testing.T) {
				t.Parallel()
				r := start(t, setup{endpoints: []string{addr}, listener: "timeouts: {header: 500ms, keep_alive: 5m}"})
				f := r.frames(t)
				f.until("SETTINGS", func() bool { return f.acks > 0 && len(f.saw) > 0 }) // nothing is sent in between
				if busy {
					f.open(plain("GET", "/waits"), true)
				}
				stop, ended := make(chan struct{}), make(chan struct{})
				more := send(f)
				go func() {
					defer close(ended)
					for more != nil {
						select {
						case <-stop:
							return
						case <-time.After(50 * time.Millisecond):
							more()
						}
					}
				}()
				if code := f.end(); code != http2.ErrCodeEnhanceYourCalm || !strings.Contains(string(f.away.DebugData()), "took longer") {
					t.Errorf("GOAWAY with %v %q, want ENHANCE_YOUR_CALM", code, f.away.DebugData())
				}
				close(stop)
				<-ended
				values := r.metrics(t)
				if n := sum(values, "weir_bad_requests_total", `reason="timeout"`); n != 1 {
					t.Errorf("%v bad requests for their time", n)
				}
				if n := sum(values, "weir_http2_connection_errors_total", `code="ENHANCE_YOUR_CALM"`); n != 1 {
					t.Errorf("%v faults", n)
				}
				eventually(t, "the end of all", func() bool {
					values := r.metrics(t)
					return sum(values, "weir_http2_connections") == 0 && sum(values, "weir_http2_streams") == 0
				})
			})
		}
	}
	t.Run("no SETTINGS", func(t *testing.T) {
		t.Parallel()
		r := start(t, setup{endpoints: []string{addr}, listener: "timeouts: {header: 500ms, keep_alive: 5m}"})
		c := r.dial(t)
		c.send(http2.ClientPreface)
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Error(err)
		}
	})
}

// raw sends bytes as they are.
func (f *frames) raw(b []byte) {
	_, err := f.Write(b)
	f.try(err)
}

// TestEdgeH2SlowHeadsInTime: heads that come in pieces are served, and a connection may rest between them for longer than a
// head may take.
func TestEdgeH2SlowHeadsInTime(t *testing.T) {
	t.Parallel()
	const most = 5 * time.Second
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: fmt.Sprintf("timeouts: {header: %s, keep_alive: 5m}", most)})
	f := r.frames(t)
	for i := range 3 {
		if i == 2 {
			time.Sleep(most + time.Second)
		}
		id := f.next
		f.next += 2
		block := f.encode(plain("GET", "/in/pieces"))
		f.try(f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1], EndStream: true}))
		for i := 1; i < len(block); i++ {
			time.Sleep(10 * time.Millisecond)
			f.try(f.fr.WriteContinuation(id, i == len(block)-1, block[i:i+1]))
		}
		if p := f.answer(id); p.status() != "200" {
			t.Fatalf("%+v", p)
		}
	}
}

// TestEdgeH2SlowBodies: a body that does not go on ends its request, after timeouts.body, and no other.
func TestEdgeH2SlowBodies(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {body: 500ms, header: 5m, keep_alive: 5m}"})
	for name, send := range map[string]func(f *frames, id uint32){
		"no DATA":             func(f *frames, id uint32) {},
		"DATA without an end": func(f *frames, id uint32) { f.data(id, "some", false) },
		"a part of DATA":      func(f *frames, id uint32) { f.raw([]byte{0, 0, 100, 0, 0, 0, 0, 0, byte(id), 'x'}) },
	} {
		t.Run(name, func(t *testing.T) {
			f := r.frames(t)
			f.until("SETTINGS", func() bool { return f.acks > 0 && len(f.saw) > 0 }) // nothing is sent in between
			id := f.open(plain("POST", "/", "content-length", "100000"), false)
			send(f, id)
			p := f.answer(id)
			if p.status() != "408" {
				t.Errorf("status %q, reset %v %v", p.status(), p.reset, p.code)
			}
			if name == "a part of DATA" { // the rest of it nobody wants any more
				f.raw(make([]byte, 99))
			}
			f.works()
		})
	}
}

// TestEdgeH2ShutWindows: a client that leaves a window shut loses the answer that waits for it, after timeouts.body; one
// that shuts that of the connection, all that wait. The connection is as good as before.
func TestEdgeH2ShutWindows(t *testing.T) {
	var under atomic.Int64
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		_, _ = io.WriteString(w, strings.Repeat("x", 200_000))
	})
	for name, c := range map[string]struct {
		initial uint32
		open    func(f *frames, ids []uint32)
	}{
		"of the streams": {initial: 0, open: func(f *frames, ids []uint32) {
			f.try(f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}))
			f.try(f.fr.WriteWindowUpdate(0, 1<<20))
		}},
		"of the connection": {initial: 1 << 20, open: func(f *frames, ids []uint32) { f.try(f.fr.WriteWindowUpdate(0, 1<<20)) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{endpoints: []string{addr}, listener: "timeouts: {body: 500ms}"})
			f := r.frames(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.initial})
			ids := []uint32{f.open(plain("GET", "/"), true), f.open(plain("GET", "/"), true), f.open(plain("GET", "/"), true)}
			got := 0
			for _, id := range ids {
				if p := f.answer(id); !p.reset || p.whole || p.code != http2.ErrCodeCancel {
					t.Errorf("stream %d: reset %v %v", id, p.reset, p.code)
				}
				got += len(f.begun[id].body)
			}
			if want := min(int(c.initial), 65535); got != want {
				t.Errorf("%d bytes came, the windows had room for %d", got, want)
			}
			eventually(t, "the end of all requests", func() bool { return under.Load() == 0 && sum(r.metrics(t), "weir_http2_streams") == 0 })
			c.open(f, ids)
			if p := f.answer(f.open(plain("GET", "/"), true)); p.status() != "200" || !p.whole || len(p.body) != 200_000 {
				t.Errorf("with open windows: %q, %d bytes", p.status(), len(p.body))
			}
		})
	}
}

// TestEdgeH2UnreadUploads: uploads that wait for their turn, as many as a client may have under way, hold up no other
// request of its connection; and they go on once they are read.
func TestEdgeH2UnreadUploads(t *testing.T) {
	const waiting, size = 90, 300_000
	release := make(chan struct{})
	var whole atomic.Int64
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/waits" {
			<-release
		}
		if n, _ := io.Copy(io.Discard, q.Body); n == size {
			whole.Add(1)
		}
	})
	r := start(t, setup{
		endpoints: []string{addr}, listener: "timeouts: {body: 1m}", pool: "connections: {connect_timeout: 10s}",
		route: "concurrency: {key: \"header:X-Kind\", max: 1, queue: {size: 200, timeout: 1m}}\ntimeouts: {attempt: 1m}",
	})
	c := h2Client(t)
	post := func(path string) error {
		q := requestTo(t, r, "POST", path, strings.NewReader(strings.Repeat("x", size)))
		q.Header.Set("X-Kind", path)
		a, err := c.Do(q)
		if err != nil {
			return err
		}
		defer a.Body.Close()
		if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != 200 {
			return fmt.Errorf("%s %q, %v", a.Status, body, err)
		}
		return nil
	}
	errs := make(chan error)
	for range waiting {
		go func() { errs <- post("/waits") }()
	}
	eventually(t, "the uploads", func() bool { return sum(r.metrics(t), "weir_http2_streams") == waiting })
	quick := make(chan error)
	go func() { quick <- post("/quick") }()
	select {
	case err := <-quick:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * patience):
		t.Error("an upload waits for those that wait for their turn")
	}
	close(release)
	for range waiting {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := whole.Load(); n != waiting+1 {
		t.Errorf("%d uploads were whole", n)
	}
	if n := sum(r.metrics(t), "weir_http2_connections"); n != 1 {
		t.Errorf("%v connections", n)
	}
}
