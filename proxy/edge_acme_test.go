package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/certificate/acme"
	"weir/internal/certificate/acme/acmetest"
	"weir/proxy"
)

// certified is a proxy with a listener for plain HTTP and one for TLS, whose certificates an authority gives.
type certified struct {
	*running
	t         *testing.T
	keeper    *keeper
	plain     string // the address for HTTP; addr is that for TLS
	cache     string
	authority *acmetest.Server

	mu     sync.Mutex
	events []acme.Event
}

// certify starts a proxy, at first with a file's certificate for TLS, and then the authority, which looks for
// challenges at the listeners where o says 0.
func certify(t *testing.T, s setup, o acmetest.Options) *certified {
	t.Helper()
	c := &certified{t: t, keeper: newKeeper(t), cache: filepath.Join(t.TempDir(), "cache")}
	s.options = func(o *proxy.Options) {
		o.Certificate = func(e acme.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		}
	}
	c.running = start(t, s)
	c.plain = c.addr
	c.apply("certificates: [" + c.keeper.pair("file", "files.example.com") + "]\n")
	eventually(t, "the listeners", func() bool { return len(c.Addrs()) == 2 })
	for _, a := range c.Addrs() {
		if a.String() != c.plain {
			c.addr = a.String()
		}
	}
	if o.TLSPort == 0 {
		o.TLSPort = port(t, c.addr)
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = port(t, c.plain)
	}
	c.authority = acmetest.Start(t, o)
	return c
}

func port(t *testing.T, address string) int {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// apply puts these lines of tls in force.
func (c *certified) apply(lines string) {
	c.t.Helper()
	if _, _, err := c.Apply(parse(c.t, c.with(lines))); err != nil {
		c.t.Fatal(err)
	}
}

func (c *certified) with(lines string) string {
	own := "listeners:\n  - address: \"localhost:0\"\n    tls:\n" + nested(nested(nested(lines)))
	return strings.Replace(c.yaml, "listeners:\n", own, 1)
}

// acme are the lines that ask the authority for these domains.
func (c *certified) acme(domains ...string) string {
	return fmt.Sprintf("acme: {domains: [%s], directory: %q, cache: %q, ca: %q, accept_terms: true}\n",
		strings.Join(domains, ", "), c.authority.Directory, c.cache, c.authority.CA)
}

// eventually is for what an authority has to do first.
func (c *certified) eventually(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within a minute; told %+v", what, c.told())
		}
	}
}

func (c *certified) told() []acme.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

func (c *certified) orders(domain, outcome string) float64 {
	return sum(c.metrics(c.t), "weir_acme_orders_total", fmt.Sprintf("domain=%q", domain), fmt.Sprintf("outcome=%q", outcome))
}

