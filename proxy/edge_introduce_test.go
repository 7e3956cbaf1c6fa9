package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// forwardedFor answers every request with the client that weir names.
func forwardedFor(s *served) {
	for m := s.request(); m != nil; m = s.request() {
		text := m.get("X-Forwarded-For") + " " + m.get("X-Real-IP")
		s.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text))
	}
}

const introduction2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x07\x07\x07\x07\x7f\x00\x00\x01\x30\x39\x00\x50"

// TestEdgeIntroduced: the client is who the header says, for endpoints, rate limits, networks and trusted proxies.
func TestEdgeIntroduced(t *testing.T) {
	ep := newEndpoint(t, forwardedFor)
	r := start(t, setup{
		endpoints: []string{ep.addr}, listener: "proxy_protocol: true", top: "trusted_proxies: [9.9.9.0/24]",
		route: "deny: [6.6.6.6]\nrate_limit: {rate: 1/h, burst: 1, key: client_ip}",
	})
	const get = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 5.5.5.5\r\n\r\n"
	for _, c := range []struct {
		header string
		status int
		body   string
	}{
		{"PROXY TCP4 1.2.3.4 10.0.0.1 12345 80\r\n", 200, "1.2.3.4 1.2.3.4"},
		{"PROXY TCP4 1.2.3.4 10.0.0.1 12346 80\r\n", 429, ""},
		{"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n", 200, "2001:db8::7 2001:db8::7"},
		{"PROXY TCP4 6.6.6.6 10.0.0.1 12345 80\r\n", 403, ""},
		{"PROXY TCP4 9.9.9.9 10.0.0.1 12345 80\r\n", 200, "5.5.5.5, 9.9.9.9 5.5.5.5"},
		{introduction2, 200, "7.7.7.7 7.7.7.7"},
		{"PROXY UNKNOWN\r\n", 200, "127.0.0.1 127.0.0.1"},
	} {
		for i, parts := range [][]string{{c.header + get}, {c.header, get}, {c.header[:7], c.header[7:] + get}} {
			if i > 0 && (c.status != 200 || c.body == "") {
				continue
			}
			cl := r.dial(t)
			for _, p := range parts {
				cl.send(p)
			}
			want := c.status
			if i > 0 { // the limit is the client's, not the connection's
				want = 429
			}
			if m := cl.answer("GET"); m.status() != want || want == 200 && string(m.body) != c.body {
				t.Errorf("%q, %d: %q %q; want %d %q", c.header, i, m.start, m.body, want, c.body)
			}
		}
	}
}

// TestEdgeIntroducedOverTLS: the header stands before the handshake, and comes with its first bytes or before them.
func TestEdgeIntroducedOverTLS(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, forwardedFor)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}, listener: "proxy_protocol: true\n"})
	for _, together := range []bool{true, false} {
		nc, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		under := nc
		if together {
			under = &prefixed{Conn: nc, prefix: introduction2}
		} else {
			io.WriteString(nc, introduction2)
		}
		c := &client{newWire(tls.Client(under, k.client())), t}
		for range 2 {
			if m := c.get("/"); m.status() != 200 || string(m.body) != "7.7.7.7 7.7.7.7" {
				t.Errorf("%s %q", m.start, m.body)
			}
		}
	}
}

// prefixed sends prefix with what is written first.
type prefixed struct {
	net.Conn
	prefix string
}

func (p *prefixed) Write(b []byte) (int, error) {
	if p.prefix == "" {
		return p.Conn.Write(b)
	}
	first := append([]byte(p.prefix), b...)
	p.prefix = ""
	if n, err := p.Conn.Write(first); err != nil {
		return max(n-len(first)+len(b), 0), err
	}
	return len(b), nil
}

// TestEdgeNotIntroduced: a connection without a header is closed, and not answered.
func TestEdgeNotIntroduced(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "proxy_protocol: true\ntimeouts: {header: 200ms}"})
	starts := []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "PROXY TCP4 1.2.3.4\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "PROXY", "PROXY TCP4 1.2.3.4 ", introduction2[:20], "",
	}
	for _, s := range starts {
		c := r.dial(t)
		c.send(s)
		c.closed()
	}
	if got := ep.got(); len(got) != 0 {
		t.Errorf("the endpoint got %q", got)
	}
	// Nothing at all is an idle connection's end, and no bad header.
	if n := sum(r.metrics(t), "weir_bad_requests_total", `reason="proxy_protocol"`); n != float64(len(starts)-1) {
		t.Errorf("%v bad headers counted, want %d", n, len(starts)-1)
	}
}

// TestEdgeSlowIntroduction: clients that are slow to say who they are hold nobody up.
func TestEdgeSlowIntroduction(t *testing.T) {
	ep := newEndpoint(t, forwardedFor)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: "proxy_protocol: true\ntimeouts: {header: 1m}"})
	var slow []*client
	for range 50 {
		c := r.dial(t)
		c.send("PROXY TCP4 1.2")
		slow = append(slow, c)
	}
	for range 20 {
		c := r.dial(t)
		c.send("PROXY TCP4 8.8.8.8 10.0.0.1 12345 80\r\n")
		if m := c.get("/"); string(m.body) != "8.8.8.8 8.8.8.8" {
			t.Fatalf("%q %q", m.start, m.body)
		}
	}
	for _, c := range slow {
		c.send(".3.4 10.0.0.1 12345 80\r\n")
		if m := c.get("/"); string(m.body) != "1.2.3.4 1.2.3.4" {
			t.Fatalf("%q %q", m.start, m.body)
		}
	}
}

// TestEdgeIntroducedByOthers: HAProxy stands before weir and introduces a client that comes from 127.0.0.7, and curl
// introduces itself.
func TestEdgeIntroducedByOthers(t *testing.T) {
	ep := newEndpoint(t, forwardedFor)
	for _, send := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"} {
		t.Run("HAProxy, "+send, func(t *testing.T) {
			r := start(t, setup{endpoints: []string{ep.addr}, listener: "proxy_protocol: true"})
			addr := haproxy(t, r.addr, send)
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}).DialContext}}
			defer client.CloseIdleConnections()
			var body string
			eventually(t, "an answer", func() bool {
				res, err := client.Get("http://" + addr + "/")
				if err != nil {
					return false // it is starting
				}
				defer res.Body.Close()
				text, err := io.ReadAll(res.Body)
				body = string(text)
				return err == nil && res.StatusCode == 200
			})
			if body != "127.0.0.7 127.0.0.7" {
				t.Errorf("the endpoint was told of %q", body)
			}
		})
	}
	t.Run("curl", func(t *testing.T) {
		r := start(t, setup{endpoints: []string{ep.addr}, listener: "proxy_protocol: true"})
		out, err := exec.Command("curl", "-sS", "--max-time", "10", "--interface", "127.0.0.8", "--haproxy-protocol", "http://"+r.addr+"/").CombinedOutput()
		if err != nil || string(out) != "127.0.0.8 127.0.0.8" {
			t.Errorf("curl: %v: %s", err, out)
		}
	})
}

// haproxy runs one that sends its clients to weir, whom it tells who they are, and returns its address.
func haproxy(t *testing.T, weir, send string) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal("haproxy is not there: scripts/setup.sh installs it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n" +
		"frontend f\n  bind " + addr + "\n  default_backend b\nbackend b\n  server s " + weir + " " + send + "\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	peer(t, addr, path, "-db", "-f", file)
	return addr
}
