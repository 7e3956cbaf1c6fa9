package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/config"
	"weir/internal/certificate/certificatetest"
)

// server is the configuration of an endpoint with a certificate for these names, beside localhost and 127.0.0.1.
func (k *keeper) server(names ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{k.certificate(names...)}, NextProtos: []string{"http/1.1"}}
}

// newTLSEndpoint is newEndpoint over TLS.
func newTLSEndpoint(t testing.TB, c *tls.Config, script func(*served)) *endpoint {
	return newEndpointOver(t, func(nc net.Conn) net.Conn {
		s := tls.Server(nc, c)
		_ = s.Handshake() // a failure, the script meets
		return s
	}, script)
}

// trusting are the lines of a pool that trusts the authority.
func (k *keeper) trusting(more string) string {
	return fmt.Sprintf("tls: {ca: %q%s}\n", k.file("ca.crt", k.PEM()), more)
}

func TestEdgeTLSToEndpoints(t *testing.T) {
	k, other := newKeeper(t), newKeeper(t)
	mutual := k.server()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, k.Pool()
	old := k.server()
	old.MaxVersion = tls.VersionTLS12
	pairOf := func(k *keeper) string {
		cert, key := k.Issue(t, time.Hour).Write(t, t.TempDir())
		return fmt.Sprintf(", cert: %q, key: %q", cert, key)
	}
	for name, c := range map[string]struct {
		server *tls.Config
		lines  string
		host   string // instead of 127.0.0.1
		fails  string // what the log says
	}{
		"trusted":                    {server: k.server(), lines: k.trusting("")},
		"by name":                    {server: k.server(), lines: k.trusting(""), host: "localhost"},
		"by another name":            {server: k.server("models.example.com"), lines: k.trusting(", server_name: models.example.com")},
		"wrong name":                 {server: k.server(), lines: k.trusting(", server_name: models.example.com"), fails: "not models.example.com"},
		"authority of somebody else": {server: other.server(), lines: k.trusting(""), fails: "unknown authority"},
		"authorities of the system":  {server: k.server(), lines: "tls: {}\n", fails: "unknown authority"},
		"any certificate":            {server: other.server(), lines: "tls: {insecure_skip_verify: true}\n"},
		"TLS 1.2":                    {server: old, lines: k.trusting("")},
		"too old":                    {server: old, lines: k.trusting(", min_version: 1.3"), fails: "protocol version"},
		"mutual":                     {server: mutual, lines: k.trusting(pairOf(k))},
		"plain HTTP":                 {lines: k.trusting(""), fails: "does not look like a TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			ep := newTLSEndpoint(t, c.server, serveOK)
			if c.server == nil {
				ep = newEndpoint(t, func(s *served) {
					_, _ = s.br.ReadByte()
					s.send("HTTP/1.1 400 Bad Request\r\n\r\n")
					_, _ = s.br.ReadBytes(0)
				})
			}
			addr := ep.addr
			if c.host != "" {
				addr = strings.Replace(addr, "127.0.0.1", c.host, 1)
			}
			r := start(t, setup{endpoints: []string{addr}, pool: c.lines, options: oneLoop})
			cl := r.dial(t)
			for range 3 {
				m := cl.get("/")
				if c.fails != "" {
					cl.refused(m, 502)
					if !strings.Contains(r.logs.String(), c.fails) {
						t.Errorf("the log has no %q: %s", c.fails, r.logs)
					}
					return
				}
				if m.status() != 200 || string(m.body) != "ok" {
					t.Fatalf("%s %q", m.start, m.body)
				}
			}
			if accepted, _, _ := ep.counts(); accepted != 1 {
				t.Errorf("%d connections for three requests", accepted)
			}
		})
	}
}

// TestEdgeTLSEndpointAsksForACertificate: without the right one TLS 1.3 fails only after weir's side of the handshake.
func TestEdgeTLSEndpointAsksForACertificate(t *testing.T) {
	k := newKeeper(t)
	server := k.server()
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, k.Pool()
	r := start(t, setup{endpoints: []string{newTLSEndpoint(t, server, serveOK).addr}, pool: k.trusting("")})
	cl := r.dial(t)
	cl.refused(cl.get("/"), 502)
}

