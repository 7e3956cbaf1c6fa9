package backendtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient is a client of its own for each test, so that no connection outlives it.
func newClient(t *testing.T) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// talk sends text on a new connection and returns everything that comes until its end.
func talk(t *testing.T, addr, text string) string {
	t.Helper()
	nc := dial(t, addr)
	io.WriteString(nc, text)
	got, err := io.ReadAll(nc)
	if err != nil {
		t.Fatalf("after %q: %v", got, err)
	}
	return string(got)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(5 * time.Second))
	t.Cleanup(func() { nc.Close() })
	return nc
}

func TestResponseByteForByte(t *testing.T) {
	tests := map[string]struct {
		b             Behaviour
		request, want string
	}{
		"zero": {
			request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
			want:    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		},
		"header order, extra bytes": {
			b: Behaviour{Status: 201, Header: []Field{{"b", "1"}, {"A", "2"}}, Body: []byte("hi"), Extra: []byte("POISON"),
				AnnounceClose: true},
			request: "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
			want:    "HTTP/1.1 201 Created\r\nb: 1\r\nA: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhiPOISON",
		},
		"chunked with trailers": {
			b:       Behaviour{Chunked: true, ChunkSize: 3, Body: []byte("hello"), Trailers: []Field{{"X-T", "v"}}},
			request: "GET / HTTP/1.0\r\n\r\n",
			want:    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: v\r\n\r\n",
		},
		"head": {
			b:       Behaviour{Body: []byte("hello")},
			request: "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
			want:    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		},
		"interim": {
			b:       Behaviour{Interim: []Interim{{103, []Field{{"Link", "x"}}}}, Status: 204},
			request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
			want:    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		},
		"until close": {
			b:       Behaviour{UntilClose: true, Body: []byte("x")},
			request: "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
			want:    "HTTP/1.1 200 OK\r\n\r\nx",
		},
		"raw": {
			b:       Behaviour{Raw: []byte("BANANA\r\n\r\n"), CloseAfterResponse: true},
			request: "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
			want:    "BANANA\r\n\r\n",
		},
		"expect": {
			request: "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
			want:    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		},
		"echo": {
			b:       Behaviour{Echo: true},
			request: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
			want:    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		},
		"load report": {
			b:       Behaviour{Load: map[string]float64{"named_metrics.queue": 3, "application_utilization": 0.5}},
			request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nEndpoint-Load-Metrics-Format: text\r\n\r\n",
			want: "HTTP/1.1 200 OK\r\nendpoint-load-metrics: TEXT application_utilization=0.5, named_metrics.queue=3\r\n" +
				"Content-Length: 0\r\n\r\n",
		},
		"load report as JSON": {
			b:       Behaviour{Load: map[string]float64{"named_metrics.queue": 3, "application_utilization": 0.5}},
			request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nEndpoint-Load-Metrics-Format: json\r\n\r\n",
			want: `HTTP/1.1 200 OK` + "\r\n" + `endpoint-load-metrics: JSON {"application_utilization":0.5,"named_metrics":{"queue":3}}` +
				"\r\nContent-Length: 0\r\n\r\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := NewServer(t, tt.b)
			if diff := cmp.Diff(tt.want, talk(t, s.Addr(), tt.request)); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRecordsWhatArrived(t *testing.T) {
	s := NewServer(t, Behaviour{})
	head := "POST /a?b=c HTTP/1.1\r\nhOST: h\r\nX-B: 1\r\nx-a:  2 \r\nTransfer-Encoding: chunked\r\n\r\n"
	nc := dial(t, s.Addr())
	io.WriteString(nc, head+"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-T: v\r\n\r\n"+"GET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if _, err := io.ReadAll(nc); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("abcde"))
	want := Request{
		Method: "POST", Target: "/a?b=c", Proto: "HTTP/1.1", RawHead: []byte(head),
		Header:  []Field{{"hOST", "h"}, {"X-B", "1"}, {"x-a", "2"}, {"Transfer-Encoding", "chunked"}},
		Trailer: []Field{{"X-T", "v"}}, Length: -1, Chunked: true,
		Body: []byte("abcde"), BodyBytes: 5, BodySum: hex.EncodeToString(sum[:]), Complete: true,
		Conn: 1, Nth: 1, Remote: nc.LocalAddr().String(),
	}
	got := s.Requests()
	if len(got) != 2 {
		t.Fatalf("%d requests recorded, want 2", len(got))
	}
	if diff := cmp.Diff(want, got[0], cmp.AllowUnexported(Request{})); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if last := s.Last(); last.Path() != "/2" || last.Nth != 2 || last.Conn != 1 || last.Get("host") != "h" {
		t.Errorf("last record is %+v", last)
	}
}

func TestRefusesDoubtfulRequests(t *testing.T) {
	for name, text := range map[string]string{
		"bare LF":           "GET / HTTP/1.1\nHost: h\n\n",
		"two lengths":       "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"length and coding": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
		"signed length":     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\nx",
		"blank before ':'":  "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
		"no host":           "GET / HTTP/1.1\r\n\r\n",
		"fold":              "GET / HTTP/1.1\r\nHost: h\r\n x: y\r\n\r\n",
		"long chunk":        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
		"chunk size":        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(t, Behaviour{})
			if got := talk(t, s.Addr(), text); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("answered %q, want 400", got)
			}
			if n := s.Counts().Malformed; n != 1 || len(s.Complaints()) != 1 {
				t.Errorf("malformed = %d, complaints %q, want one", n, s.Complaints())
			}
		})
	}
}

func TestFaults(t *testing.T) {
	tests := map[string]struct {
		b    Behaviour
		head string // what arrives of the response
		err  error  // how the connection ends
	}{
		"close before head": {Behaviour{Fault: FaultCloseBeforeHead}, "", nil},
		"reset before head": {Behaviour{Fault: FaultResetBeforeHead}, "", syscall.ECONNRESET},
		"close mid body": {Behaviour{Fault: FaultCloseMidBody, Body: []byte("hello"), FaultAfter: 2},
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", nil},
		"reset mid body": {Behaviour{Fault: FaultResetMidBody, Chunked: true, Body: []byte("hello"), FaultAfter: 2},
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", syscall.ECONNRESET},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := NewServer(t, tt.b)
			nc := dial(t, s.Addr())
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			got, err := io.ReadAll(nc)
			if string(got) != tt.head || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.head, tt.err)
			}
			if c := s.Counts(); c.Requests != 1 || c.Responses != 0 || c.Canceled != 0 {
				t.Errorf("counts %+v: a fault is a request without response and no cancellation", c)
			}
		})
	}
}

