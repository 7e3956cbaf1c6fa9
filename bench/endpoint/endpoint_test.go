package endpoint

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serving starts an endpoint with two listeners and returns their addresses.
func serving(t *testing.T) []string {
	t.Helper()
	listeners, err := Listen([]string{"127.0.0.1:0", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	addresses := []string{listeners[0].Addr().String(), listeners[1].Addr().String()}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, listeners, 33) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if c, err := net.Dial("tcp", addresses[0]); err == nil {
			c.Close()
			t.Error("it still listens after the end")
		}
	})
	return addresses
}

func TestAnswersOverHTTP(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	for _, address := range serving(t) {
		wantAnswers(t, http.DefaultClient, address, 1)
	}
}

// wantAnswers checks what comes of requests of several sizes over a version of HTTP.
func wantAnswers(t *testing.T, client *http.Client, address string, version int) {
	t.Helper()
	for target, want := range map[string]int{"/predict": 33, "/predict?size=0": 0, "/predict?size=3000000": 3_000_000} {
		for _, body := range []int{0, 80, 700_000} {
			resp, err := client.Post("http://"+address+target, "application/json", bytes.NewReader(make([]byte, body)))
			if err != nil {
				t.Fatalf("%s with %d bytes: %v", target, body, err)
			}
			got, err := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != version || got != int64(want) || resp.ContentLength != int64(want) {
				t.Errorf("%s with %d bytes: %s %s, %d of %d bytes, %v; want %d", target, body, resp.Proto, resp.Status, got, resp.ContentLength, err, want)
			}
		}
	}
}

// exchange sends text in pieces, and returns all that comes until the endpoint closes.
func exchange(t *testing.T, address string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	for _, piece := range pieces {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // a piece by itself most of the time
	}
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func TestRequestsInPiecesAndTogether(t *testing.T) {
	address := serving(t)[0]
	post := "POST /predict HTTP/1.1\r\ncontent-LENGTH: 5\r\n\r\nhello"
	last := "GET /predict?size=1 HTTP/1.1\r\nConnection: close\r\n\r\n"
	whole := post + post + last
	for name, pieces := range map[string][]string{
		"together": {whole},
		"bytewise": strings.Split(whole, ""),
		"halves":   {whole[:30], whole[30:61], whole[61:]},
	} {
		got := exchange(t, address, pieces...)
		r := bufio.NewReader(strings.NewReader(got))
		for i, want := range []int64{33, 33, 1} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s, answer %d: %v in %q", name, i, err, got)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != want || err != nil {
				t.Errorf("%s, answer %d: %d bytes, %v; want %d", name, i, n, err, want)
			}
		}
		if rest, _ := io.ReadAll(r); len(rest) > 0 {
			t.Errorf("%s: %q after the last answer", name, rest)
		}
	}
}

func TestRefuses(t *testing.T) {
	address := serving(t)[0]
	for name, head := range map[string]string{
		"chunks":     "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"length":     "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
		"version":    "GET / HTTP/1.0\r\n\r\n",
		"no colon":   "GET / HTTP/1.1\r\nfield\r\n\r\n",
		"size":       "GET /?size=-1 HTTP/1.1\r\n\r\n",
		"every":      "GET /?every=1us HTTP/1.1\r\n\r\n",
		"preface":    "PRI * HTTP/1.0\r\n\r\n",
		"huge heads": "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxHead),
	} {
		if got := exchange(t, address, head); got != refusal {
			t.Errorf("%s: %q, want a refusal", name, got)
		}
	}
	if err := Serve(context.Background(), nil, -1); err == nil {
		t.Error("a negative size is accepted")
	}
	if _, err := Listen([]string{"127.0.0.1:0", "no address"}); err == nil {
		t.Error("listens on no address")
	}
}
