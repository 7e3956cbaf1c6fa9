package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"weir/backend/backendtest"
)

// The differential tests send the same doubtful bytes through weir, nginx and HAProxy to an endpoint that says how it
// has read them, and to net/http. Smuggling needs two who read the same bytes differently: so what weir lets through
// has to be read by all as weir did, and what it lets through that nobody else does is on a list, with the reason.

// reader is one of those that read a client's bytes: the proxy at addr, before endpoint ep.
type reader struct {
	name string
	addr string
	ep   *recorder
}

// recorder is an endpoint that keeps the bytes of each connection. It answers the first request on one, by net/http's
// reading, says in X-Read how it read that, and takes whatever comes behind it.
type recorder struct {
	addr   string
	answer string // what it answers instead, if not empty; may change between two inputs

	mu    sync.Mutex
	conns []*recorded
	open  int
}

type recorded struct {
	raw  bytes.Buffer
	read []string
}

func newRecorder(t testing.TB) *recorder {
	rec := &recorder{}
	rec.addr = backendtest.Raw(t, rec.serve)
	return rec
}

func (rec *recorder) serve(nc net.Conn) {
	c := &recorded{}
	rec.mu.Lock()
	rec.conns, rec.open = append(rec.conns, c), rec.open+1
	answer := rec.answer
	rec.mu.Unlock()
	defer func() {
		rec.mu.Lock()
		rec.open--
		rec.mu.Unlock()
	}()
	tee := io.TeeReader(nc, &c.raw)
	read, err := readingOf(bufio.NewReader(tee))
	if err != nil {
		return
	}
	c.read = append(c.read, read)
	if answer != "" {
		_, _ = io.WriteString(nc, answer)
		return
	}
	answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\nX-Read: " + url.QueryEscape(read) + "\r\n\r\n"
	if _, err := io.WriteString(nc, answer); err == nil {
		_ = nc.(interface{ CloseWrite() error }).CloseWrite()
		_, _ = io.Copy(io.Discard, tee)
	}
}

// take returns what came since the last time, after its end.
func (rec *recorder) take(t testing.TB) (conns []*recorded) {
	t.Helper()
	eventually(t, "the end of all connections to the endpoint", func() bool {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		if rec.open == 0 {
			conns, rec.conns = rec.conns, nil
		}
		return rec.open == 0
	})
	return conns
}

// readingOf is how net/http reads the next request.
func readingOf(br *bufio.Reader) (string, error) {
	q, err := http.ReadRequest(br)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return "", err
	}
	return reading(q.Method, q.URL.Path, body), nil
}

func reading(method, target string, body []byte) string {
	if target != "*" {
		target = path.Clean("/" + target)
	}
	return fmt.Sprintf("%s %s %q", method, target, body)
}

// netHTTP is how net/http reads all that a client sent. It knows no other reader's tolerance of empty lines before
// a request.
func netHTTP(input string) (read []string) {
	br := bufio.NewReader(strings.NewReader(input))
	for {
		for b, _ := br.Peek(1); len(b) > 0 && (b[0] == '\r' || b[0] == '\n'); b, _ = br.Peek(1) {
			_, _ = br.Discard(1)
		}
		r, err := readingOf(br)
		if err != nil {
			return read
		}
		read = append(read, r)
	}
}

// exchange sends input on a connection of its own, then its end, and returns all that comes back.
func (p *reader) exchange(t testing.TB, input string) []byte {
	t.Helper()
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	defer nc.Close()
	w := newWire(nc)
	w.send(input)
	_ = nc.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(w.br)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("%s keeps its side open after %q", p.name, input)
	}
	return answer
}

// reads returns the requests of input that p let through, up to the first that it did not, as the endpoint read them.
func (p *reader) reads(t testing.TB, input string) (read []string) {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(p.exchange(t, input)))
	for {
		a, err := http.ReadResponse(br, nil)
		if err != nil {
			return read
		}
		if a.StatusCode < 200 {
			continue
		}
		said, err := url.QueryUnescape(a.Header.Get("X-Read"))
		if a.StatusCode != 200 || err != nil || said == "" {
			return read
		}
		read = append(read, said)
	}
}

const differNginx = `
daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr emerg;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen %[2]s;
        client_header_timeout 5s;
        client_max_body_size 64m;
        location / {
            proxy_pass http://%[3]s;
            proxy_http_version 1.1;
            proxy_ignore_client_abort on;
        }
    }
}
`

const differHAProxy = `
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    timeout http-request 5s
    http-reuse never
frontend in
    bind %[2]s
    default_backend out
backend out
    server one %[3]s
`

// newPeer starts nginx or HAProxy before an endpoint of its own.
func newPeer(t testing.TB, name, text string, args func(file, dir string) []string) *reader {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		program = "/usr/sbin/" + name
	}
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &reader{name: name, addr: ln.Addr().String(), ep: newRecorder(t)}
	_ = ln.Close()
	file := filepath.Join(dir, name+".conf")
	text = fmt.Sprintf(text, dir, p.addr, p.ep.addr)
	if name == "nginx" && os.Geteuid() == 0 {
		text = "user root;\n" + text // the folders are the test's
	}
	if err := os.WriteFile(file, []byte(strings.TrimLeft(text, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &lockedBuffer{}
	cmd := exec.Command(program, args(file, dir)...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s (scripts/setup.sh peers installs it): %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, said)
		}
	})
	eventually(t, name+" listens", func() bool {
		nc, err := net.Dial("tcp", p.addr)
		return err == nil && nc.Close() == nil
	})
	p.ep.take(t)
	return p
}

