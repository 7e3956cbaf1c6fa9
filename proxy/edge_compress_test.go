package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	brotli "github.com/molecule-man/go-brrr"

	"weir/config"
	"weir/proxy/enginetest"
)

var encodings = []string{"zstd", "br", "gzip"}

// compressed starts a proxy that compresses JSON and text from 64 bytes on.
func compressed(t testing.TB, s setup) *running {
	return startRoute(t, s, func(c *config.Route) {
		c.Compress = &config.Compress{Encodings: encodings, Types: []string{"application/json", "text/*"}, MinSize: 64}
	})
}

// decode decodes what there is of a body; the error says whether it is whole.
func decode(t testing.TB, encoding string, body []byte) ([]byte, error) {
	t.Helper()
	var r io.Reader
	switch encoding {
	case "":
		return body, nil
	case "gzip":
		g, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r = g
	case "br":
		r = brotli.NewReader(bytes.NewReader(body))
	case "zstd":
		z, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		r = z
	default:
		t.Fatalf("Content-Encoding %q", encoding)
	}
	return io.ReadAll(r)
}

// take sends a GET that takes an encoding and reads the answer.
func (c *client) take(target, accept string) *message {
	c.t.Helper()
	c.send("GET " + target + " HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + accept + "\r\n\r\n")
	return c.answer("GET")
}

// bodies are bodies of many lengths, around those of buffers and pieces.
func bodies() (all [][]byte) {
	for _, n := range []int{64, 1000, 15_900, 16 << 10, 20_000, 64 << 10, 64<<10 + 1, 250_000, enginetest.Scaled(1<<20, 300_000)} {
		all = append(all, predictions(n))
	}
	noise, rng := make([]byte, enginetest.Scaled(300_000, 100_000)), rand.New(rand.NewPCG(5, 6))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	return append(all, noise)
}

func predictions(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := []byte(`{"predictions":[`)
	for len(b) < n {
		b = fmt.Appendf(b, `{"label":"class-%d","score":%.6f},`, rng.IntN(1000), rng.Float64())
	}
	return b[:n]
}

// framings are ways in which an endpoint sends a body.
var framings = map[string]func(head string, body []byte) string{
	"sized": func(head string, body []byte) string {
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	},
	"chunked": func(head string, body []byte) string {
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for n := 1; len(body) > 0; n = n*3 + 1 {
			n = min(n, len(body))
			fmt.Fprintf(&b, "%x;ext=1\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		return b.String() + "0\r\n\r\n"
	},
	"to the end": func(head string, body []byte) string { return head + "Connection: close\r\n\r\n" + string(body) },
}

const jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n"

func TestEdgeCompress(t *testing.T) {
	all := bodies()
	for framing, render := range framings {
		ep := newEndpoint(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				var i int
				fmt.Sscanf(m.target(), "/%d", &i)
				s.send(render(jsonHead, all[i]))
				if framing == "to the end" {
					return
				}
			}
		})
		r := compressed(t, setup{endpoints: []string{ep.addr}, options: oneLoop})
		cl := r.dial(t)
		in, out := 0, 0
		for _, encoding := range append([]string{""}, encodings...) {
			for i, body := range all {
				m := cl.take(fmt.Sprintf("/%d", i), encoding)
				plain, err := decode(t, encoding, m.body)
				if err != nil || !bytes.Equal(plain, body) {
					t.Errorf("%s, %q: %d bytes became %d (%v)", framing, encoding, len(body), len(plain), err)
				}
				tag := `W/"v1"`
				if encoding == "" {
					tag = `"v1"`
				} else {
					in, out = in+len(body), out+len(m.body)
				}
				if m.get("Content-Encoding") != encoding || m.get("Vary") != "Accept-Encoding" || m.get("ETag") != tag || (m.get("Accept-Ranges") == "") == (encoding == "") {
					t.Errorf("%s, %q: %v", framing, encoding, m.fields)
				}
				if i < 9 && encoding != "" && len(m.body) > 100+len(body)/2 {
					t.Errorf("%s, %q: %d bytes became %d", framing, encoding, len(body), len(m.body))
				}
			}
		}
		if n, _, _ := ep.counts(); framing != "to the end" && n != 1 {
			t.Errorf("%s: %d connections", framing, n)
		}
		eventually(t, fmt.Sprintf("%s: %d and %d bytes are counted", framing, in, out), func() bool { // the client has the last before that
			metrics := r.metrics(t)
			a, b := sum(metrics, "weir_compression_in_bytes_total", `route="all"`), sum(metrics, "weir_compression_out_bytes_total")
			return int(a) == in && int(b) == out
		})
	}
}

// TestEdgeCompressWhole: what fits into a buffer leaves with its length, also where its head came first; what has
// trailers keeps them.
func TestEdgeCompressWhole(t *testing.T) {
	body := predictions(4000)
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			switch answer := framings["sized"](jsonHead, body); m.target() {
			case "/parts":
				end := strings.Index(answer, "\r\n\r\n") + 4
				s.send(answer[:end])
				time.Sleep(30 * time.Millisecond)
				s.send(answer[end : end+1000])
				time.Sleep(30 * time.Millisecond)
				s.send(answer[end+1000:])
			case "/trailers":
				s.send(strings.TrimSuffix(framings["chunked"](jsonHead, body), "\r\n") + "X-Sum: 1\r\n\r\n")
			case "/chunked":
				s.send(framings["chunked"](jsonHead, body))
			default:
				s.send(answer)
			}
		}
	})
	r := compressed(t, setup{endpoints: []string{ep.addr}, options: oneLoop})
	cl := r.dial(t)
	for _, target := range []string{"/", "/parts", "/chunked", "/trailers", "/"} {
		for _, encoding := range encodings {
			m := cl.take(target, encoding)
			if plain, err := decode(t, m.get("Content-Encoding"), m.body); err != nil || !bytes.Equal(plain, body) || len(m.body) > 2000 {
				t.Errorf("%s, %s: %d bytes, %v", target, encoding, len(plain), err)
			}
			if sized := m.get("Content-Length") == fmt.Sprint(len(m.body)); sized == (target == "/trailers") {
				t.Errorf("%s, %s: %v", target, encoding, m.fields)
			}
			if target == "/trailers" && valuesOf(m.trailers, "X-Sum") == nil {
				t.Errorf("%s: trailers %v", encoding, m.trailers)
			}
		}
	}
	if n, _, _ := ep.counts(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestEdgeNotCompressed: such answers go on as they are.
func TestEdgeNotCompressed(t *testing.T) {
	body := strings.Repeat("0123456789", 20)
	for name, c := range map[string]struct {
		head, request string // more lines
		vary          string
	}{
		"events":           {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", "", ""},
		"no type":          {"HTTP/1.1 200 OK\r\n", "", ""},
		"another type":     {"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n", "", ""},
		"encoded already":  {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: deflate\r\n", "", "Accept-Encoding"},
		"no-transform":     {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-transform\r\n", "", "Accept-Encoding"},
		"a part":           {"HTTP/1.1 206 Partial\r\nContent-Type: text/html\r\nContent-Range: bytes 0-199/300\r\n", "Range: bytes=0-199\r\n", "Accept-Encoding"},
		"the client's own": {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "Cache-Control: no-transform\r\n", "Accept-Encoding"},
	} {
		for framing, render := range framings {
			answer := render(c.head+"ETag: \"x\"\r\n", []byte(body))
			ep := newEndpoint(t, func(s *served) {
				if s.request() != nil {
					s.send(answer)
				}
			})
			r := compressed(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			cl.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n" + c.request + "\r\n")
			m := cl.answer("GET")
			if string(m.body) != body || m.get("ETag") != `"x"` || m.get("Vary") != c.vary {
				t.Errorf("%s, %s: %v with %q", name, framing, m.fields, m.body)
			}
		}
	}
}

// TestEdgeCompressHTTP10: such a client gets it as it is, whatever it says it takes.
func TestEdgeCompressHTTP10(t *testing.T) {
	body := predictions(40_000)
	for _, render := range framings {
		ep := newEndpoint(t, func(s *served) {
			if s.request() != nil {
				s.send(render(jsonHead, body))
			}
		})
		r := compressed(t, setup{endpoints: []string{ep.addr}})
		cl := r.dial(t)
		cl.send("GET / HTTP/1.0\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
		if m := cl.answer("GET"); !bytes.Equal(m.body, body) || m.get("Content-Encoding") != "" || m.get("Vary") != "Accept-Encoding" {
			t.Errorf("%v with %d bytes", m.fields, len(m.body))
		}
	}
}

// TestEdgeCompressHead: a HEAD tells what a GET would, and no length, since that would be another.
func TestEdgeCompressHead(t *testing.T) {
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.target() == "/small" {
				s.send(jsonHead + "Content-Length: 10\r\n\r\n")
			} else {
				s.send(jsonHead + "Content-Length: 1000\r\n\r\n")
			}
		}
	})
	r := compressed(t, setup{endpoints: []string{ep.addr}, options: oneLoop})
	cl := r.dial(t)
	for range 3 {
		for target, c := range map[string][2]string{"/": {"gzip", ""}, "/small": {"", "10"}} {
			cl.send("HEAD " + target + " HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n")
			m := cl.answer("HEAD")
			if m.get("Content-Encoding") != c[0] || m.get("Content-Length") != c[1] || m.get("Transfer-Encoding") != "" || m.get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %v", target, m.fields)
			}
		}
	}
	if n, _, _ := ep.counts(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestEdgeCompressNotModified: what is confirmed is what the client got before, whose tag was weak.
func TestEdgeCompressNotModified(t *testing.T) {
	ep := newEndpoint(t, serveBytes("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n"))
	r := compressed(t, setup{endpoints: []string{ep.addr}})
	for accept, tag := range map[string]string{"gzip": `W/"v1"`, "": `"v1"`} {
		cl := r.dial(t)
		if m := cl.take("/", accept); m.status() != 304 || m.get("ETag") != tag || m.get("Vary") != "Accept-Encoding" || m.get("Content-Encoding") != "" {
			t.Errorf("%q: %q %v", accept, m.start, m.fields)
		}
	}
}

// TestEdgeCompressStream: no piece of a stream waits for the next.
func TestEdgeCompressStream(t *testing.T) {
	for framing, frame := range map[string]func(string) string{
		"chunked":    func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) },
		"to the end": func(s string) string { return s },
	} {
		for _, encoding := range encodings {
			step := make(chan bool)
			ep := newEndpoint(t, func(s *served) {
				if s.request() == nil {
					return
				}
				head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
				if framing == "chunked" {
					head += "Transfer-Encoding: chunked\r\n"
				}
				s.send(head + "\r\n")
				for i := 0; <-step; i++ {
					s.send(frame(fmt.Sprintf(`{"token":%d}`+"\n", i)))
				}
				if framing == "chunked" {
					s.send("0\r\n\r\n")
				}
			})
			r := compressed(t, setup{endpoints: []string{ep.addr}})
			cl := r.dial(t)
			cl.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + encoding + "\r\n\r\n")
			m, err := cl.readHead() // before any piece
			if err != nil || m.get("Content-Encoding") != encoding {
				t.Fatalf("%s, %s: %v", framing, encoding, err)
			}
			pipe, chunks := io.Pipe()
			go func() { chunks.CloseWithError(cl.readResponseBody(m, "GET", chunks)) }()
			step <- true
			plain := decoder(t, encoding, pipe)
			for i := range 5 {
				if i > 0 {
					step <- true
				}
				want := fmt.Sprintf(`{"token":%d}`+"\n", i)
				got := make([]byte, len(want))
				if _, err := io.ReadFull(plain, got); err != nil || string(got) != want {
					t.Fatalf("%s, %s: piece %d is %q, %v", framing, encoding, i, got, err)
				}
			}
			step <- false
			if rest, err := io.ReadAll(plain); err != nil || len(rest) > 0 {
				t.Errorf("%s, %s: the end is %q, %v", framing, encoding, rest, err)
			}
		}
	}
}

func decoder(t testing.TB, encoding string, r io.Reader) io.Reader {
	switch encoding {
	case "gzip":
		g, err := gzip.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		return g
	case "br":
		return brotli.NewReader(r)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return z
}

// TestEdgeCompressByOtherDecoders: programs of others read the same.
func TestEdgeCompressByOtherDecoders(t *testing.T) {
	body := predictions(500_000)
	ep := newEndpoint(t, serveBytes(framings["chunked"](jsonHead, body)))
	r := compressed(t, setup{endpoints: []string{ep.addr}})
	for encoding, command := range map[string][]string{"gzip": {"gzip", "-dc"}, "zstd": {"zstd", "-dc"}, "br": {"brotli", "-dc"}} {
		path, err := exec.LookPath(command[0])
		if err != nil {
			continue
		}
		m := r.dial(t).take("/", encoding)
		cmd := exec.Command(path, command[1:]...)
		cmd.Stdin = bytes.NewReader(m.body)
		if plain, err := cmd.Output(); err != nil || !bytes.Equal(plain, body) {
			t.Errorf("%s: %d bytes, %v", command[0], len(plain), err)
		}
	}
}

// TestEdgeCompressClientGone: a client that leaves ends it, and the encoder serves the next.
func TestEdgeCompressClientGone(t *testing.T) {
	body := predictions(200_000)
	ep := newEndpoint(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			if m.target() != "/endless" {
				s.send(framings["sized"](jsonHead, body))
				continue
			}
			s.send(jsonHead + "Transfer-Encoding: chunked\r\n\r\n")
			for range 10_000 {
				if _, err := fmt.Fprintf(s.Conn, "%x\r\n%s\r\n", 10_000, body[:10_000]); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}
	})
	r := compressed(t, setup{endpoints: []string{ep.addr}})
	for i := range 6 {
		cl := r.dial(t)
		encoding := encodings[i%3]
		cl.send("GET /endless HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + encoding + "\r\n\r\n")
		if _, err := cl.readHead(); err != nil {
			t.Fatal(err)
		}
		cl.Close()
		ep.quiet(t)
		m := r.dial(t).take("/", encoding)
		if plain, err := decode(t, encoding, m.body); err != nil || !bytes.Equal(plain, body) {
			t.Errorf("%s after it: %d bytes, %v", encoding, len(plain), err)
		}
	}
	eventually(t, "the end of all requests", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 6 })
}
