package proxy_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"weir/internal/certificate/certificatetest"
)

// identified is a certificate for a client.
func (k *keeper) identified(change func(*x509.Certificate)) tls.Certificate {
	k.t.Helper()
	p := k.IssueAs(k.t, change)
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// presenting is a client with a certificate.
func (k *keeper) presenting(c tls.Certificate) *tls.Config {
	config := k.client()
	config.Certificates = []tls.Certificate{c}
	return config
}

func spiffe(id string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, _ := url.Parse(id)
		c.URIs = []*url.URL{u}
	}
}

// asks makes a request and returns what the endpoint got.
func (r *running) asks(t *testing.T, ep *endpoint, c *tls.Config, lines string) *message {
	t.Helper()
	cl := r.dialTLS(t, c)
	cl.send("GET / HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n")
	if m := cl.answer("GET"); m.status() != 200 {
		t.Fatalf("%s %q", m.start, m.body)
	}
	return ep.last(t)
}

const forged = "X-Forwarded-Client-Cert: Hash=0;URI=spiffe://forged\r\n"

func TestEdgeClientCertificates(t *testing.T) {
	k, other := newKeeper(t), newKeeper(t)
	ep := newEndpoint(t, serveOK)
	lines := func(more string) string {
		return fmt.Sprintf("client_ca: %q\n%s", k.file("clients.crt", k.PEM()), more)
	}
	expired := k.identified(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	forServers := k.identified(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	for _, auth := range []string{"", "client_auth: optional\n"} {
		r := secured(t, k, lines(auth), setup{endpoints: []string{ep.addr}})
		for name, c := range map[string]struct {
			config *tls.Config
			ok     bool
		}{
			"good":             {k.presenting(k.certificate()), true},
			"of somebody else": {k.presenting(other.certificate()), false},
			"expired":          {k.presenting(expired), false},
			"for servers":      {k.presenting(forServers), false},
			"absent":           {k.client(), auth != ""},
		} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				c.config.MinVersion, c.config.MaxVersion = version, version
				// The server of TLS 1.3 looks at the certificate after the client's handshake is over. So a refusal is
				// what the first read says.
				nc, err := r.tryTLS(c.config)
				if err == nil {
					cl := &client{newWire(nc), t}
					cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
					_, _, err = cl.readResponse("GET")
					cl.Close()
				}
				if (err == nil) != c.ok {
					t.Errorf("%s, %s, %q: %v", name, tls.VersionName(version), auth, err)
				}
				if err != nil && !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("%s, %s: %v is no alert", name, tls.VersionName(version), err)
				}
			}
		}
	}
}

func TestEdgeForwardedClientCert(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, fmt.Sprintf("client_ca: %q\nclient_auth: optional\n", k.file("clients.crt", k.PEM())), setup{
		endpoints: []string{ep.addr}, top: "trusted_proxies: [127.0.0.1]\n",
		route: "headers: {request: {set: {X-Who: \"<{client_cert}>\"}}}\n",
	})
	id := "spiffe://cluster.local/ns/ml/sa/trainer"
	cert := k.identified(func(c *x509.Certificate) {
		spiffe(id)(c)
		c.Subject = pkix.Name{CommonName: `a "b", c`, Organization: []string{"Example"}}
		c.DNSNames = []string{"one.example.com", "two.example.com"}
	})
	m := r.asks(t, ep, k.presenting(cert), forged)
	want := fmt.Sprintf(`Hash=%x;Subject="CN=a \\\"b\\\"\\, c,O=Example";URI=%s;DNS=one.example.com;DNS=two.example.com`, sha256.Sum256(cert.Certificate[0]), id)
	if got := m.values("X-Forwarded-Client-Cert"); len(got) != 1 || got[0] != want {
		t.Errorf("X-Forwarded-Client-Cert\n%q, want\n%q", got, want)
	}
	if got := m.get("X-Who"); got != "<"+id+">" {
		t.Errorf("{client_cert} is %q", got)
	}
	m = r.asks(t, ep, k.client(), forged)
	if got := m.values("X-Forwarded-Client-Cert"); len(got) != 0 || m.get("X-Who") != "<>" {
		t.Errorf("without a certificate %q, {client_cert} %q", got, m.get("X-Who"))
	}
	m = r.asks(t, ep, k.presenting(k.identified(func(c *x509.Certificate) { c.DNSNames = []string{"one.example.com"} })), "")
	if got := m.get("X-Who"); got != "<one.example.com>" {
		t.Errorf("{client_cert} is %q", got)
	}
	m = r.asks(t, ep, k.presenting(k.identified(func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "trainer" })), "")
	if got := m.get("X-Who"); got != "<trainer>" {
		t.Errorf("{client_cert} is %q", got)
	}
}

