package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// scanAll feeds body to a scanner in pieces of step bytes.
func scanAll(body string, step int, unwrap bool) (out string, s *chunkScanner, done, ok bool) {
	s = &chunkScanner{unwrap: unwrap}
	for ok = true; len(body) > 0 && ok && !done; {
		piece := []byte(body[:min(step, len(body))])
		body = body[len(piece):]
		var n int
		n, done, ok = s.scan(piece)
		out += string(piece[:n])
	}
	s.rest += len(body)
	return out, s, done, ok
}

func TestChunkScanner(t *testing.T) {
	for _, c := range []struct{ name, body, passed, data, trailers string }{
		{"plain", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n", "hello", ""},
		{"two, one of them hexadecimal", "1\r\na\r\nA\r\n0123456789\r\n0\r\n\r\n", "1\r\na\r\nA\r\n0123456789\r\n0\r\n", "a0123456789", ""},
		{"an extension is dropped", "5;a=b\r\nhello\r\n0;c\r\n\r\n", "5\r\nhello\r\n0\r\n", "hello", ""},
		{"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "0005\r\nhello\r\n000\r\n", "hello", ""},
		{"CRLF in the data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "4\r\n\r\n\r\n\r\n0\r\n", "\r\n\r\n", ""},
		{"trailers", "1\r\na\r\n0\r\nX-Sum: 7\r\nGrpc-Status: 0\r\n\r\n", "1\r\na\r\n0\r\n", "a", "X-Sum: 7\r\nGrpc-Status: 0\r\n"},
		{"trailers that must not be", "0\r\nContent-Length: 99\r\nHost: evil\r\nX-A: b\r\n\r\n", "0\r\n", "", "X-A: b\r\n"},
	} {
		for step := 1; step <= len(c.body); step++ {
			out, s, done, ok := scanAll(c.body, step, false)
			if out != c.passed || !done || !ok || string(s.trailers) != c.trailers || s.data != int64(len(c.data)) || s.rest != 0 {
				t.Fatalf("%s in pieces of %d: passed %q, done %v, ok %v, trailers %q, %d data, %d rest", c.name, step, out, done, ok, s.trailers, s.data, s.rest)
			}
			if out, _, done, ok := scanAll(c.body, step, true); out != c.data || !done || !ok {
				t.Fatalf("%s unwrapped in pieces of %d: %q, done %v, ok %v", c.name, step, out, done, ok)
			}
		}
		// Cut anywhere, it is never taken for whole.
		for cut := range len(c.body) {
			if _, _, done, ok := scanAll(c.body[:cut], 3, false); done || !ok {
				t.Errorf("%s cut after %d bytes: done %v, ok %v", c.name, cut, done, ok)
			}
		}
	}
	if _, s, done, _ := scanAll("0\r\n\r\nHTTP/1.1 200 OK", 100, false); !done || s.rest != 15 {
		t.Errorf("bytes behind the body: done %v, rest %d, want 15", done, s.rest)
	}
}

func TestChunkScannerRefuses(t *testing.T) {
	for _, body := range []string{
		"\r\n", "g\r\n", "-5\r\nhello\r\n", "+5\r\nhello\r\n", "0x5\r\nhello\r\n", "5_0\r\n", " 5\r\nhello\r\n", "5 \r\nhello\r\n",
		"5\nhello\n0\n\n", "5\r\nhelloX\r\n", "5\r\nhello0\r\n", "5\rhello", "5;a\nb\r\nhello\r\n", "5;\x00\r\nhello\r\n",
		"fffffffffffffffff\r\n", "10000000000000005\r\n", "0\r\n\n", "0\r\nbad name: x\r\n\r\n", "0\r\n: x\r\n\r\n", "0\r\nX: a\rb\r\n\r\n",
		"1;" + strings.Repeat("e", maxChunkLine+1), "0\r\nX: " + strings.Repeat("t", maxChunkLine+1),
	} {
		if out, _, done, ok := scanAll(body, 1, false); ok {
			t.Errorf("%.40q passed as %.40q, done %v", body, out, done)
		}
	}
}

// FuzzChunks: what the scanner lets pass, another parser reads as the same data, ends it at the same
// byte, and finds framing in what goes to the client that is just as good.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"), 3)
	f.Add([]byte("0\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, body []byte, step int) {
		if step < 1 {
			step = 1
		}
		out, s, done, ok := scanAll(string(body), step, false)
		if !done || !ok {
			return
		}
		want, err := dechunk(string(body))
		if err != nil {
			t.Fatalf("let %q pass, net/http says %v", body, err)
		}
		got, err := dechunk(out + string(s.trailers) + "\r\n")
		if err != nil || got != want {
			t.Fatalf("%q became %q: data %q, want %q (%v)", body, out, got, want, err)
		}
		data, _, _, _ := scanAll(string(body), step, true)
		if data != want || s.data != int64(len(want)) {
			t.Fatalf("unwrapped %q, counted %d; want %q", data, s.data, want)
		}
	})
}

func dechunk(body string) (string, error) {
	r := bufio.NewReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func TestFrameChunk(t *testing.T) {
	for _, n := range []int{1, 15, 16, 255, 4096, 100_000} {
		b := append(make([]byte, chunkLead, chunkLead+n+chunkTail), bytes.Repeat([]byte("x"), n)...)[:chunkLead+n+chunkTail]
		if got, err := dechunk(string(frameChunk(b, n)) + "0\r\n\r\n"); err != nil || got != strings.Repeat("x", n) {
			t.Errorf("a chunk of %d bytes reads as %d bytes, %v", n, len(got), err)
		}
	}
}