// certificateFor is what a client gets that asks for name; it is not verified.
func (c *certified) certificateFor(name string) (*x509.Certificate, error) {
	nc, err := c.tryTLS(&tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return nc.ConnectionState().PeerCertificates[0], nil
}

// TestEdgeACME gets certificates by TLS-ALPN-01 beside one of a file, and keeps them over reloads.
func TestEdgeACME(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	c := certify(t, setup{endpoints: []string{ep.addr}}, acmetest.Options{HTTPPort: 1, Blocked: []string{"blocked.example.com"}})
	file := "certificates: [" + fmt.Sprintf("{cert: %q, key: %q}", filepath.Join(c.keeper.dir, "file/tls.crt"), filepath.Join(c.keeper.dir, "file/tls.key")) + "]\n"
	open := c.dialTLS(t, c.keeper.client())
	c.apply(file + c.acme("a.example.com", "b.example.com", "files.example.com", "blocked.example.com"))
	c.eventually("the outcomes", func() bool {
		return c.orders("a.example.com", "obtained") == 1 && c.orders("b.example.com", "obtained") == 1 && c.orders("files.example.com", "obtained") == 1 &&
			c.orders("blocked.example.com", "failed") > 0
	})
	for _, name := range []string{"a.example.com", "b.example.com"} {
		trusting := &tls.Config{RootCAs: c.authority.Roots(), ServerName: name}
		if m := c.dialTLS(t, trusting).get("/x"); m.status() != 200 || string(m.body) != "ok" {
			t.Errorf("%s: %s %q", name, m.start, m.body)
		}
	}
	// Files win, and are what a client gets that asks for no name, or an unknown one.
	for _, name := range []string{"files.example.com", "", "unknown.org"} {
		if leaf, err := c.certificateFor(name); err != nil || !slices.Contains(leaf.DNSNames, "files.example.com") || leaf.Issuer.CommonName != "test authority" {
			t.Errorf("%q: %v", name, err)
		}
	}
	// A name that has none yet is not served with another's.
	if _, err := c.certificateFor("blocked.example.com"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name without a certificate: %v", err)
	}
	eventually(t, "the count", func() bool { return sum(c.metrics(t), "weir_tls_handshakes_failed_total", `"no_certificate"`) == 1 })
	reasons := c.Status().Reasons
	if len(reasons) != 1 || !strings.HasPrefix(reasons[0], "acme: blocked.example.com: there is no certificate yet: tls-alpn-01: ") {
		t.Errorf("reasons %q", reasons)
	}
	c.eventually("what was told", func() bool {
		n := map[string]int{}
		for _, e := range c.told() {
			n[e.Domain+" "+e.Outcome]++
		}
		return n["a.example.com obtained"] == 1 && n["b.example.com obtained"] == 1 && n["blocked.example.com failed"] > 0
	})
	expire := 0
	for _, s := range c.Certificates() {
		if strings.HasPrefix(s.File(), c.cache) && s.NotAfter().After(time.Now().Add(24*time.Hour)) {
			expire++
		}
	}
	if expire != 3 {
		t.Errorf("%d certificates with a time in the cache, want 3: %v", expire, c.Certificates())
	}
	before, _ := c.certificateFor("a.example.com")
	c.apply("min_version: \"1.3\"\n" + c.acme("a.example.com", "c.example.com"))
	c.eventually("another domain", func() bool { return c.orders("c.example.com", "obtained") == 1 })
	if after, err := c.certificateFor("a.example.com"); err != nil || !after.Equal(before) || c.orders("a.example.com", "obtained") != 1 {
		t.Errorf("the reload has not kept the certificate: %v", err)
	}
	// Without files a check by address gets one, and a name that is unknown none.
	if leaf, err := c.certificateFor(""); err != nil || !slices.Contains(leaf.DNSNames, "a.example.com") {
		t.Errorf("without a name: %v", err)
	}
	if _, err := c.certificateFor("unknown.org"); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("an unknown name: %v", err)
	}
	if m := open.get("/"); m.status() != 200 {
		t.Errorf("the connection from before: %s", m.start)
	}
}

