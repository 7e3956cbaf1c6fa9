package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/bench/frame"
)

// h2server is net/http's, by prior knowledge or over TLS.
func h2server(t *testing.T, secure bool, h http.HandlerFunc) (*httptest.Server, *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	if !secure {
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return s, nil
	}
	s.Config.Protocols.SetHTTP2(true)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s, &tls.Config{RootCAs: roots}
}

func TestAttackOverHTTP2(t *testing.T) {
	for _, secure := range []bool{false, true} {
		var served, other atomic.Uint64
		s, config := h2server(t, secure, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if r.ProtoMajor != 2 || r.TLS != nil != secure || string(body) != "hello" || err != nil || r.ContentLength != 5 || r.URL.Path != "/p" || r.Host == "" || r.Header.Get("X-A") != "b" || r.Header.Get("Connection") != "" {
				other.Add(1)
			}
			w.Header().Set("X-Weir-Variant", []string{"blue", "green"}[served.Add(1)%2])
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1000))
		})
		target, err := NewFixed(Request{URL: s.URL + "/p", Users: 10, Seed: 1, Header: []Field{{"X-A", "b"}, {"Connection", "keep-alive"}}}, []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		a := attack(t, Options{
			Address: target.Address(), Target: target, Pacer: Constant(1000), Duration: 200 * time.Millisecond,
			TLS: config, HTTP2: true, Connections: 2, Streams: 4,
		})
		if err := a.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		tally := a.Take()
		total := tally.Total()
		if total.OK != 200 || served.Load() != 200 || other.Load() != 0 || tally.Connections != 2 || len(tally.Sightings) != 200 {
			t.Errorf("TLS %v: ok %d, served %d, %d not as sent, %d connections, %d sightings; want 200, 200, 0, 2, 200 (%v)",
				secure, total.OK, served.Load(), other.Load(), tally.Connections, len(tally.Sightings), total.Failures)
		}
		if blue := tally.Variants["blue"]; blue == nil || blue.Requests != 100 || total.Bytes < 200*1009 {
			t.Errorf("TLS %v: blue %+v, %d bytes", secure, blue, total.Bytes)
		}
	}
}

func TestAttackOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			w.WriteHeader(505)
		}
		w.Header().Set("Connection", "close")
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	run := func(config *tls.Config) (*Tally, error) {
		a := attack(t, Options{Target: fixed(t, s.URL, 0), Pacer: Constant(1000), Duration: 20 * time.Millisecond, TLS: config, Connections: 2})
		err := a.Run(context.Background())
		return a.Take(), err
	}
	tally, err := run(&tls.Config{RootCAs: roots})
	if err != nil || tally.Total().OK != 20 || tally.Connections < 20 {
		t.Errorf("%v, %d answers on %d connections; want 20 on as many", err, tally.Total().OK, tally.Connections)
	}
	if _, err := run(&tls.Config{RootCAs: x509.NewCertPool()}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate from nobody known: %v", err)
	}
	a := attack(t, Options{Target: fixed(t, s.URL, 0), Duration: time.Second, TLS: &tls.Config{RootCAs: roots}, HTTP2: true})
	if err := a.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("a server without h2: %v", err)
	}
}

// Bodies larger than every window, in both directions.
func TestHTTP2LargeBodies(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 100_000)
	s, _ := h2server(t, false, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, large) {
			w.WriteHeader(400)
		}
		_, _ = w.Write(body)
	})
	target, err := NewFixed(Request{URL: s.URL}, large)
	if err != nil {
		t.Fatal(err)
	}
	a := attack(t, Options{Address: target.Address(), Target: target, Pacer: Constant(500), Duration: 40 * time.Millisecond, HTTP2: true, Connections: 1, Streams: 5})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if total := a.Take().Total(); total.OK != 20 || total.Bytes < 20_000_000 {
		t.Errorf("ok %d with %d bytes, %v", total.OK, total.Bytes, total.Failures)
	}
}

// scripted serves one connection after the other: it greets, reads the head of each request, and lets
// answer write.
func scripted(t *testing.T, settings []http2.Setting, answer func(f *http2.Framer, stream uint32)) string {
	t.Helper()
	ln := listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				f := http2.NewFramer(c, c)
				_ = f.WriteSettings(settings...)
				for {
					got, err := f.ReadFrame()
					if err != nil {
						return
					}
					if got, ok := got.(*http2.HeadersFrame); ok {
						answer(f, got.StreamID)
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// block encodes fields without a table, so that scripts need no state.
func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: true})
	}
	return b.Bytes()
}

func headers(f *http2.Framer, stream uint32, end bool, fields ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(fields...), EndHeaders: true, EndStream: end})
}