func newPeers(t testing.TB) []*reader {
	return []*reader{
		newPeer(t, "nginx", differNginx, func(file, dir string) []string { return []string{"-c", file, "-p", dir, "-e", "stderr"} }),
		newPeer(t, "haproxy", differHAProxy, func(file, _ string) []string { return []string{"-q", "-f", file} }),
	}
}

// strictly checks that the bytes of every connection from weir are one request, or the beginning of one, to a strict
// parser as to net/http, and nothing else. It returns the whole ones, and adds the sizes of their bodies to through.
func strictly(t testing.TB, input string, conns []*recorded, through map[string]int64) (read []string) {
	t.Helper()
	for _, c := range conns {
		w := &wire{br: bufio.NewReader(bytes.NewReader(c.raw.Bytes()))}
		m, err := w.readHead()
		if err == nil {
			err = w.readRequestBody(m, nil)
		}
		rest, _ := io.ReadAll(w.br)
		_, malformed := err.(malformedError)
		if malformed || len(rest) > 0 || (err == nil) != (len(c.read) == 1) {
			t.Errorf("%q became %q: %v, %q behind it, net/http reads %q", input, c.raw.Bytes(), err, rest, c.read)
		}
		if err != nil {
			continue
		}
		u, err := url.ParseRequestURI(m.target())
		if err != nil || reading(m.method(), u.Path, m.body) != c.read[0] {
			t.Errorf("%q became %q, which net/http reads as %q", input, c.raw.Bytes(), c.read)
		}
		read = append(read, c.read...)
		through[m.get("X-Request-ID")] = m.size
	}
	return read
}

// TestEdgeDifferentialRequests: see above. With WEIR_PROVE there are many more mutations.
func TestEdgeDifferentialRequests(t *testing.T) {
	logs := &lockedBuffer{}
	weir := &reader{name: "weir", ep: newRecorder(t)}
	r := start(t, setup{endpoints: []string{weir.ep.addr}, log: logs})
	weir.addr = r.addr
	peers := newPeers(t)
	mutations := 150
	if os.Getenv("WEIR_PROVE") != "" {
		mutations = 20000
	}
	inputs := slices.Concat(doubtfulRequests(), mutated(doubtfulRequests(), mutations))
	through, met := map[string]int64{}, map[string]bool{}
	for _, input := range inputs {
		read := weir.reads(t, input)
		whole := strictly(t, input, weir.ep.take(t), through)
		if len(whole) < len(read) || !slices.Equal(whole[:len(read)], read) {
			t.Errorf("%q: the client has answers to %q, the endpoint got %q", input, read, whole)
		}
		others := map[string][]string{"net/http": netHTTP(input)}
		why := compare(t, peers, input, read, others)
		names := reviewed(input, read)
		for _, name := range names {
			met[name] = met[name] || why == refusedElsewhere
		}
		if why != "" && (why != refusedElsewhere || names == nil) {
			t.Errorf("%q: %s\nweir:     %q\nnet/http: %q\nnginx:    %q\nHAProxy:  %q", input, why, read, others["net/http"], others["nginx"], others["haproxy"])
		}
	}
	for _, d := range differences {
		if !met[d.name] {
			t.Errorf("nothing meets %q (%s): the list is longer than it has to be", d.name, d.reason)
		}
	}
	if len(through) < len(doubtfulRequests())/4 {
		t.Errorf("only %d requests of %d inputs went through: the test tests little", len(through), len(inputs))
	}
	eventually(t, "all requests in weir's access log", func() bool { return accounted(t, logs.String(), through) })
}

// accounted reports whether all of the requests that went through, by their IDs, are in the access log; each has to be
// there once, with a body of this size, and every one that was answered with 200 has to be one of them.
func accounted(t testing.TB, log string, through map[string]int64) bool {
	t.Helper()
	n := 0
	for line := range strings.Lines(log) {
		var e struct {
			RequestID string `json:"request_id"`
			Status    int    `json:"status"`
			BytesIn   int64  `json:"bytes_in"`
		}
		if !strings.HasSuffix(line, "\n") {
			break // there is more to come
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q in the access log: %v", line, err)
		}
		size, went := through[e.RequestID]
		if went && size != e.BytesIn || !went && e.Status == 200 {
			t.Fatalf("weir has counted %s, of which the endpoint got %v a body of %d bytes", line, went, size)
		}
		if went {
			n++
		}
	}
	if n > len(through) {
		t.Fatalf("weir has counted %d requests, the endpoint got %d", n, len(through))
	}
	return n == len(through)
}

const refusedElsewhere = "weir lets through what both nginx and HAProxy refuse"

// compare has the peers read input as well, and says how weir's reading is at odds with theirs; "" where it is not.
// HAProxy forgets a second request where the end of the connection is there before it, so it gets a few chances.
func compare(t testing.TB, peers []*reader, input string, read []string, others map[string][]string) (why string) {
	for range 4 {
		for _, p := range peers {
			others[p.name] = p.reads(t, input)
			p.ep.take(t)
		}
		if why = differs(read, others); why != refusedElsewhere {
			break
		}
	}
	return why
}

func differs(read []string, others map[string][]string) string {
	most := 0
	for _, name := range []string{"net/http", "nginx", "haproxy"} {
		other := others[name]
		n := min(len(read), len(other))
		if !slices.Equal(read[:n], other[:n]) {
			return "weir and " + name + " read different requests"
		}
		if name != "net/http" {
			most = max(most, n)
		} else if n < len(read) {
			return "weir lets through what net/http does not read"
		}
	}
	if most < len(read) {
		return refusedElsewhere
	}
	return ""
}