// TestEdgeForwardedClientCertOfOthers: where clients present no certificates, only a trusted proxy is believed.
func TestEdgeForwardedClientCertOfOthers(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	for _, top := range []string{"", "trusted_proxies: [127.0.0.1]\n"} {
		r := start(t, setup{endpoints: []string{ep.addr}, top: top})
		cl := r.dial(t)
		cl.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: x-forwarded-client-cert\r\n" + forged + "\r\n")
		cl.answer("GET")
		got := ep.last(t).values("X-Forwarded-Client-Cert")
		if want := map[bool]int{true: 0, false: 1}[top == ""]; len(got) != want {
			t.Errorf("%q: %q", top, got)
		}
	}
}

// TestEdgeLimitsByClientCert: a certificate has a rate of its own, whatever address it comes from, and its requests
// are logged with it.
func TestEdgeLimitsByClientCert(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	var access lockedBuffer
	r := secured(t, k, fmt.Sprintf("client_ca: %q\n", k.file("clients.crt", k.PEM())), setup{
		endpoints: []string{ep.addr}, log: &access,
		route: "rate_limit: {key: client_cert, rate: 1/m, burst: 2}\naffinity: {key: client_cert}\nconcurrency: {key: client_cert, max: 5}\n",
	})
	ask := func(id string) int {
		cl := r.dialTLS(t, k.presenting(k.identified(spiffe(id))))
		defer cl.Close()
		return cl.get("/").status()
	}
	var got []int
	for _, id := range []string{"spiffe://a", "spiffe://a", "spiffe://a", "spiffe://b", "spiffe://a", "spiffe://b"} {
		got = append(got, ask(id))
	}
	same(t, "requests", got, []int{200, 200, 429, 200, 429, 200})
	eventually(t, "the access log", func() bool { return strings.Count(access.String(), `"client_cert":"spiffe://b"`) == 2 })
}

// TestEdgeClientAuthoritiesChange takes another authority from the file, also for sessions of the one before.
func TestEdgeClientAuthoritiesChange(t *testing.T) {
	k, other := newKeeper(t), newKeeper(t)
	ep := newEndpoint(t, serveOK)
	path := k.file("clients.crt", k.PEM())
	r := secured(t, k, fmt.Sprintf("client_ca: %q\n", path), setup{endpoints: []string{ep.addr}})
	old, next := k.presenting(k.certificate()), k.presenting(other.certificate())
	old.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	ask := func(c *tls.Config) bool {
		nc, err := r.tryTLS(c)
		if err != nil {
			return false
		}
		defer nc.Close()
		cl := &client{newWire(nc), t}
		cl.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		_, _, err = cl.readResponse("GET")
		return err == nil
	}
	for range 2 { // the second may resume the session of the first
		if !ask(old) || ask(next) {
			t.Fatal("the first authority")
		}
	}
	certificatetest.WriteFile(t, path, other.PEM())
	eventually(t, "the other authority", func() bool { return ask(next) })
	if ask(old) {
		t.Error("a session outlives its authority")
	}
}
