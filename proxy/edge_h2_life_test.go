package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"weir/proxy"
)

func TestEdgeH2ExpectContinue(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	f := r.frames(t)
	id := f.open(plain("POST", "/", "expect", "100-continue", "content-length", "4"), false)
	f.until("100", func() bool { return f.begun[id] != nil && len(f.begun[id].heads) > 0 })
	if s := f.begun[id].value(":status"); s != "100" {
		t.Fatalf("status %s", s)
	}
	f.data(id, "body", true)
	if p := f.answer(id); p.status() != "200" || string(ep.last(t).body) != "body" {
		t.Errorf("%+v", p)
	}
}

func TestEdgeH2EarlyAnswers(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.head(); m != nil; m = s.head() {
			if m.target() == "/early" {
				s.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				return
			}
			if s.rest(m, nil) == nil {
				return
			}
			s.send(okResponse)
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "limits: {body: 1MiB}"})
	f := r.frames(t)
	for path, want := range map[string]string{"/early": "403", "/large": "413"} {
		list := plain("POST", path)
		if want == "413" {
			list = plain("POST", path, "content-length", "2000000")
		}
		id := f.open(list, false)
		f.data(id, "some", false)
		p := f.answer(id)
		if p.status() != want || !p.whole {
			t.Errorf("%s: %+v", path, p)
		}
		f.until("RST_STREAM", func() bool { return f.begun[id].reset })
		if code := f.begun[id].code; code != http2.ErrCodeNo {
			t.Errorf("%s: reset with %v, want NO_ERROR", path, code)
		}
		f.works()
	}
}

func TestEdgeH2GoneClients(t *testing.T) {
	var under atomic.Int64
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		under.Add(1)
		defer under.Add(-1)
		_, _ = io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	})
	r := start(t, setup{endpoints: []string{addr}})
	f := r.frames(t)
	upload := f.open(plain("POST", "/"), false)
	f.data(upload, "some", false)
	waits := f.open(plain("GET", "/"), true)
	eventually(t, "both requests", func() bool { return under.Load() == 2 })
	f.try(f.fr.WriteRSTStream(upload, http2.ErrCodeCancel))
	f.try(f.fr.WriteRSTStream(waits, http2.ErrCodeCancel))
	eventually(t, "the end of both", func() bool { return under.Load() == 0 })
	for range 3 {
		f.open(plain("GET", "/"), true)
	}
	eventually(t, "three more", func() bool { return under.Load() == 3 })
	f.Close()
	eventually(t, "their end", func() bool { return under.Load() == 0 })
	eventually(t, "499 for all", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 5 })
	if n := sum(r.metrics(t), "weir_http2_resets_total", `by="client"`); n != 5 {
		t.Errorf("%v streams counted as reset by clients", n)
	}
	eventually(t, "the end of the connection", func() bool {
		return sum(r.metrics(t), "weir_http2_connections") == 0 && sum(r.metrics(t), "weir_http2_streams") == 0 && proxy.Leftovers(r.Proxy) == nil
	})
}

func TestEdgeH2SlowReader(t *testing.T) {
	const size = 64 << 20
	var written atomic.Int64
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/large" {
			_, _ = io.WriteString(w, "ok")
			return
		}
		piece := make([]byte, 64<<10)
		for range size / len(piece) {
			n, err := w.Write(piece)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	r := start(t, setup{endpoints: []string{addr}, listener: "timeouts: {body: 1s}"})
	f := r.frames(t)
	id := f.open(plain("GET", "/large"), true)
	f.until("the first window", func() bool { p := f.begun[id]; return p != nil && len(p.body) == 65535 })
	// The connection's window is used up as well; it is opened, and the stream's is not.
	f.try(f.fr.WriteWindowUpdate(0, 1<<20))
	f.works()
	if p := f.answer(id); !p.reset || p.code != http2.ErrCodeCancel || len(p.body) != 65535 {
		t.Errorf("the stream of a client that does not read: reset %v %v after %d bytes", p.reset, p.code, len(p.body))
	}
	if n := written.Load(); n > size/2 {
		t.Errorf("weir took %d bytes for a client that reads none", n)
	}
	f.works()
}

func TestEdgeH2IdleConnectionsEnd(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "timeouts: {keep_alive: 300ms}"})
	f := r.frames(t)
	f.works()
	if code := f.end(); code != http2.ErrCodeNo {
		t.Errorf("GOAWAY with %v", code)
	}
}

