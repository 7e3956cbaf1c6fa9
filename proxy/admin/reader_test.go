package admin

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"weir/internal/certificate"
	"weir/internal/certificate/certificatetest"
)

// event is one as a reader sees it. One without a type is an ID alone.
type event struct{ id, kind, data string }

// reader reads a stream.
type reader struct {
	t     *testing.T
	resp  *http.Response
	lines *bufio.Scanner
	other []string // comments and retry, so far
}

// stream opens a stream over http.DefaultTransport.
func (a *api) stream(query string, header ...string) *reader {
	a.t.Helper()
	return a.streamBy(http.DefaultTransport, query, header...)
}

func (a *api) streamBy(transport http.RoundTripper, query string, header ...string) *reader {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	a.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/api/v1/events"+query, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		text, _ := io.ReadAll(resp.Body)
		a.t.Fatalf("%s %v %s", resp.Status, resp.Header, text)
	}
	r := &reader{t: a.t, resp: resp, lines: bufio.NewScanner(resp.Body)}
	r.lines.Buffer(nil, 1<<20)
	return r
}

// next is the next event; false when the stream has ended as it should.
func (r *reader) next() (e event, ok bool) {
	r.t.Helper()
	some := false
	for r.lines.Scan() {
		name, value, _ := strings.Cut(r.lines.Text(), ": ")
		switch name {
		case "id":
			e.id, some = value, true
		case "event":
			e.kind, some = value, true
		case "data":
			e.data, some = value, true
		case "":
			if value == "" && some {
				return e, true
			}
			fallthrough
		default:
			if text := r.lines.Text(); text != "" {
				r.other = append(r.other, text)
			}
		}
	}
	if err := r.lines.Err(); err != nil || some {
		r.t.Errorf("the stream was cut off: %v %v", e, err)
	}
	return e, false
}

// want reads the next event that is more than an ID, of a type, and decodes its data.
func want[T any](r *reader, kind string) (v T, id string) {
	r.t.Helper()
	e, ok := r.next()
	for ok && e.kind == "" {
		e, ok = r.next()
	}
	if !ok || e.kind != kind || e.id == "" {
		r.t.Fatalf("%+v %v, want %s", e, ok, kind)
	}
	d := json.NewDecoder(strings.NewReader(e.data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		r.t.Fatalf("%v in %s", err, e.data)
	}
	return v, e.id
}

// start reads the ID that a stream begins with.
func (r *reader) start() string {
	r.t.Helper()
	e, ok := r.next()
	if !ok || e.kind != "" || e.data != "" || e.id == "" {
		r.t.Fatalf("a stream begins with %+v", e)
	}
	return e.id
}

// impatient has a server with little time for requests, and for streams what a test can wait for.
func impatient(_ *Options, s *Server) {
	if s != nil {
		s.http.ReadTimeout, s.http.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
		s.streams.heartbeat = 50 * time.Millisecond
	}
}

// overTLS has a server speak TLS, and returns a client of HTTP/2 for it.
func overTLS(t *testing.T) (func(*Options, *Server), *http.Transport) {
	ca := certificatetest.New(t)
	cert, key := ca.Issue(t, time.Hour, "weir.example.com").Write(t, t.TempDir())
	w, err := certificate.Watch(cert, key, certificate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	two := new(http.Protocols)
	two.SetHTTP2(true)
	client := &http.Transport{Protocols: two, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "weir.example.com"}}
	t.Cleanup(client.CloseIdleConnections)
	return func(o *Options, _ *Server) { o.GetCertificate = w.GetCertificate }, client
}
