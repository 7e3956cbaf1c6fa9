package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"weir/config"
)

// TestUrgentDataIsData: a read stops before TCP's urgent byte, whatever follows it, and the byte itself is
// read like all others.
func TestUrgentDataIsData(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
	for _, engine := range []string{config.EngineLoop, config.EngineGoroutine} {
		p := engineProxy(t, engine, "", echoEndpoint(t))
		for _, c := range []struct {
			pieces []string // the last byte of every other one is urgent, but not of the last
			want   string
		}{
			{[]string{"GET / HT", "TP/1.1\r\nHost: h\r\n\r\n"}, "GET "},
			{[]string{"G", "ET / HTTP/1.1\r\nHost: h\r\n\r\n"}, "GET "},
			{[]string{"GET / HT", "TP/1.1\r\nHo", "st:", " h\r\n\r\n"}, "GET "},
			{[]string{post + "01234", "56789"}, "POST 0123456789"},
			{[]string{post + "0", "123456789"}, "POST 0123456789"},
			{[]string{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0123", "4\r\n0\r\n\r\n"}, "POST 01234"},
		} {
			nc := connect(t, p)
			burst := func() {
				for i, s := range c.pieces {
					sendPiece(t, nc, s, i%2 == 0 && i < len(c.pieces)-1)
				}
			}
			if engine == config.EngineLoop {
				onLoop(p, burst) // all of it is there when the loop looks: one event tells of it, and no other comes
			} else {
				burst()
			}
			_ = nc.SetDeadline(time.Now().Add(5 * time.Second)) // below the header timeout, which would wake the reader
			resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatalf("%s: no answer to %q: %v", engine, c.pieces, err)
			}
			if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil || string(body) != c.want {
				t.Errorf("%s: %q was answered with %s %q, %v; want %q", engine, c.pieces, resp.Status, body, err, c.want)
			}
			_ = nc.Close()
		}
	}
}

// echoEndpoint answers with the method and the body it was sent.
func echoEndpoint(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" ")
		_, _ = io.Copy(w, r.Body)
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

func sendPiece(t *testing.T, nc *net.TCPConn, s string, urgent bool) {
	t.Helper()
	flags := 0
	if urgent {
		flags = unix.MSG_OOB
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	sendErr := error(nil)
	err = raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendto(int(fd), []byte(s), flags, nil)
		return sendErr != unix.EAGAIN
	})
	if err = errors.Join(err, sendErr); err != nil {
		t.Error(err)
	}
}