func TestHTTP2NamesFailures(t *testing.T) {
	ok := func(f *http2.Framer, s uint32) { headers(f, s, false, ":status", "200") }
	for _, tt := range []struct {
		name   string
		answer func(f *http2.Framer, s uint32)
		want   Failure
		status int
	}{
		{"interim head", func(f *http2.Framer, s uint32) {
			headers(f, s, false, ":status", "103")
			headers(f, s, true, ":status", "204")
		}, None, 204},
		{"padding", func(f *http2.Framer, s uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: block(":status", "200", "content-length", "2"), EndHeaders: true, PadLength: 9, Priority: http2.PriorityParam{Weight: 3}})
			_ = f.WriteDataPadded(s, true, []byte("ok"), make([]byte, 20))
		}, None, 200},
		{"continuation", func(f *http2.Framer, s uint32) {
			b := block(":status", "200", "x-long", strings.Repeat("x", 40_000))
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: b[:3], EndStream: true})
			_ = f.WriteContinuation(s, false, b[3:10_000])
			_ = f.WriteContinuation(s, false, b[10_000:20_000])
			_ = f.WriteContinuation(s, true, b[20_000:])
		}, None, 200},
		{"trailers", func(f *http2.Framer, s uint32) { ok(f, s); headers(f, s, true, "x", "y") }, None, 200},
		{"frames between", func(f *http2.Framer, s uint32) {
			_ = f.WritePing(false, [8]byte{1})
			_ = f.WriteWindowUpdate(0, 5)
			_ = f.WriteRawFrame(0xbe, 0, s, []byte("grease"))
			headers(f, s, true, ":status", "200")
		}, None, 200},
		{"reset", func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeInternal) }, Reset, 0},
		{"reset in the body", func(f *http2.Framer, s uint32) { ok(f, s); _ = f.WriteRSTStream(s, http2.ErrCodeCancel) }, Reset, 200},
		{"no status", func(f *http2.Framer, s uint32) { headers(f, s, true, "x", "y") }, Protocol, 0},
		{"bad status", func(f *http2.Framer, s uint32) { headers(f, s, true, ":status", "abc") }, Protocol, 0},
		{"upgrade", func(f *http2.Framer, s uint32) { headers(f, s, true, ":status", "101") }, Protocol, 101},
		{"data before a head", func(f *http2.Framer, s uint32) { _ = f.WriteData(s, true, []byte("x")) }, Protocol, 0},
		{"too short", func(f *http2.Framer, s uint32) {
			headers(f, s, false, ":status", "200", "content-length", "3")
			_ = f.WriteData(s, true, []byte("xx"))
		}, Protocol, 200},
		{"trailers in the middle", func(f *http2.Framer, s uint32) { ok(f, s); headers(f, s, false, "x", "y") }, Protocol, 200},
		{"push", func(f *http2.Framer, s uint32) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: s, PromiseID: 2, EndHeaders: true})
		}, Protocol, 0},
		{"huge frame", func(f *http2.Framer, s uint32) { _ = f.WriteRawFrame(http2.FrameData, 0, s, make([]byte, 16385)) }, Protocol, 0},
		{"bad fields", func(f *http2.Framer, s uint32) {
			_ = f.WriteRawFrame(http2.FrameHeaders, 5, s, []byte{0xff, 0xff, 0xff})
		}, Protocol, 0},
	} {
		c, err := dialH2(t.Context(), &dialer{address: scripted(t, nil, tt.answer)}, time.Now().Add(5*time.Second), 1)
		if err != nil {
			t.Fatal(err)
		}
		s := newStream(c)
		_ = s.SetDeadline(time.Now().Add(5 * time.Second))
		var r Response
		err = s.roundTrip([]byte(getRoot), false, &r)
		if got := exchangeFailure(err); got != tt.want || r.Status != tt.status {
			t.Errorf("%s: %v (%v), status %d; want %v, %d", tt.name, got, err, r.Status, tt.want, tt.status)
		}
		s.Close()
		c.shut()
	}
}

// A request that times out gives its stream up, and the others on the connection go on.
func TestHTTP2TimesOutAlone(t *testing.T) {
	given := make(chan struct{})
	s, _ := h2server(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
			close(given)
		}
	})
	c, err := dialH2(t.Context(), &dialer{address: s.Listener.Addr().String()}, time.Now().Add(5*time.Second), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.shut()
	slow, quick := newStream(c), newStream(c)
	_ = slow.SetDeadline(time.Now().Add(20 * time.Millisecond))
	var r Response
	if err := slow.roundTrip([]byte("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"), false, &r); !errors.Is(err, os.ErrDeadlineExceeded) || exchangeFailure(err) != Timeout {
		t.Errorf("error %v, want a timeout", err)
	}
	slow.Close()
	_ = quick.SetDeadline(time.Now().Add(5 * time.Second))
	if err := quick.roundTrip([]byte(getRoot), false, &r); err != nil || r.Status != 200 || !quick.reusable(&r) {
		t.Errorf("beside it: status %d, %v", r.Status, err)
	}
	<-given
}

