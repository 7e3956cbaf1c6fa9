package bench

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answering serves one connection: it reads a request and writes answer, in pieces of so many
// bytes, then closes.
func answering(t *testing.T, answer string, piece int) string {
	t.Helper()
	ln := listen(t)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		for len(answer) > 0 {
			n := min(piece, len(answer))
			if _, err := io.WriteString(c, answer[:n]); err != nil {
				return
			}
			answer = answer[n:]
		}
	}()
	return ln.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func connect(t *testing.T, address string) *conn {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	c, err := dialConn(context.Background(), &dialer{address: address}, deadline)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	return c
}

const getRoot = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestRoundTripReadsEveryFraming(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	tests := []struct {
		name, answer string
		noBody       bool
		status       int
		body         string
		reusable     bool
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Weir-Variant: blue\r\n\r\nhello", status: 200, body: "hello", reusable: true},
		{name: "empty", answer: "HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\nx-weir-variant: blue\r\n\r\n", status: 503, reusable: true},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Weir-Variant: blue\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n", status: 200, body: "hello", reusable: true},
		{name: "until close", answer: "HTTP/1.1 200 OK\r\nX-Weir-Variant: blue\r\n\r\nhello", status: 200, body: "hello"},
		{name: "close", answer: "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 5\r\nX-Weir-Variant: blue\r\n\r\nhello", status: 200, body: "hello"},
		{name: "no content", answer: "HTTP/1.1 204 No Content\r\nX-Weir-Variant: blue\r\n\r\n", status: 204, reusable: true},
		{name: "informational first", answer: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Weir-Variant: blue\r\n\r\nok", status: 200, body: "ok", reusable: true},
		{name: "head", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Weir-Variant: blue\r\n\r\n", noBody: true, status: 200, reusable: true},
		{name: "long body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX-Weir-Variant: blue\r\n\r\n" + long, status: 200, body: long[:MaxKept], reusable: true},
		{name: "long head", answer: "HTTP/1.1 200 OK\r\nX-Long: " + long[:40_000] + "\r\nContent-Length: 2\r\nX-Weir-Variant: blue\r\n\r\nok", status: 200, body: "ok", reusable: true},
	}
	for _, tt := range tests {
		for _, piece := range []int{1 << 20, 1000, 1} {
			if piece == 1 && len(tt.answer) > 1000 {
				continue
			}
			c := connect(t, answering(t, tt.answer, piece))
			var r Response
			if err := c.roundTrip([]byte(getRoot), tt.noBody, &r); err != nil {
				t.Errorf("%s in pieces of %d: %v", tt.name, piece, err)
				continue
			}
			if r.Status != tt.status || string(r.Body) != tt.body || string(r.Variant) != "blue" || r.Bytes != int64(len(tt.answer)) {
				t.Errorf("%s in pieces of %d: status %d, %d bytes of body %.20q, variant %q, %d bytes in all; want %d, %d bytes %.20q, blue, %d",
					tt.name, piece, r.Status, len(r.Body), r.Body, r.Variant, r.Bytes, tt.status, len(tt.body), tt.body, len(tt.answer))
			}
			if got := c.reusable(&r); got != tt.reusable {
				t.Errorf("%s: reusable = %v, want %v", tt.name, got, tt.reusable)
			}
		}
	}
}

func TestRoundTripNamesFailures(t *testing.T) {
	tests := []struct {
		name, answer string
		want         Failure
	}{
		{"nothing", "", Reset},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", Reset},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Reset},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", Reset},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Protocol},
		{"status", "HTTP/1.1 2x0 OK\r\n\r\n", Protocol},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Protocol},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", Protocol},
		{"chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Protocol},
		{"chunk end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", Protocol},
		{"coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Protocol},
		{"no colon", "HTTP/1.1 200 OK\r\nContent-Length 1\r\n\r\n", Protocol},
		{"upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n", Protocol},
		{"too much", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", Protocol},
		{"endless head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), Protocol},
	}
	for _, tt := range tests {
		c := connect(t, answering(t, tt.answer, 1<<20))
		var r Response
		err := c.roundTrip([]byte(getRoot), false, &r)
		if got := exchangeFailure(err); got != tt.want {
			t.Errorf("%s: %v (%v), want %v", tt.name, got, err, tt.want)
		}
	}
}

func TestRoundTripTimesOut(t *testing.T) {
	ln := listen(t) // never accepted: the kernel takes the request, nobody answers
	c := connect(t, ln.Addr().String())
	if err := c.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var r Response
	err := c.roundTrip([]byte(getRoot), false, &r)
	if !errors.Is(err, os.ErrDeadlineExceeded) || exchangeFailure(err) != Timeout {
		t.Errorf("error %v, failure %v; want a timeout", err, exchangeFailure(err))
	}
}

// A server that refuses an upload answers and closes without reading it all. The answer is
// what counts, not the failed write.
func TestRoundTripReadsTheAnswerToARefusedUpload(t *testing.T) {
	ln := listen(t)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := bufio.NewReaderSize(c, 16)
		_, _ = head.ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}()
	c := connect(t, ln.Addr().String())
	var r Response
	request := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n" + strings.Repeat("x", 8_000_000)
	if err := c.roundTrip([]byte(request), false, &r); err != nil || r.Status != 413 {
		t.Errorf("status %d, error %v; want 413", r.Status, err)
	}
}

func TestStale(t *testing.T) {
	ln := listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	c := connect(t, ln.Addr().String())
	server := <-accepted
	if c.stale(staleAfter) {
		t.Fatal("a fresh connection is stale")
	}
	server.Close()
	for deadline := time.Now().Add(5 * time.Second); !c.stale(staleAfter); {
		if time.Now().After(deadline) {
			t.Fatal("a closed connection is not stale")
		}
	}
}

// Against a real server: what it sees is what the target meant to send.
func TestRequestsAsAServerSeesThem(t *testing.T) {
	type seen struct{ Method, URI, Host, User, Accept, Body string }
	got := make(chan seen, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, r.Header.Get(UserHeader), r.Header.Get("Accept"), string(body)}
	}))
	defer s.Close()
	target, err := NewFixed(Request{
		URL: s.URL + "/a%20b?c=d", Header: []Field{{"Host", "ml.example.com"}, {"Accept", "*/*"}}, Users: 1,
	}, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	request, hit := target.Append(nil, 0)
	c := connect(t, target.Address())
	for range 2 {
		var r Response
		if err := c.roundTrip(request, hit.NoBody, &r); err != nil || r.Status != 200 {
			t.Fatalf("status %d, error %v", r.Status, err)
		}
		want := seen{"POST", "/a%20b?c=d", "ml.example.com", "user-000000", "*/*", "hello"}
		if diff := cmp.Diff(want, <-got); diff != "" {
			t.Errorf("server saw (-want +got):\n%s", diff)
		}
	}
}
