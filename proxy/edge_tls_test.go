package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/config"
	"weir/internal/certificate/certificatetest"
	"weir/proxy"
)

// keeper issues certificates for a test and keeps their files.
type keeper struct {
	*certificatetest.Authority
	t   testing.TB
	dir string

	mu    sync.Mutex // rows of a test run side by side
	pairs map[string]string
}

func newKeeper(t testing.TB) *keeper {
	return &keeper{Authority: certificatetest.New(t), t: t, dir: t.TempDir(), pairs: map[string]string{}}
}

// pair writes a certificate into a folder of this name, once, and returns it as YAML.
func (k *keeper) pair(name string, names ...string) string {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if made, ok := k.pairs[name]; ok {
		return made
	}
	dir := filepath.Join(k.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		k.t.Fatal(err)
	}
	cert, key := k.Issue(k.t, time.Hour, names...).Write(k.t, dir)
	k.pairs[name] = fmt.Sprintf("{cert: %q, key: %q}", cert, key)
	return k.pairs[name]
}

// file writes a file and returns its path.
func (k *keeper) file(name string, data []byte) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	certificatetest.WriteFile(k.t, path, data)
	return path
}

// certificate is one that this authority has signed, for a client.
func (k *keeper) certificate(names ...string) tls.Certificate {
	k.t.Helper()
	p := k.Issue(k.t, time.Hour, names...)
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// client trusts the authority.
func (k *keeper) client() *tls.Config {
	return &tls.Config{RootCAs: k.Pool(), ServerName: "localhost"}
}

// dialTLS is dial over TLS.
func (r *running) dialTLS(t testing.TB, c *tls.Config) *client {
	t.Helper()
	nc, err := r.tryTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &client{newWire(nc), t}
}

func (r *running) tryTLS(c *tls.Config) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.addr, c)
}

// secured is a proxy that speaks TLS, with these lines beside the certificate.
func secured(t testing.TB, k *keeper, lines string, s setup) *running {
	t.Helper()
	s.listener += fmt.Sprintf("tls:\n  certificates: [%s]\n%s", k.pair("server"), nested(lines))
	return start(t, s)
}

func nested(lines string) (s string) {
	for l := range strings.Lines(lines) {
		s += "  " + l
	}
	return s
}

func TestEdgeTLSRequests(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
			c := k.client()
			c.MinVersion, c.MaxVersion = version, version
			cl := r.dialTLS(t, c)
			for range 3 {
				if m := cl.get("/x"); m.status() != 200 || string(m.body) != "ok" {
					t.Fatalf("%s %q", m.start, m.body)
				}
			}
			if p := ep.last(t).get("X-Forwarded-Proto"); p != "https" {
				t.Errorf("X-Forwarded-Proto %q", p)
			}
			cl.send("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n")
			go cl.send(strings.Repeat("x", 300000))
			if m := cl.answer("POST"); m.status() != 200 {
				t.Fatalf("%s %q", m.start, m.body)
			}
			if n := len(ep.last(t).body); n != 300000 {
				t.Errorf("%d bytes of the body", n)
			}
		})
	}
}

func TestEdgeTLSPlainHTTP(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	cl := r.dial(t)
	cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if m := cl.answer("GET"); m.status() != 400 || !strings.Contains(string(m.body), "https") {
		t.Errorf("%s %q", m.start, m.body)
	}
	cl.closed()
	if n := len(ep.got()); n != 0 {
		t.Errorf("%d requests reached the endpoint", n)
	}
	for _, garbage := range []string{"\x80\x2e\x01\x00\x02", "SSH-2.0-OpenSSH\r\n", "\x16\x03\x01\xff\xff" + strings.Repeat("a", 100), "\x00\x00\x00\x00\x00\x00"} {
		cl := r.dial(t)
		cl.send(garbage)
		if b, err := io.ReadAll(cl); err == nil && strings.HasPrefix(string(b), "HTTP") {
			t.Errorf("%q was answered %q", garbage, b)
		}
	}
	eventually(t, "the count", func() bool { return sum(r.metrics(t), "weir_tls_handshakes_failed_total", `"plain_http"`) == 1 })
}

// serialOf is that of the certificate that a client gets which asks for name.
func (r *running) serialOf(t testing.TB, k *keeper, name string) (serial int64, names []string) {
	t.Helper()
	c := k.client()
	c.ServerName, c.InsecureSkipVerify = name, true // the wrong name is looked at here
	nc, err := r.tryTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	leaf := nc.ConnectionState().PeerCertificates[0]
	return leaf.SerialNumber.Int64(), leaf.DNSNames
}

func TestEdgeTLSServerNames(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, listener: fmt.Sprintf("tls:\n  certificates: [%s, %s, %s]\n",
		k.pair("first", "first.example.com"), k.pair("wild", "*.example.com"), k.pair("exact", "a.example.com"))})
	for name, want := range map[string]string{
		"a.example.com": "a.example.com", "A.Example.COM": "a.example.com", "b.example.com": "*.example.com", "first.example.com": "first.example.com",
		"x.y.example.com": "first.example.com", "example.com": "first.example.com", "": "first.example.com", "other.org": "first.example.com",
	} {
		if _, names := r.serialOf(t, k, name); names[1] != want {
			t.Errorf("%q got %v, want %s", name, names, want)
		}
	}
}