// GOAWAY costs no request: those that the server did not take are sent over another connection.
func TestHTTP2GoAwayCostsNothing(t *testing.T) {
	var answered atomic.Uint64
	address := scripted(t, nil, func(f *http2.Framer, s uint32) {
		switch {
		case s < 11:
			headers(f, s, true, ":status", "200")
			answered.Add(1)
		case s == 11:
			_ = f.WriteGoAway(9, http2.ErrCodeNo, nil)
		}
	})
	a := attack(t, Options{Target: fixed(t, "http://"+address, 0), Pacer: Constant(2000), Duration: 50 * time.Millisecond, HTTP2: true, Connections: 1, Streams: 3})
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	tally := a.Take()
	if total := tally.Total(); total.OK != 100 || answered.Load() != 100 || tally.Connections != 20 {
		t.Errorf("ok %d, answered %d, %d connections; want 100, 100, 20 with five requests each (%v)", total.OK, answered.Load(), tally.Connections, total.Failures)
	}
}

func TestHTTP2Refusals(t *testing.T) {
	few := scripted(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 3}}, func(*http2.Framer, uint32) {})
	_, err := dialH2(t.Context(), &dialer{address: few}, time.Now().Add(5*time.Second), 4)
	if err == nil || !strings.Contains(err.Error(), "the server allows 3 streams") {
		t.Errorf("more streams than allowed: %v", err)
	}
	one := httptest.NewServer(http.NotFoundHandler()) // HTTP/1.1 only
	defer one.Close()
	_, err = dialH2(t.Context(), &dialer{address: one.Listener.Addr().String()}, time.Now().Add(5*time.Second), 1)
	if err == nil || !strings.Contains(err.Error(), "HTTP/2: ") {
		t.Errorf("a server of HTTP/1.1: %v", err)
	}
	for _, o := range []Options{{Streams: 2}, {Streams: -1, HTTP2: true}, {Streams: MaxConnections, HTTP2: true, Connections: 2}} {
		if _, err := NewAttack(o); err == nil {
			t.Errorf("NewAttack(%+v) is accepted", o)
		}
	}
}

// Heads that are the same cost no encoding, and mean the same to the server.
func TestFieldEncoderRemembers(t *testing.T) {
	e := newFieldEncoder("http")
	var fields []string
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fields = append(fields, f.Name+"="+f.Value) })
	send := func(head string) string {
		t.Helper()
		b, err := e.encode([]byte(head))
		if err != nil {
			t.Fatal(err)
		}
		fields = nil
		if _, err := dec.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := dec.Close(); err != nil {
			t.Fatal(err)
		}
		return strings.Join(fields, "|")
	}
	a, b := "POST /a HTTP/1.1\r\nX-N: 1\r\nHost: h\r\nTE: trailers", "POST /b HTTP/1.1\r\nHost: h\r\nX-N: "+strings.Repeat("n", 4100)
	wantA := ":method=POST|:scheme=http|:path=/a|:authority=h|x-n=1|te=trailers"
	for i, head := range []string{a, a, a, b, b, a, a, a, b, a} {
		want := wantA
		if head == b {
			want = ":method=POST|:scheme=http|:path=/b|:authority=h|x-n=" + strings.Repeat("n", 4100)
		}
		if got := send(head); got != want {
			t.Errorf("%d: %.200s, want %.200s", i, got, want)
		}
	}
	send(a)
	if !e.settled {
		t.Error("the same head twice is not settled")
	}
	head := []byte(a)
	if n := testing.AllocsPerRun(100, func() { _, _ = e.encode(head) }); n != 0 {
		t.Errorf("%v allocations for a head that is known", n)
	}
	e.limitTable(0)
	for range 3 {
		if got := send(a); got != wantA {
			t.Errorf("without a table: %s", got)
		}
	}
	if _, err := e.encode([]byte("POST /a")); err == nil {
		t.Error("a head without a version is encoded")
	}
}

func TestFramesRefuse(t *testing.T) {
	for name, f := range map[string]frame.Frame{
		"no padding length": {Type: http2.FrameData, Flags: http2.FlagDataPadded},
		"padding":           {Type: http2.FrameData, Flags: http2.FlagDataPadded, Payload: []byte{3, 1, 2}},
		"priority":          {Type: http2.FrameHeaders, Flags: http2.FlagHeadersPriority, Payload: []byte{3, 1, 2}},
	} {
		if _, err := f.Content(); !errors.Is(err, frame.ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := frame.Frame{Type: http2.FrameGoAway, Payload: []byte{1}}
	if _, err := short.Uint32(); err == nil {
		t.Error("a number of one byte")
	}
	if err := short.Settings(nil); err == nil {
		t.Error("a setting of one byte")
	}
	long := frame.AppendHeaders(nil, 1, make([]byte, 40_000), true)
	var got []string
	for len(long) > 0 {
		f, n, err := frame.Next(long)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		if f2, n2, err := frame.Next(long[:n-1]); n2 != 0 || err != nil {
			t.Errorf("half of %v is taken: %v, %v", f.Type, f2, err)
		}
		got = append(got, fmt.Sprint(f.Type, f.Flags, len(f.Payload)))
		long = long[n:]
	}
	if want := "HEADERS 1 16384 CONTINUATION 0 16384 CONTINUATION 4 7232"; strings.Join(got, " ") != want {
		t.Errorf("a long block goes as %v, want %s", got, want)
	}
}