func TestEdgeH2StreamLimit(t *testing.T) {
	release := make(chan struct{})
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) { <-release })
	r := start(t, setup{endpoints: []string{addr}, listener: "limits: {streams: 2}"})
	f := r.frames(t)
	first, second := f.open(plain("GET", "/"), true), f.open(plain("GET", "/"), true)
	if p := f.answer(f.open(plain("GET", "/"), true)); !p.reset || p.code != http2.ErrCodeRefusedStream {
		t.Errorf("the third stream: %+v", p)
	}
	if n := sum(r.metrics(t), "weir_http2_refused_total"); n != 1 {
		t.Errorf("%v streams count as refused", n)
	}
	if n := f.saw[http2.SettingMaxConcurrentStreams]; n != 2 {
		t.Errorf("SETTINGS_MAX_CONCURRENT_STREAMS is %d", n)
	}
	close(release)
	for _, id := range []uint32{first, second} {
		if p := f.answer(id); p.status() != "200" {
			t.Errorf("%+v", p)
		}
	}
	f.works()
}

func TestEdgeH2Protocols(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	both := start(t, setup{endpoints: []string{ep.addr}})
	t.Run("in pieces", func(t *testing.T) {
		c := both.dial(t)
		for _, b := range http2.ClientPreface {
			c.send(string(b))
		}
		fr := http2.NewFramer(c, c.br)
		if err := fr.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		if g, err := fr.ReadFrame(); err != nil || g.Header().Type != http2.FrameSettings {
			t.Errorf("%v, %v", g, err)
		}
	})
	t.Run("HTTP/1.1 in pieces", func(t *testing.T) {
		c := both.dial(t)
		for _, b := range "PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n" {
			c.send(string(b))
		}
		if m := c.answer("PROPFIND"); m.status() != 200 {
			t.Errorf("%s", m.start)
		}
	})
	t.Run("behind a request of HTTP/1.1", func(t *testing.T) {
		c := both.dial(t)
		c.get("/")
		c.send(http2.ClientPreface)
		c.refused(c.answer("GET"), 400, 505)
		c.closed()
	})
	t.Run("upgrade", func(t *testing.T) {
		c := both.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")
		if m := c.answer("GET"); m.status() != 200 || !strings.HasPrefix(m.start, "HTTP/1.1 ") {
			t.Errorf("%s", m.start)
		}
	})
	t.Run("only http2", func(t *testing.T) {
		r := start(t, setup{endpoints: []string{ep.addr}, listener: "protocols: [http2]"})
		r.frames(t).works()
		c := r.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		c.refused(c.answer("GET"), 505)
		c.closed()
	})
	t.Run("only http1", func(t *testing.T) {
		r := start(t, setup{endpoints: []string{ep.addr}, listener: "protocols: [http1]"})
		c := r.dial(t)
		c.send(http2.ClientPreface)
		c.refused(c.answer("GET"), 400, 505)
		c.closed()
	})
}

func TestEdgeH2AccessLog(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	var log lockedBuffer
	r := start(t, setup{endpoints: []string{ep.addr}, log: &log})
	r.frames(t).works()
	r.dial(t).get("/old")
	eventually(t, "two lines", func() bool { return strings.Count(log.String(), "\n") == 2 })
	if s := log.String(); !strings.Contains(s, `"protocol":"HTTP/2","method":"GET","host":"h","path":"/works"`) || !strings.Contains(s, `"protocol":"HTTP/1.1","method":"GET","host":"h","path":"/old"`) {
		t.Error(s)
	}
}

// h2Load makes requests over several connections until stop, which returns why some failed; more waits for n more
// that succeed.
func h2Load(t testing.TB, r *running) (more func(int64), stop func() error) {
	var wg sync.WaitGroup
	var n atomic.Int64
	var mu sync.Mutex
	var errs []error
	over := make(chan struct{})
	for i := range 4 {
		c := h2Client(t)
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-over:
						return
					default:
					}
					q, _ := http.NewRequest("POST", "http://"+r.addr+"/", strings.NewReader("hello"))
					a, err := c.Do(q)
					var body []byte
					if err == nil {
						body, err = io.ReadAll(a.Body)
						a.Body.Close()
					}
					if err == nil && (a.StatusCode != 200 || string(body) != "ok") {
						err = fmt.Errorf("client %d: %s %q", i, a.Status, body)
					}
					if err != nil {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
						return
					}
					n.Add(1)
				}
			})
		}
	}
	failed := func() error {
		mu.Lock()
		defer mu.Unlock()
		return errors.Join(errs...)
	}
	more = func(some int64) {
		from := n.Load()
		eventually(t, "more requests", func() bool { return n.Load() >= from+some || failed() != nil })
	}
	return more, func() error {
		close(over)
		wg.Wait()
		return failed()
	}
}