func TestEdgeTLSVersions(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	for _, c := range []struct {
		lines string
		max   uint16
		suite uint16
		ok    bool
	}{
		{"", tls.VersionTLS12, 0, true},
		{"", tls.VersionTLS11, 0, false},
		{"min_version: 1.3\n", tls.VersionTLS13, 0, true},
		{"min_version: \"1.3\"\n", tls.VersionTLS12, 0, false},
		{"ciphers: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true},
		{"ciphers: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false},
	} {
		r := secured(t, k, c.lines, setup{endpoints: []string{ep.addr}})
		cl := k.client()
		cl.MinVersion, cl.MaxVersion = tls.VersionTLS10, c.max
		if c.suite != 0 {
			cl.CipherSuites = []uint16{c.suite}
		}
		nc, err := r.tryTLS(cl)
		if err == nil {
			nc.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%q, up to %s: %v", c.lines, tls.VersionName(c.max), err)
		}
	}
}

// TestEdgeTLSCertificatesAreSwapped renews the certificate under requests: none fails, sessions go on, and the
// connections that are open stay.
func TestEdgeTLSCertificatesAreSwapped(t *testing.T) {
	alongside(t)
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	old := r.dialTLS(t, k.client())
	old.get("/")
	session := k.client()
	session.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	resumed := func() bool {
		nc, err := r.tryTLS(session)
		if err != nil {
			t.Fatal(err)
		}
		cl := &client{newWire(nc), t}
		defer cl.Close()
		cl.get("/") // the tickets come with it
		return nc.ConnectionState().DidResume
	}
	resumed()
	if !resumed() {
		t.Error("a session was not resumed")
	}
	before, _ := r.serialOf(t, k, "localhost")
	dir := filepath.Join(k.dir, "server")
	certificatetest.WriteFile(t, filepath.Join(dir, "tls.crt"), []byte("garbage"))
	eventually(t, "the refusal", func() bool { return strings.Contains(r.logs.String(), "is not fit for use") })
	if now, _ := r.serialOf(t, k, "localhost"); now != before {
		t.Errorf("serial %d after garbage, want %d", now, before)
	}
	if reasons := r.Status().Reasons; len(reasons) != 1 || !strings.Contains(reasons[0], "tls.crt") {
		t.Errorf("reasons %q", reasons)
	}
	renewed := k.Issue(t, time.Hour)
	renewed.Write(t, dir)
	eventually(t, "the new certificate", func() bool {
		now, _ := r.serialOf(t, k, "localhost")
		r.dialTLS(t, k.client()).get("/")
		return now == renewed.Serial
	})
	if !resumed() {
		t.Error("a session was not resumed after the swap")
	}
	if m := old.get("/"); m.status() != 200 {
		t.Errorf("the connection from before: %s", m.start)
	}
}

// TestEdgeTLSOfAReload changes the configuration of TLS, beside a connection that is open.
func TestEdgeTLSOfAReload(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	old := r.dialTLS(t, k.client())
	old.get("/")
	first, second := fmt.Sprintf("%q", filepath.Join(k.dir, "server/tls.crt")), k.pair("second")
	broken := strings.Replace(r.yaml, first, fmt.Sprintf("%q", k.file("none.crt", nil)), 1)
	path := k.file("weir.yaml", []byte(broken))
	if _, _, err := r.Apply(parse(t, broken)); err == nil || !strings.Contains(err.Error(), "listeners[0].tls.certificates[0]: ") {
		t.Errorf("Apply: %v", err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Check(cfg); err == nil || !strings.Contains(err.Error(), "weir.yaml:5:22: listeners[0].tls.certificates[0]: ") || !strings.Contains(err.Error(), "none.crt") {
		t.Errorf("Check: %v", err)
	}
	next := strings.Replace(r.yaml, "certificates: [", "min_version: 1.3\n      certificates: ["+second+", ", 1)
	if _, _, err := r.Apply(parse(t, next)); err != nil {
		t.Fatal(err)
	}
	c := k.client()
	c.MaxVersion = tls.VersionTLS12
	if nc, err := r.tryTLS(c); err == nil {
		nc.Close()
		t.Error("TLS 1.2 goes on")
	}
	r.dialTLS(t, k.client()).get("/")
	if m := old.get("/"); m.status() != 200 {
		t.Errorf("the connection from before: %s", m.start)
	}
}

// TestEdgeTLSHTTP2 asks by HTTP/2 over TLS, which ALPN agrees upon.
func TestEdgeTLSHTTP2(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}, listener: "protocols: [http1, http2]\n"})
	tr := &http.Transport{TLSClientConfig: k.client(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	body := strings.Repeat("x", 200<<10)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 4 {
				resp, err := (&http.Client{Transport: tr}).Post("https://"+r.addr+"/p", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.ProtoMajor != 2 || string(answer) != "ok" {
					t.Errorf("%s %q, %v", resp.Proto, answer, err)
				}
			}
		})
	}
	running.Wait()
	if m := ep.last(t); m.get("X-Forwarded-Proto") != "https" || len(m.body) != len(body) {
		t.Errorf("X-Forwarded-Proto %q, %d bytes", m.get("X-Forwarded-Proto"), len(m.body))
	}
	if m := r.dialTLS(t, k.client()).get("/"); m.status() != 200 { // without ALPN it is HTTP/1.1
		t.Errorf("%s", m.start)
	}
}