func TestNoticesThatTheClientLeft(t *testing.T) {
	for name, b := range map[string]Behaviour{
		"in latency":      {Latency: time.Hour},
		"in a hang":       {Fault: FaultHangBeforeHead},
		"in a hung body":  {Fault: FaultHangMidBody, BodySize: 9, FaultAfter: 4},
		"between trickle": {BodySize: 1 << 20, WritePace: Pace{Every: time.Hour}},
		"while sending":   {BodySize: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(t, b)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", s.URL(), nil)
			if err != nil {
				t.Fatal(err)
			}
			client, ended := newClient(t), make(chan struct{})
			go func() {
				defer close(ended)
				if resp, err := client.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			s.Await("the request", func(Counts) bool { return len(s.Requests()) == 1 })
			cancel()
			<-ended
			s.Await("the cancellation", func(c Counts) bool { return c.Canceled == 1 && c.Open == 0 })
		})
	}
}

func TestIdleConnections(t *testing.T) {
	s := NewServer(t, Behaviour{})
	c := newClient(t)
	get(t, c, s.URL())
	get(t, c, s.URL())
	if n := s.Counts(); n.Connections != 1 || n.Requests != 2 {
		t.Fatalf("counts %+v, want 2 requests on 1 connection", n)
	}
	for s.CloseIdle() == 0 {
		time.Sleep(time.Millisecond) // the second answer may be on its last instruction
	}
	s.Await("the close", func(n Counts) bool { return n.Open == 0 })

	s.SetBehaviour(Behaviour{IdleTimeout: time.Millisecond})
	get(t, newClient(t), s.URL())
	s.Await("the idle close", func(n Counts) bool { return n.Connections == 2 && n.Open == 0 })

	s.SetBehaviour(Behaviour{CloseAfterResponse: true})
	resp, _ := get(t, newClient(t), s.URL())
	if resp.Close {
		t.Error("CloseAfterResponse announced the close")
	}
	s.Await("the close after the response", func(n Counts) bool { return n.Connections == 3 && n.Open == 0 })
}