// TestEdgeTLSTicketsAreNoAnswer uploads a body while the tickets of the handshake come in: they are no early answer.
func TestEdgeTLSTicketsAreNoAnswer(t *testing.T) {
	k := newKeeper(t)
	ep := newTLSEndpoint(t, k.server(), serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, pool: k.trusting("")})
	for _, chunked := range []bool{false, true} {
		cl := r.dial(t)
		piece := strings.Repeat("x", 20_000)
		head, framed, end := fmt.Sprintf("Content-Length: %d", 6*len(piece)), piece, ""
		if chunked {
			head, framed, end = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece), "0\r\n\r\n"
		}
		cl.send("POST / HTTP/1.1\r\nHost: h\r\n" + head + "\r\n\r\n")
		for range 6 {
			cl.send(framed)
			time.Sleep(150 * time.Millisecond) // more than a sweep of the watch, which looks for early answers
		}
		cl.send(end)
		if m := cl.answer("POST"); m.status() != 200 {
			t.Fatalf("%s %q", m.start, m.body)
		}
		if n := len(ep.last(t).body); n != 6*len(piece) {
			t.Errorf("%d bytes of %d", n, 6*len(piece))
		}
	}
}

func TestEdgeTLSEarlyAnswer(t *testing.T) {
	k := newKeeper(t)
	ep := newTLSEndpoint(t, k.server(), func(s *served) {
		if s.head() != nil {
			s.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			_, _ = s.br.ReadByte()
			for {
				if _, err := s.br.Discard(1); err != nil {
					return
				}
			}
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, pool: k.trusting("")})
	cl := r.dial(t)
	cl.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 30_000))
	if m := cl.answer("POST"); m.status() != 413 || string(m.body) != "no" {
		t.Errorf("%s %q", m.start, m.body)
	}
}

// TestEdgeTLSTruncation: an answer that ends with the connection is whole only where the endpoint says over TLS that it
// is.
func TestEdgeTLSTruncation(t *testing.T) {
	k := newKeeper(t)
	for _, honest := range []bool{true, false} {
		ep := newTLSEndpoint(t, k.server(), func(s *served) {
			if s.request() == nil {
				return
			}
			s.send("HTTP/1.1 200 OK\r\n\r\nsome of it")
			c := s.Conn.(*tls.Conn)
			if honest {
				_ = c.CloseWrite()
			}
			_ = c.NetConn().(*net.TCPConn).CloseWrite()
		})
		r := start(t, setup{endpoints: []string{ep.addr}, pool: k.trusting("")})
		cl := r.dial(t)
		cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		m, _, err := cl.readResponse("GET")
		if (err == nil) != honest {
			t.Errorf("close_notify %v: %v", honest, err)
		}
		if honest && string(m.body) != "some of it" {
			t.Errorf("body %q", m.body)
		}
	}
}

// TestEdgeTLSSlowHandshake: connect_timeout bounds the handshake.
func TestEdgeTLSSlowHandshake(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, func(s *served) {
		for {
			if _, err := s.br.ReadByte(); err != nil {
				return
			}
		}
	})
	r := start(t, setup{endpoints: []string{ep.addr}, pool: k.trusting("") + "connections: {connect_timeout: 200ms}\n"})
	cl := r.dial(t)
	cl.refused(cl.get("/"), 502)
	if !strings.Contains(r.logs.String(), "longer than connect_timeout") {
		t.Errorf("log: %s", r.logs)
	}
	ep.noneOpen(t)
}