func TestEdgeH2ReloadsUnderLoad(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	more, stop := h2Load(t, r)
	for i := range 30 {
		cfg := parse(t, r.yaml)
		cfg.Listeners[0].Limits.Streams = 100 + i
		if _, _, err := r.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		more(50)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Requests that run when weir begins to stop are answered, and so are those that are on their way: their clients learn
// by GOAWAY to open no more.
func TestEdgeH2StopsInOrder(t *testing.T) {
	release := make(chan struct{})
	var under atomic.Int64
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		under.Add(1)
		<-release
		_, _ = io.WriteString(w, "ok")
	})
	r := start(t, setup{endpoints: []string{addr}})
	idle, busy := r.frames(t), r.frames(t)
	idle.until("SETTINGS", func() bool { return len(idle.saw) > 0 })
	ids := []uint32{busy.open(plain("GET", "/"), true), busy.open(plain("GET", "/"), true)}
	eventually(t, "the requests", func() bool { return under.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- r.Shutdown(context.Background()) }()
	busy.until("GOAWAY", func() bool { return busy.away != nil })
	if busy.away.LastStreamID != 1<<31-1 || busy.code != http2.ErrCodeNo {
		t.Errorf("the first GOAWAY: %v", busy.away)
	}
	ids = append(ids, busy.open(plain("GET", "/"), true)) // it was on its way
	eventually(t, "one more request", func() bool { return under.Load() == 3 })
	close(release)
	for _, id := range ids {
		if p := busy.answer(id); p.status() != "200" || !p.whole {
			t.Errorf("stream %d: %+v", id, p)
		}
	}
	for _, f := range []*frames{busy, idle} {
		if code := f.end(); code != http2.ErrCodeNo {
			t.Errorf("GOAWAY with %v", code)
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// The second weir takes the address over while clients of HTTP/2 are served: none of their requests fails.
func TestEdgeH2HandOverUnderLoad(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	first := start(t, setup{endpoints: []string{ep.addr}})
	more, stop := h2Load(t, first)
	more(50)
	files, err := first.ListenerFiles()
	if err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, first.yaml)
	sockets, err := proxy.OpenSockets(cfg.Listeners, files)
	if err != nil {
		t.Fatal(err)
	}
	second := proxy.New(proxy.Options{Version: "second"})
	if err := second.Use(cfg.Listeners, sockets); err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- second.Serve(context.Background()) }()
	first.StopAccepting([]string{"127.0.0.1:0"})
	if err := first.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	more(200)
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, f := range files {
		_ = f.Close()
	}
	if err := second.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	<-served
}

func TestEdgeH2Curl(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	for _, args := range [][]string{{"--http2-prior-knowledge"}, {"--http2-prior-knowledge", "--data", "body"}, {"--http2-prior-knowledge", "--head"}} {
		out, err := exec.Command("curl", append([]string{"-sS", "-o", "/dev/null", "-w", "%{http_version} %{response_code}", "http://" + r.addr + "/curl"}, args...)...).CombinedOutput()
		if err != nil || string(out) != "2 200" {
			t.Errorf("curl %v: %s, %v", args, out, err)
		}
	}
	if out, err := exec.Command("curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{response_code}", "http://"+r.addr+"/curl").CombinedOutput(); err != nil || string(out) != "1.1 200" {
		t.Errorf("curl --http2: %s, %v", out, err)
	}
}

func TestEdgeH2Load(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	k := newKeeper(t)
	for scheme, r := range map[string]*running{"http": start(t, setup{endpoints: []string{ep.addr}}), "https": secured(t, k, "", setup{endpoints: []string{ep.addr}})} {
		out, err := exec.Command("h2load", "-n", "5000", "-c", "5", "-m", "20", scheme+"://"+r.addr+"/").CombinedOutput()
		if err != nil || !regexp.MustCompile(`requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout`).Match(out) {
			t.Errorf("h2load: %v\n%s", err, out)
		}
		if n := sum(r.metrics(t), "weir_http2_streams_total"); n != 5000 {
			t.Errorf("%v streams", n)
		}
	}
}
