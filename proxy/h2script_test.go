package proxy_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"weir/backend/backendtest"
)

// framed is one connection to an endpoint that speaks HTTP/2 frame by frame, as a test's script says.
type framed struct {
	*http2.Framer
	nc    net.Conn
	n     int // 1 for the endpoint's first connection
	block bytes.Buffer
	enc   *hpack.Encoder
	deaf  bool // PINGs are not answered
}

// newFramed runs script for each connection, after both sides have said their SETTINGS, and closes the connection
// when it returns.
func newFramed(t testing.TB, script func(*framed), settings ...http2.Setting) *h2c {
	e := new(h2c)
	var conns atomic.Int64
	e.addr = backendtest.Raw(t, func(nc net.Conn) {
		e.accepted.Add(1)
		f := &framed{Framer: http2.NewFramer(nc, nc), nc: nc, n: int(conns.Add(1))}
		f.enc = hpack.NewEncoder(&f.block)
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(nc, preface); err != nil {
			return
		}
		if string(preface) != http2.ClientPreface {
			t.Errorf("the connection begins with %q", preface)
		}
		_ = f.WriteSettings(settings...)
		script(f)
	})
	return e
}

// frame reads the next frame that is about a stream; nil at the end of the connection.
func (f *framed) frame() http2.Frame {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return nil
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !fr.IsAck() && !f.deaf {
				_ = f.WritePing(true, fr.Data)
			}
		case *http2.WindowUpdateFrame:
		default:
			return fr
		}
	}
}

// request reads up to the end of the next request and returns its stream and body; 0 at the end of the connection, and
// where a stream is reset.
func (f *framed) request() (id uint32, body []byte) {
	for {
		switch fr := f.frame().(type) {
		case *http2.MetaHeadersFrame:
			if fr.StreamEnded() {
				return fr.StreamID, body
			}
		case *http2.DataFrame:
			if body = append(body, fr.Data()...); fr.StreamEnded() {
				return fr.StreamID, body
			}
		default:
			return 0, nil
		}
	}
}

// head sends a field list; fields are names and values.
func (f *framed) head(id uint32, end bool, fields ...string) {
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: end, EndHeaders: true})
}

// ok answers with 200 and "ok".
func (f *framed) ok(id uint32) {
	f.head(id, false, ":status", "200")
	_ = f.WriteData(id, true, []byte("ok"))
}

// serve answers every request with ok.
func (f *framed) serve() {
	for id, _ := f.request(); id != 0; id, _ = f.request() {
		f.ok(id)
	}
}

// post sends a POST, which is not idempotent, and reads what comes.
func (c *client) post(body string) (*message, error) {
	c.send("POST /change HTTP/1.1\r\nHost: h\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n" + body)
	m, _, err := c.readResponse("POST")
	return m, err
}

// outcomes are the attempts of a kind so far.
func (r *running) outcomes(t testing.TB, outcome string) int {
	return int(sum(r.metrics(t), "weir_attempts_total", `outcome="`+outcome+`"`))
}

// TestHTTP2Truncation: wherever an answer breaks off, and however, the client can tell.
func TestHTTP2Truncation(t *testing.T) {
	frames := []func(f *framed, id uint32){
		func(f *framed, id uint32) { f.head(id, false, ":status", "200", "trailer", "x-sum") },
		func(f *framed, id uint32) { _ = f.WriteData(id, false, []byte("one ")) },
		func(f *framed, id uint32) { _ = f.WriteData(id, false, []byte("two")) },
		func(f *framed, id uint32) { f.head(id, true, "x-sum", "7") },
	}
	ends := map[string]func(f *framed, id uint32){
		"closed":     func(f *framed, id uint32) {},
		"reset":      func(f *framed, id uint32) { _ = f.nc.(*net.TCPConn).SetLinger(0) },
		"cancel":     func(f *framed, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeCancel); f.serve() },
		"no error":   func(f *framed, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeNo); f.serve() },
		"internal":   func(f *framed, id uint32) { _ = f.WriteRSTStream(id, http2.ErrCodeInternal); f.serve() },
		"go away":    func(f *framed, id uint32) { _ = f.WriteGoAway(id, http2.ErrCodeInternal, nil) },
		"half frame": func(f *framed, id uint32) { _, _ = f.nc.Write([]byte{0, 0, 10, 0, 0, 0, 0, 0, byte(id), 'x'}) },
	}
	for name, end := range ends {
		for k := range len(frames) + 1 {
			t.Run(name+itoa(k), func(t *testing.T) {
				e := newFramed(t, func(f *framed) {
					id, _ := f.request()
					for _, send := range frames[:k] {
						send(f, id)
					}
					end(f, id)
				})
				r := overH2(t, e, setup{route: "retry: off"})
				m, err := r.dial(t).post("body")
				switch {
				case k == len(frames) && name == "reset": // which may overtake what was sent
				case k == len(frames) && (err != nil || string(m.body) != "one two"):
					t.Errorf("a whole answer: %+v (%v)", m, err)
				case k == 0 && (err != nil || m.status() != 502):
					t.Errorf("no answer at all: %+v (%v), want 502", m, err)
				case 0 < k && k < len(frames) && err == nil && m.status() == 200:
					t.Errorf("%d frames of an answer look whole: %+v", k, m)
				}
			})
		}
	}
}

