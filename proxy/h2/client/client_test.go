package client_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"weir/backend/backendtest"
	"weir/proxy/h2/client"
)

// dial connects to net/http's server, over HTTP/2 without TLS.
func dial(t *testing.T, handler http.HandlerFunc) (*client.Conn, *http.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return connect(t, ln.Addr().String()), s
}

func connect(t *testing.T, addr string) *client.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return client.New(nc)
}

func ask(c *client.Conn, method, text string) (*http.Response, string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestRequestsOneAfterTheOther(t *testing.T) {
	large := strings.Repeat("x", 3<<20)
	c, _ := dial(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Got", q.Trailer.Get("X-Sent"))
		_, _ = w.Write(b)
		w.Header().Set("X-Sum", "9")
		if q.Method == "PUT" {
			_, _ = io.WriteString(w, large)
		}
	})
	for range 3 {
		resp, body, err := ask(c, "POST", "POST /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sent\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sent: 7\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || body != "abcde" || resp.Trailer.Get("X-Sum") != "9" || resp.Header.Get("X-Got") != "7" {
			t.Fatalf("%v %q, trailers %v", resp, body, resp.Trailer)
		}
		if _, body, err := ask(c, "PUT", "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3145728\r\n\r\n"+large); err != nil || body != large+large {
			t.Fatalf("%d bytes: %v", len(body), err)
		}
		if resp, body, err := ask(c, "HEAD", "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil || resp.StatusCode != 200 || body != "" {
			t.Fatalf("%v %q: %v", resp, body, err)
		}
	}
}

// TestGoAway: a connection that the server has ended in an orderly way says so before anything is lost.
func TestGoAway(t *testing.T) {
	c, s := dial(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, "ok") })
	if _, body, err := ask(c, "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil || body != "ok" {
		t.Fatalf("%q: %v", body, err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ask(c, "POST", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"); !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after GOAWAY: %v", err)
	}
}

func TestSomethingElse(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 400 Bad Request\r\n\r\n": `"HTTP/1.1 400 Bad Request": it speaks HTTP/1.1, write protocol: http1`,
		"\x15\x03\x01\x00\x02\x02\x0a":     "it does not speak HTTP/2 without TLS",
		"SSH-2.0-OpenSSH_9.2\r\n":          `found "SSH-2.0-OpenSSH_9.2"`,
	} {
		addr := backendtest.Raw(t, func(nc net.Conn) {
			_, _ = nc.Read(make([]byte, 1024))
			_, _ = io.WriteString(nc, answer)
		})
		if _, _, err := ask(connect(t, addr), "GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", answer, err, want)
		}
	}
}
