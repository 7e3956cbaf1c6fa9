package proxy

import (
	"bufio"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

func readFields(lines string, from side) (*fields, problem) {
	f := &fields{}
	return f, f.read([]byte(lines), 0, len(lines), from)
}

func kept(f *fields, lines string) string {
	return string(f.appendKept(nil, []byte(lines), 0, len(lines)))
}

func TestFieldsKeep(t *testing.T) {
	f := func(lines, want string) {
		t.Helper()
		fs, p := readFields(lines, fromClient)
		if p != "" {
			t.Errorf("%q: %s", lines, p)
		} else if got := kept(fs, lines); got != want {
			t.Errorf("%q goes on as %q, want %q", lines, got, want)
		}
	}
	f("", "")
	f("Host: h\r\nA: b\r\n", "Host: h\r\nA: b\r\n")
	f("A: 1\r\nConnection: close\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n")
	f("te: trailers\r\nUPGRADE: h2c\r\nHTTP2-Settings: x\r\nKeep-Alive: 1\r\nProxy-Authorization: p\r\nTrailer: X\r\n", "")
	f("X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n", "X-Forwarded-Port: 1\r\n")
	f("Content-Length: 5\r\nExpect: 100-continue\r\nA: b\r\n", "A: b\r\n")
	f("X-A: 1\r\nConnection: x-a, X-B ,close\r\nX-B: 2\r\nX-C: 3\r\n", "X-C: 3\r\n")
	f("Connection: Host, Content-Length, X-Forwarded-For\r\nHost: h\r\n", "Host: h\r\n")
	f("A: 1\nConnection: close\nB: 2\n", "A: 1\r\nB: 2\r\n")
	f("A: 1\nB: 2\r\n", "A: 1\r\nB: 2\r\n")
}

func TestFieldsFind(t *testing.T) {
	lines := "Host: \t h.example:80 \r\nContent-Length: 42\r\nX-Request-ID: id\r\nTraceParent: t\r\nConnection: Keep-Alive\r\n"
	f, p := readFields(lines, fromClient)
	if p != "" {
		t.Fatal(p)
	}
	b := []byte(lines)
	if h := string(f.host.in(b)); h != "h.example:80" || f.length != 42 || string(f.requestID.in(b)) != "id" || string(f.traceparent.in(b)) != "t" || !f.keepAlive || f.closes {
		t.Errorf("read %+v", f)
	}
}

func TestFieldsRefuse(t *testing.T) {
	f := func(lines string, want problem) {
		t.Helper()
		if _, p := readFields(lines, fromClient); p != want {
			t.Errorf("%.60q: %q, want %q", lines, p, want)
		}
	}
	f("A\r\n", badLine)
	f(": x\r\n", badLine)
	f("A B: x\r\n", badName)
	f("A : x\r\n", badName)
	f("A: x\r\n folded\r\n", badFold)
	f("Content-Length: 5\r\nContent-Length: 5\r\n", badLength)
	for _, v := range []string{"", "+5", "-5", "5, 5", "0x5", "5 5", "9999999999999999999"} {
		f("Content-Length: "+v+"\r\n", badLength)
	}
	f("Transfer-Encoding: gzip, chunked\r\n", badCoding)
	f("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", badCoding)
	f("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", badFraming)
	f("Transfer-Encoding: identity\r\nContent-Length: 1\r\n", badFraming)
	f(strings.Repeat("A: b\r\n", maxFields+1), tooMany)
	f(strings.Repeat("X-Forwarded-For: b\r\n", maxDrops+1), tooManyDrop)
}

// FuzzHead compares with net/http: what weir accepts of header lines, another reader understands in
// the same way, before and after weir has taken its fields out.
func FuzzHead(f *testing.F) {
	f.Add("Host: h\r\nConnection: X-A\r\nX-A: 1\r\nB: 2\r\n")
	f.Add("A: b\nC:d\r\n")
	f.Add("Transfer-Encoding: chunked\r\nTrailer: X\r\n")
	f.Fuzz(func(t *testing.T, lines string) {
		if !strings.HasSuffix(lines, "\n") || strings.Contains(lines, "\n\r\n") || strings.Contains(lines, "\n\n") || strings.HasPrefix(lines, "\n") || strings.HasPrefix(lines, "\r\n") {
			return // not the lines of one head
		}
		for line := range strings.Lines(lines) {
			if controls([]byte(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))) {
				return // fasthttp refuses those
			}
		}
		fs, p := readFields(lines, fromClient)
		if p != "" {
			return
		}
		out := kept(fs, lines)
		got, err := textproto.NewReader(bufio.NewReader(strings.NewReader(out + "\r\n"))).ReadMIMEHeader()
		if err != nil {
			t.Fatalf("%q goes on as %q: %v", lines, out, err)
		}
		for _, name := range []string{"Connection", "Te", "Upgrade", "Keep-Alive", "Transfer-Encoding", "Content-Length", "X-Forwarded-For", "X-Real-Ip", "Expect", "Trailer", "Proxy-Connection"} {
			if _, ok := got[http.CanonicalHeaderKey(name)]; ok {
				t.Fatalf("%q keeps %s: %q", lines, name, out)
			}
		}
		before, err := textproto.NewReader(bufio.NewReader(strings.NewReader(lines + "\r\n"))).ReadMIMEHeader()
		if err != nil {
			t.Fatalf("weir accepts %q, net/textproto says %v", lines, err)
		}
		for name, values := range got {
			if !slices.Equal(before[name], values) {
				t.Fatalf("%q: %s was %q, goes on as %q", lines, name, before[name], values)
			}
		}
	})
}

func TestResponseParse(t *testing.T) {
	f := func(head string, want bool) {
		t.Helper()
		n := headLen([]byte(head), 0)
		if n == 0 {
			t.Fatalf("%q is no whole head", head)
		}
		var p response
		if got := p.parse([]byte(head), n); got != want {
			t.Errorf("%q: accepted %v, want %v", head, got, want)
		}
	}
	f("HTTP/1.1 200 OK\r\n\r\n", true)
	f("HTTP/1.1 200\r\nA: b\r\n\r\n", true)
	f("HTTP/1.0 404 Not Found\nA: b\n\n", true)
	f("HTTP/1.1 299 \xe4\r\n\r\n", true)
	for _, line := range []string{"BANANA", "HTTP/2 200", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1 abc", "HTTP/1.1  200 OK", "HTTP/1.1 099 x", "HTTP/1.1 600 x", "HTTP/1.2 200 OK", "http/1.1 200 OK", "HTTP/1.1 200 O\x01K"} {
		f(line+"\r\n\r\n", false)
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false)
	f("HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n", false)
	f("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", false)
	f("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false)
}

func TestValidTrace(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f := func(s string, want bool) {
		t.Helper()
		if got := validTrace([]byte(s)); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
	f(good, true)
	f("cc"+good[2:]+"-what-the-future-holds", true)
	f("", false)
	f(good+"-x", false)
	f("ff"+good[2:], false)
	f(strings.ToUpper(good), false)
	f("00-00000000000000000000000000000000-b7ad6b7169203331-01", false)
	f("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false)
	f(good[:54], false)
}