// TestHTTP2UnprocessedIsSentAgain: what an endpoint has not acted upon goes to it once more, whatever it is, and is no
// retry.
func TestHTTP2UnprocessedIsSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(f *framed, id uint32) (goes bool){
		"refused": func(f *framed, id uint32) bool { return f.WriteRSTStream(id, http2.ErrCodeRefusedStream) == nil },
		"go away": func(f *framed, id uint32) bool {
			_ = f.WriteGoAway(id-2, http2.ErrCodeNo, nil)
			f.frame()
			return false
		},
		"go away and closed": func(f *framed, id uint32) bool { _ = f.WriteGoAway(id-2, http2.ErrCodeNo, nil); return false },
	} {
		t.Run(name, func(t *testing.T) {
			bodies := make(chan string, 10)
			e := newFramed(t, func(f *framed) {
				_ = f.WriteWindowUpdate(0, 1<<20)
				for first := f.n == 1; ; {
					id, body := f.request()
					if id == 0 {
						return
					}
					if first && id > 1 {
						if first = false; !refuse(f, id) {
							return
						}
						continue
					}
					bodies <- string(body)
					f.ok(id)
				}
			}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			r := overH2(t, e, setup{route: "retry: off"})
			c := r.dial(t)
			long := string(bytes.Repeat([]byte("0123456789"), 10_000))
			for _, body := range []string{"first", "second", long} {
				if m, err := c.post(body); err != nil || m.status() != 200 {
					t.Fatalf("%+v: %v", m, err)
				}
				if got := <-bodies; got != body {
					t.Errorf("the endpoint got %d bytes, want %d", len(got), len(body))
				}
			}
			if n := r.outcomes(t, "success"); n != 3 {
				t.Errorf("%d attempts succeeded, want 3", n)
			}
			if n := sum(r.metrics(t), "weir_retries_total"); n != 0 {
				t.Errorf("%v retries", n)
			}
		})
	}
}

// TestHTTP2UploadIsSentAgain: so does one whose body came in pieces, while all of it is in memory.
func TestHTTP2UploadIsSentAgain(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	got := make(chan []byte, 1)
	e := newFramed(t, func(f *framed) {
		if f.n == 1 {
			fr, _ := f.frame().(*http2.MetaHeadersFrame)
			f.frame() // some of the body
			_ = f.WriteRSTStream(fr.StreamID, http2.ErrCodeRefusedStream)
		}
		_ = f.WriteWindowUpdate(0, 1<<20)
		for {
			switch fr := f.frame().(type) {
			case *http2.MetaHeadersFrame:
				_ = f.WriteWindowUpdate(fr.StreamID, 1<<20)
				var all []byte
				for {
					d, ok := f.frame().(*http2.DataFrame)
					if !ok {
						return
					}
					if all = append(all, d.Data()...); d.StreamEnded() {
						got <- all
						f.ok(d.StreamID)
						break
					}
				}
			case nil:
				return
			}
		}
	})
	c := overH2(t, e, setup{route: "retry: off"}).dial(t)
	m, err := c.post(string(body))
	if err != nil || m.status() != 200 {
		t.Fatalf("%+v: %v", m, err)
	}
	if b := <-got; !bytes.Equal(b, body) {
		t.Errorf("the endpoint got %d bytes", len(b))
	}
}