func TestEarlyResponse(t *testing.T) {
	s := NewServer(t, Behaviour{Early: true, EarlyAfter: 3, Status: 413})
	nc := dial(t, s.Addr())
	io.WriteString(nc, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\nabc")
	br := bufio.NewReader(nc)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("early response: %v, %v", resp, err)
	}
	if r := s.Last(); r.Complete || r.BodyBytes != 3 {
		t.Errorf("recorded %+v, want 3 bytes of an incomplete body", r)
	}
	s.SetBehaviour(Behaviour{})
	io.WriteString(nc, "defGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
	if resp, err = http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the request after it: %v, %v", resp, err)
	}
}

func TestRatesAndScripts(t *testing.T) {
	s := NewServer(t, Behaviour{ErrorRate: 0.25, ErrorStatus: 503})
	c := newClient(t)
	failed := 0
	for range 400 {
		if resp, _ := get(t, c, s.URL()); resp.StatusCode == 503 {
			failed++
		}
	}
	if failed < 65 || failed > 135 { // 100 ± 4 standard deviations
		t.Errorf("%d of 400 failed, want about 100", failed)
	}

	s.SetBehaviour(Behaviour{Respond: func(r *Request) Behaviour {
		return Behaviour{Body: []byte(r.Path())}
	}})
	if _, body := get(t, c, s.URL()+"/x?y"); body != "/x" {
		t.Errorf("scripted body %q, want /x", body)
	}
}

func TestProbesAreApart(t *testing.T) {
	s := NewServer(t, Behaviour{Status: 500, Health: Health{Path: "/up", Status: 204}})
	if resp, _ := get(t, newClient(t), s.URL()+"/up"); resp.StatusCode != 204 {
		t.Errorf("probe answered %d, want 204", resp.StatusCode)
	}
	if n := s.Counts(); n.Probes != 1 || n.Requests != 0 || len(s.Probes()) != 1 || len(s.Requests()) != 0 {
		t.Errorf("counts %+v, want one probe and no request", n)
	}
}

func TestStopAndStart(t *testing.T) {
	s := NewServer(t, Behaviour{})
	addr := s.Addr()
	get(t, newClient(t), s.URL())
	s.Stop()
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to a stopped server: %v, want refused", err)
	}
	s.Start()
	if s.Addr() != addr {
		t.Errorf("started again on %s, want %s", s.Addr(), addr)
	}
	get(t, newClient(t), s.URL())
	s.ResetAll()
}

func TestBodiesOfAnySize(t *testing.T) {
	const size = 5<<20 + 3
	want, err := io.ReadAll(Pattern(size))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]Behaviour{
		"sized": {BodySize: size}, "chunked": {BodySize: size, Chunked: true}, "echo": {Echo: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(t, b)
			resp, err := newClient(t).Post(s.URL(), "application/octet-stream", Pattern(size))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes (%v), want the pattern's %d", len(got), err, size)
			}
			sum := sha256.Sum256(want)
			if r := s.Last(); r.BodySum != hex.EncodeToString(sum[:]) || len(r.Body) != keptBody || !r.Complete {
				t.Errorf("recorded %d bytes, sum %s, complete %v", r.BodyBytes, r.BodySum, r.Complete)
			}
			if n := s.Counts(); n.BytesIn < size || n.BytesOut < size {
				t.Errorf("counted %d bytes in and %d out, want more than %d each", n.BytesIn, n.BytesOut, size)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	addr := Raw(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1))
		io.WriteString(nc, "HTTP/1.1 20")
		Reset(nc)
	})
	nc := dial(t, addr)
	io.WriteString(nc, "x")
	if got, err := io.ReadAll(nc); string(got) != "HTTP/1.1 20" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v; want the script's bytes and a reset", got, err)
	}
	dial(t, Raw(t, func(nc net.Conn) { io.Copy(io.Discard, nc) })) // ends with the test
}

func TestPortsThatDoNotServe(t *testing.T) {
	if _, err := net.Dial("tcp", Refused(t)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to Refused: %v", err)
	}
	var timeout net.Error
	if _, err := net.DialTimeout("tcp", Unanswered(t), 20*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("connecting to Unanswered: %v, want a timeout", err)
	}
}
