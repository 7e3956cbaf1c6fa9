package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"weir/proxy"
)

// h2Client is net/http's client over HTTP/2 without TLS, so that weir is tested with a peer that is not its own.
func h2Client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// call makes a request of a client and reads the answer.
func call(t testing.TB, c *http.Client, q *http.Request) (*http.Response, []byte) {
	t.Helper()
	a, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatalf("%s: %v after %d bytes", a.Status, err, len(body))
	}
	if a.ProtoMajor != 2 {
		t.Errorf("the answer came over %s", a.Proto)
	}
	return a, body
}

func requestTo(t testing.TB, r *running, method, path string, body io.Reader) *http.Request {
	t.Helper()
	q, err := http.NewRequest(method, "http://"+r.addr+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// unsized hides how long a body is.
type unsized struct{ io.Reader }

func TestH2ServerCarriesRequests(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}})
	c := h2Client(t)
	for _, q := range []struct {
		method string
		body   io.Reader
		want   string // the body at the endpoint
		framed string
	}{
		{"GET", nil, "", ""},
		{"HEAD", nil, "", ""},
		{"POST", strings.NewReader("hello"), "hello", "length"},
		{"POST", unsized{strings.NewReader("hello")}, "hello", ""},
		{"POST", http.NoBody, "", "length"},
		{"PUT", bytes.NewReader(make([]byte, 3<<20)), string(make([]byte, 3<<20)), "length"},
		{"PUT", unsized{bytes.NewReader(make([]byte, 3<<20))}, string(make([]byte, 3<<20)), "chunks"},
	} {
		a, body := call(t, c, requestTo(t, r, q.method, "/x?y=1", q.body))
		want := "ok"
		if q.method == "HEAD" {
			want = ""
		}
		if a.StatusCode != 200 || string(body) != want || a.ContentLength != 2 {
			t.Errorf("%s: %s %q, length %d", q.method, a.Status, body, a.ContentLength)
		}
		if a.Header.Get("X-Weir-Variant") != "blue" || a.Header.Get("X-Request-ID") == "" || a.Header.Get("Connection") != "" {
			t.Errorf("%s: %v", q.method, a.Header)
		}
		got := ep.last(t)
		if got.start != q.method+" /x?y=1 HTTP/1.1" || string(got.body) != q.want || got.get("Host") != r.addr {
			t.Errorf("the endpoint got %q of %q with %d bytes", got.start, got.get("Host"), got.size)
		}
		if q.framed == "length" && got.get("Content-Length") != fmt.Sprint(len(q.want)) || q.framed == "chunks" && got.get("Transfer-Encoding") != "chunked" {
			t.Errorf("%s: framed by %v", q.method, got.fields)
		}
		if got.get("X-Forwarded-For") != "127.0.0.1" || got.get("X-Forwarded-Proto") != "http" {
			t.Errorf("%s: forwarded %v", q.method, got.fields)
		}
	}
}

func TestH2ServerLargeBodiesBothWays(t *testing.T) {
	const size = 20 << 20
	e := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		_, _ = w.Write(b)
	})
	r := start(t, setup{endpoints: []string{e}, listener: "limits: {body: 64MiB}"})
	c := h2Client(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			b := bytes.Repeat([]byte{byte(i), 1, 2, 3, 5, 7, 11}, size/7)
			a, err := c.Do(requestTo(t, r, "POST", "/", bytes.NewReader(b)))
			if err != nil {
				t.Error(err)
				return
			}
			defer a.Body.Close()
			h := sha256.New()
			n, err := io.Copy(h, a.Body)
			if err != nil || n != int64(len(b)) || [32]byte(h.Sum(nil)) != sha256.Sum256(b) {
				t.Errorf("%d bytes, %v, want %d", n, err, len(b))
			}
		})
	}
	wg.Wait()
}

// newH1 is a server of net/http's.
func newH1(t testing.TB, handler http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return ln.Addr().String()
}

func TestH2ServerTrailersBothWays(t *testing.T) {
	e := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = w.Write(body)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", q.Trailer.Get("X-Check"))
	})
	r := start(t, setup{endpoints: []string{e}})
	q := requestTo(t, r, "POST", "/", unsized{strings.NewReader("body")})
	q.Trailer = http.Header{"X-Check": []string{"4711"}}
	a, body := call(t, h2Client(t), q)
	if string(body) != "body" || a.Trailer.Get("X-Sum") != "4711" {
		t.Errorf("%q, trailers %v", body, a.Trailer)
	}
}

func TestH2ServerManyStreams(t *testing.T) {
	e := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.WriteString(w, q.URL.Path)
	})
	r := start(t, setup{endpoints: []string{e}, pool: "connections: {connect_timeout: 60s}"})
	var wg sync.WaitGroup
	for range 4 {
		c := h2Client(t)
		for i := range 250 {
			wg.Go(func() {
				path := fmt.Sprintf("/%d", i)
				a, err := c.Do(requestTo(t, r, "GET", path, nil))
				if err != nil {
					t.Error(err)
					return
				}
				defer a.Body.Close()
				if body, err := io.ReadAll(a.Body); err != nil || string(body) != path {
					t.Errorf("%s: %q, %v", path, body, err)
				}
			})
		}
	}
	wg.Wait()
	eventually(t, "the end of all requests", func() bool { return proxy.Leftovers(r.Proxy) == nil })
}

func TestH2ServerClientGone(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	e := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		if strings.HasSuffix(q.URL.Path, "begun") {
			_, _ = io.WriteString(w, "some")
			w.(http.Flusher).Flush()
		}
		arrived <- struct{}{}
		<-q.Context().Done()
		gone <- struct{}{}
	})
	r := start(t, setup{endpoints: []string{e}})
	c := h2Client(t)
	for _, path := range []string{"/await", "/begun"} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() {
			a, err := c.Do(requestTo(t, r, "GET", path, nil).WithContext(ctx))
			if err == nil {
				_, err = io.ReadAll(a.Body)
				_ = a.Body.Close()
			}
			ended <- err
		}()
		<-arrived
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		<-gone
	}
	eventually(t, "status 499", func() bool { return sum(r.metrics(t), "weir_requests_total", `code="499"`) == 2 })
}

func TestH2ServerTruncation(t *testing.T) {
	for name, answer := range map[string]string{
		"sized":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			ep := newEndpoint(t, func(s *served) {
				if s.request() != nil {
					s.send(answer)
				}
			})
			r := start(t, setup{endpoints: []string{ep.addr}})
			a, err := h2Client(t).Do(requestTo(t, r, "GET", "/", nil))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			body, err := io.ReadAll(a.Body)
			if err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") || string(body) != "short" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}