// TestEdgeTLSOfPoolChanges swaps what weir trusts and presents, by the files and by a reload.
func TestEdgeTLSOfPoolChanges(t *testing.T) {
	k, other := newKeeper(t), newKeeper(t)
	server := k.server()
	server.ClientAuth = tls.RequestClientCert
	var seen lockedBuffer
	ep := newTLSEndpoint(t, server, func(s *served) {
		for s.request() != nil {
			if certs := s.Conn.(*tls.Conn).ConnectionState().PeerCertificates; len(certs) > 0 {
				fmt.Fprintf(&seen, "<%d>", certs[0].SerialNumber)
			}
			s.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		}
	})
	dir := t.TempDir()
	first := k.Issue(t, time.Hour)
	cert, key := first.Write(t, dir)
	r := start(t, setup{endpoints: []string{ep.addr}, pool: k.trusting(fmt.Sprintf(", cert: %q, key: %q", cert, key))})
	status := func() int {
		cl := r.dial(t)
		defer cl.Close()
		return cl.get("/").status()
	}
	if got := status(); got != 200 || !strings.Contains(seen.String(), fmt.Sprintf("<%d>", first.Serial)) {
		t.Fatalf("%d, certificates %s", got, seen.String())
	}
	second := k.Issue(t, time.Hour)
	second.Write(t, dir)
	eventually(t, "the new certificate", func() bool {
		return status() == 200 && strings.Contains(seen.String(), fmt.Sprintf("<%d>", second.Serial))
	})
	certificatetest.WriteFile(t, filepath.Join(k.dir, "ca.crt"), other.PEM())
	eventually(t, "another authority", func() bool { return status() == 502 })
	lines := strings.Split(r.yaml, "\n")
	for i, line := range lines {
		if strings.Contains(line, "tls: {ca") {
			lines[i] = "    tls: {insecure_skip_verify: true}"
		}
	}
	if _, _, err := r.Apply(parse(t, strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 200 {
		t.Errorf("status %d with any certificate", got)
	}
}

// TestEdgeTLSProbes: probes and copies speak TLS, too.
func TestEdgeTLSProbes(t *testing.T) {
	k := newKeeper(t)
	ep := newTLSEndpoint(t, k.server(), serveOK)
	shadow := newTLSEndpoint(t, k.server(), serveOK)
	ca := k.trusting("")
	r := start(t, setup{
		endpoints: []string{ep.addr}, pool: ca,
		change: func(c *config.Config) {
			probe := config.DefaultProbe()
			c.Pools[0].Probe = &probe
			copied := c.Pools[0]
			copied.Name, copied.Endpoints, copied.Probe = "shadow", []config.Endpoint{{Address: shadow.addr, Weight: 1}}, nil
			c.Pools = append(c.Pools, copied)
			mirror := config.DefaultMirror()
			mirror.Pool, mirror.Percent = "shadow", 100
			c.Routes[0].Mirror = &mirror
		},
	})
	eventually(t, "a probe", func() bool { return len(ep.got()) > 0 && ep.got()[0] == "GET /health/ready" })
	r.dial(t).get("/copied")
	eventually(t, "a copy", func() bool { return len(shadow.got()) > 0 && shadow.got()[0] == "GET /copied" })
}

// TestEdgeTLSHTTP2ToEndpoints: what a pool's protocol says has to be agreed upon by ALPN.
func TestEdgeTLSHTTP2ToEndpoints(t *testing.T) {
	k := newKeeper(t)
	serve := func(protocols ...string) string {
		var p http.Protocols
		p.SetHTTP1(slices.Contains(protocols, "http/1.1"))
		p.SetHTTP2(slices.Contains(protocols, "h2"))
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			fmt.Fprintf(w, "%s %d", req.Proto, len(body))
		}))
		s.Config.Protocols = &p
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		c := k.server()
		c.NextProtos = protocols
		s.TLS = c
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	r := start(t, setup{endpoints: []string{serve("h2", "http/1.1")}, pool: "protocol: http2\n" + k.trusting("")})
	cl := r.dial(t)
	for range 3 {
		cl.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000))
		if m := cl.answer("POST"); string(m.body) != "HTTP/2.0 100000" {
			t.Errorf("%s %q", m.start, m.body)
		}
	}
	r = start(t, setup{endpoints: []string{serve("http/1.1")}, pool: "protocol: http2\n" + k.trusting("")})
	cl = r.dial(t)
	cl.refused(cl.get("/"), 502)
	if !strings.Contains(r.logs.String(), "no application protocol") {
		t.Errorf("the log: %s", r.logs)
	}
}

// tlsServer is what an endpoint speaks over.
func tlsServer(nc net.Conn, c *tls.Config) net.Conn {
	s := tls.Server(nc, c)
	_ = s.Handshake() // a failure, the script meets
	return s
}