// TestEdgeACMEByHTTP: the challenge is met before the routes, of which the only one sends everybody to https. A token
// that is not known is the route's matter.
func TestEdgeACMEByHTTP(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	c := certify(t, setup{endpoints: []string{ep.addr}, route: "redirect: {https: true}\n", top: "trusted_proxies: [10.0.0.0/8]\n"}, acmetest.Options{TLSPort: 1})
	c.apply(c.acme("a.example.com"))
	c.eventually("the certificate", func() bool { return c.orders("a.example.com", "obtained") == 1 })
	trusting := &tls.Config{RootCAs: c.authority.Roots(), ServerName: "a.example.com"}
	if m := c.dialTLS(t, trusting).get("/x"); m.status() != 200 {
		t.Errorf("%s", m.start)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/.well-known/acme-challenge/unknown", "/.well-known/acme-challenge/", "/x"} {
		resp, err := client.Get("http://" + c.plain + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 308 && resp.StatusCode != 301 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	for _, line := range ep.got() {
		if strings.Contains(line, "acme-challenge") {
			t.Errorf("the endpoint was asked: %s", line)
		}
	}
	if n := sum(c.metrics(t), "weir_requests_total", `route=""`, `code="200"`); n == 0 {
		t.Error("the authority's requests do not count")
	}
}

// TestEdgeACMERenewal: certificates that last ten seconds are renewed under requests, of clients that have to present
// theirs, which the authority need not; and they are there at once after a restart, with the authority away.
func TestEdgeACMERenewal(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	c := certify(t, setup{endpoints: []string{ep.addr}}, acmetest.Options{HTTPPort: 1, Validity: 10 * time.Second})
	lines := fmt.Sprintf("client_ca: %q\n", c.keeper.file("clients.crt", c.keeper.PEM())) + c.acme("a.example.com")
	c.apply(lines)
	c.eventually("the certificate", func() bool { return c.orders("a.example.com", "obtained") == 1 })
	own := c.keeper.certificate("client")
	handshakes := 0
	serials := map[string]bool{}
	c.eventually("two renewals", func() bool {
		nc, err := c.tryTLS(&tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, Certificates: []tls.Certificate{own}})
		if err != nil {
			t.Fatalf("after %d handshakes: %v", handshakes, err)
		}
		cl := &client{newWire(nc), t}
		defer cl.Close()
		if m := cl.get("/"); m.status() != 200 {
			t.Errorf("%s", m.start)
		}
		handshakes++
		serials[nc.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
		return c.orders("a.example.com", "renewed") >= 2
	})
	if len(serials) < 2 {
		t.Errorf("%d certificates in %d handshakes", len(serials), handshakes)
	}
	// Without a certificate of theirs clients are refused, also those who act as an authority while no order is under way.
	for _, protocols := range [][]string{nil, {acme.ALPN, "http/1.1"}} {
		nc, err := c.tryTLS(&tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true, NextProtos: protocols, MaxVersion: tls.VersionTLS12})
		if err == nil {
			nc.Close()
			t.Errorf("%v: a client without a certificate is let in", protocols)
		}
	}
}

// TestEdgeACMERestart: another weir has the certificate at once, and the authority is away.
func TestEdgeACMERestart(t *testing.T) {
	alongside(t)
	ep := newEndpoint(t, serveOK)
	c := certify(t, setup{endpoints: []string{ep.addr}}, acmetest.Options{HTTPPort: 1})
	c.apply(c.acme("a.example.com"))
	c.eventually("the certificate", func() bool { return c.orders("a.example.com", "obtained") == 1 })
	roots := c.authority.Roots()
	c.authority.Stop()
	if _, err := c.tryTLS(&tls.Config{ServerName: "a.example.com", NextProtos: []string{acme.ALPN}, InsecureSkipVerify: true}); err == nil {
		t.Error("a challenge that nobody asked for is met")
	}
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, setup{endpoints: []string{ep.addr}, listener: "tls:\n  " + c.acme("a.example.com")})
	if m := again.dialTLS(t, &tls.Config{RootCAs: roots, ServerName: "a.example.com"}).get("/"); m.status() != 200 {
		t.Errorf("%s", m.start)
	}
	if n := sum(again.metrics(t), "weir_acme_orders_total"); n != 0 {
		t.Errorf("%v orders after the restart", n)
	}
	if reasons := again.Status().Reasons; len(reasons) != 0 {
		t.Errorf("reasons %q", reasons)
	}
}

// TestACMECheck: what is wrong with the files is a fault with its line, and a check makes no directory.
func TestACMECheck(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	file := k.file("file", []byte("x"))
	for lines, says := range map[string]string{
		fmt.Sprintf("acme: {domains: [a.example.com], cache: %q, accept_terms: true}", file):                                        "listeners[0].tls.acme: the cache " + file + " is a file; want a directory",
		fmt.Sprintf("acme: {domains: [a.example.com], cache: %q, ca: %q, accept_terms: true}", filepath.Join(k.dir, "cache"), file): "has no certificate",
		fmt.Sprintf("acme: {domains: [a.example.com], cache: %q, accept_terms: true}", filepath.Join(k.dir, "cache")):               "",
	} {
		s := setup{endpoints: []string{ep.addr}, listener: "tls:\n  " + lines + "\n"}
		err := proxy.Check(parse(t, s.render()))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", lines, err, says)
		}
	}
	if made, _ := filepath.Glob(filepath.Join(k.dir, "cache")); len(made) != 0 {
		t.Error("a check has made the cache")
	}
}