// TestHTTP2RefusedForEver: an endpoint that refuses everything is not asked for ever.
func TestHTTP2RefusedForEver(t *testing.T) {
	var asked atomic.Int64
	e := newFramed(t, func(f *framed) {
		for id, _ := f.request(); id != 0; id, _ = f.request() {
			asked.Add(1)
			_ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}
	})
	r := overH2(t, e, setup{route: "retry: off"})
	c := r.dial(t)
	m, err := c.post("x")
	if err != nil {
		t.Fatal(err)
	}
	c.refused(m, 502)
	if n := asked.Load(); n != 9 {
		t.Errorf("asked %d times, want 9", n)
	}
	if n := r.outcomes(t, "connect"); n != 1 {
		t.Errorf("%d attempts count as connect, want 1", n)
	}
}

// TestHTTP2ProtocolFaults: what is not valid HTTP/2 is a fault of the endpoint's, and the next request has another
// connection where the connection is over.
func TestHTTP2ProtocolFaults(t *testing.T) {
	for name, fault := range map[string]func(f *framed, id uint32){
		"upper case":        func(f *framed, id uint32) { f.head(id, true, ":status", "200", "X-Upper", "1") },
		"connection field":  func(f *framed, id uint32) { f.head(id, true, ":status", "200", "connection", "close") },
		"no status":         func(f *framed, id uint32) { f.head(id, true, "x", "1") },
		"101":               func(f *framed, id uint32) { f.head(id, false, ":status", "101") },
		"control character": func(f *framed, id uint32) { f.head(id, true, ":status", "200", "x", "a\r\nb: c") },
		"short":             func(f *framed, id uint32) { f.head(id, true, ":status", "200", "content-length", "5") },
		"data before head":  func(f *framed, id uint32) { _ = f.WriteData(id, true, []byte("x")) },
		"unknown stream":    func(f *framed, id uint32) { _ = f.WriteData(99, true, []byte("x")) },
		"push":              func(f *framed, id uint32) { _ = f.WriteRawFrame(http2.FramePushPromise, 4, id, []byte{0, 0, 0, 2}) },
		"compression": func(f *framed, id uint32) {
			_ = f.WriteRawFrame(http2.FrameHeaders, 5, id, []byte{0xff, 0xff, 0xff, 0xff, 0xff})
		},
		"ends with an interim": func(f *framed, id uint32) { f.head(id, true, ":status", "103") },
	} {
		t.Run(name, func(t *testing.T) {
			e := newFramed(t, func(f *framed) {
				for id, _ := f.request(); id != 0; id, _ = f.request() {
					if id == 1 && f.n == 1 {
						fault(f, id)
						for fr := f.frame(); fr != nil; fr = f.frame() {
							if h, ok := fr.(*http2.MetaHeadersFrame); ok && h.StreamID != id {
								f.ok(h.StreamID)
							}
						}
						return
					}
					f.ok(id)
				}
			})
			r := overH2(t, e, setup{route: "retry: off"})
			c := r.dial(t)
			m, err := c.post("")
			if err != nil {
				t.Fatal(err)
			}
			c.refused(m, 502)
			if n := r.outcomes(t, "protocol"); n != 1 {
				t.Errorf("%d attempts count as protocol, want 1", n)
			}
			if m, err := c.post(""); err != nil || m.status() != 200 {
				t.Errorf("the next: %s %s, %v", m.start, m.body, err)
			}
		})
	}
}

// TestHTTP2FoundSomethingElse: an endpoint of another protocol is named as one.
func TestHTTP2FoundSomethingElse(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n": "it speaks HTTP/1.1, write protocol: http1",
		"\x15\x03\x01\x00\x02\x02\x0a":                          "it does not speak HTTP/2 without TLS",
	} {
		e := &h2c{addr: backendtest.Raw(t, func(nc net.Conn) {
			_, _ = nc.Read(make([]byte, 1024))
			_, _ = io.WriteString(nc, answer)
			_, _ = io.Copy(io.Discard, nc)
		})}
		if answer[0] != 'H' { // less than a frame's header: only the end tells
			e.addr = backendtest.Raw(t, func(nc net.Conn) {
				_, _ = nc.Read(make([]byte, 1024))
				_, _ = io.WriteString(nc, answer)
				_ = nc.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, nc)
			})
		}
		r := overH2(t, e, setup{route: "retry: off"})
		c := r.dial(t)
		m, err := c.post("x")
		if err != nil {
			t.Fatal(err)
		}
		c.refused(m, 502)
		if !bytes.Contains([]byte(r.logs.String()), []byte(want)) {
			t.Errorf("the log does not say %q:\n%s", want, r.logs.String())
		}
		if n := r.outcomes(t, "protocol"); n != 1 {
			t.Errorf("%d attempts count as protocol, want 1", n)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
