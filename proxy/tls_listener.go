package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"go.uber.org/zap"
	"weir/config"
	"weir/internal/certificate"
	"weir/internal/certificate/acme"
	"weir/proxy/auth"
)

// tlsServer is how a listener speaks TLS. It is a table's, and kept while the configuration of the listener's TLS
// stays: what its files hold may change at any time.
type tlsServer struct {
	cfg       config.ListenerTLS
	protocols []string
	pairs     []*certificate.Watcher
	plain     bool                      // certificates may be obtained by HTTP-01, too
	domains   map[string]*acme.Domain   // nil: no certificates are obtained
	clientCA  *auth.File[x509.CertPool] // nil: clients present no certificates
	sources   []sourceKey

	mu      sync.Mutex
	ca      *x509.CertPool // in current
	current *tls.Config
}

// newTLSServers makes those of t's listeners.
func (t *table) newTLSServers(old *table) error {
	var faults config.Faults
	for i, l := range t.cfg.Listeners {
		if l.TLS == nil {
			continue
		}
		s, wrong := t.newTLSServer(l, old, config.ItemKey("listeners", i, "tls"))
		faults = append(faults, wrong...)
		if t.tls == nil {
			t.tls = map[string]*tlsServer{}
		}
		t.tls[l.Address] = s
	}
	if faults != nil {
		return faults
	}
	return nil
}

func (t *table) newTLSServer(l config.Listener, old *table, at string) (*tlsServer, config.Faults) {
	protocols := alpn(l)
	prev := old.tls[l.Address]
	if prev != nil && reflect.DeepEqual(prev.cfg, *l.TLS) && reflect.DeepEqual(prev.protocols, protocols) && (l.TLS.ACME == nil || prev.plain == t.plain()) {
		t.keepSources(prev.sources, old)
		return prev, nil
	}
	var faults config.Faults
	s := &tlsServer{cfg: *l.TLS, protocols: protocols}
	for i, c := range l.TLS.Certificates {
		w, err := t.pair(old, c, s.uses)
		if err != nil {
			faults = append(faults, t.cfg.Fault(config.ItemKey(at+".certificates", i), err.Error()))
		}
		s.pairs = append(s.pairs, w)
	}
	if err := t.newDomains(s, old, at+".acme"); err != nil {
		faults = append(faults, err...)
	}
	if s.cfg.ClientCA != "" {
		var err error
		if s.clientCA, err = t.authorities(old, s.cfg.ClientCA, s.uses); err != nil {
			faults = append(faults, t.cfg.Fault(at+".client_ca", err.Error()))
		}
	}
	if faults == nil {
		s.configure(prev)
	}
	return s, faults
}

// What ALPN calls the protocols.
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

// alpn is what a listener offers, the best first.
func alpn(l config.Listener) (names []string) {
	if l.Speaks(config.ProtocolHTTP2) {
		names = append(names, alpnHTTP2)
	}
	if l.Speaks(config.ProtocolHTTP1) {
		names = append(names, alpnHTTP1)
	}
	return names
}

func (s *tlsServer) uses(key sourceKey) sourceKey {
	s.sources = append(s.sources, key)
	return key
}

// pair is a certificate of t with its key.
func (t *table) pair(old *table, c config.Certificate, uses func(sourceKey) sourceKey) (*certificate.Watcher, error) {
	key := uses(sourceKey{kind: "certificate", place: c.Cert + "\n" + c.Key})
	return obtain(t, old, key, func() (*certificate.Watcher, error) { return certificate.Open(c.Cert, c.Key) })
}

// authorities are those of a file.
func (t *table) authorities(old *table, file string, uses func(sourceKey) sourceKey) (*auth.File[x509.CertPool], error) {
	key := uses(sourceKey{kind: "authorities", place: file})
	return obtain(t, old, key, func() (*auth.File[x509.CertPool], error) { return auth.Open(file, certificate.ParseAuthorities) })
}

// configure makes the configuration of handshakes. The keys of tickets are prev's, if there is one, so that sessions
// can be resumed; those of clients are held against the authorities anew.
func (s *tlsServer) configure(prev *tlsServer) {
	c := &tls.Config{}
	if prev != nil {
		c = prev.config().Clone()
	}
	c.MinVersion, c.CipherSuites = config.TLSVersion(s.cfg.MinVersion), config.CipherSuites(s.cfg.Ciphers)
	c.NextProtos = s.protocols
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return certificate.Choose(s.pairs, hello), nil
	}
	if c.GetConfigForClient = nil; s.domains != nil {
		c.GetCertificate, c.GetConfigForClient = s.obtainedFor, s.challengeFor
	}
	c.ClientAuth, c.ClientCAs = tls.NoClientCert, nil
	if s.clientCA != nil {
		s.ca = s.clientCA.Current()
		c.ClientCAs, c.ClientAuth = s.ca, tls.RequireAndVerifyClientCert
		if s.cfg.ClientAuth == config.ClientAuthOptional {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	s.current = c
}

// config is the configuration of the next handshake.
func (s *tlsServer) config() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clientCA != nil && s.clientCA.Current() != s.ca {
		s.ca = s.clientCA.Current()
		next := s.current.Clone()
		next.ClientCAs = s.ca
		s.current = next
	}
	return s.current
}

// secureWith makes the handshake with a client, within the time of a head. After a failure the connection is to end.
func (c *conn) secureWith(s *tlsServer) bool {
	if c.fused && !c.awaitFirst() {
		return false
	}
	c.mu.Lock()
	c.beginHead()
	c.mu.Unlock()
	t := newTLSConn(c.fd, c.ops)
	if err := t.shake(tls.Server((*tlsWire)(t), s.config())); err != nil {
		c.insecure(t, err)
		return false
	}
	c.mu.Lock()
	c.use(t)
	state := t.tls.ConnectionState()
	c.secure, c.agreed = true, state.NegotiatedProtocol
	if c.agreed == acme.ALPN { // it has seen the certificate, which is all it wants
		c.mu.Unlock()
		return false
	}
	if s.clientCA != nil {
		c.identity = newIdentity(state.PeerCertificates)
	}
	c.beginIdle()
	c.mu.Unlock()
	return true
}

// awaitFirst waits for the first byte as an idle connection does.
func (c *conn) awaitFirst() bool {
	c.phase.Store(phaseDetached)
	_ = c.wait()
	return c.wakened()
}

// insecure ends a connection whose handshake has failed. Who speaks plain HTTP learns what is wrong.
func (c *conn) insecure(t *tlsConn, err error) {
	late := c.interruptedBy() != reasonNone
	c.broken = t.ended != nil
	c.linger = !late // what the client is sending must not reset the connection before it has the alert
	failure := "failed"
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && plainHTTP(e.RecordHeader) {
		failure = "plain_http"
		_ = c.send([]byte(plainAnswer))
	}
	switch {
	case late:
		failure = "timeout"
	case t.unnamed:
		failure = "no_certificate"
	case t.ended != nil:
		failure = "closed"
	}
	c.listener.p.handshakes.add(failure)
	c.listener.p.log.Debug("a TLS handshake with a client failed", zap.String("listener", c.listener.address),
		zap.ByteString("client", c.ip), zap.String("reason", failure), zap.Error(err))
}

// plainHTTP reports whether a connection begins as a request does: with the name of a method.
func plainHTTP(begin [tlsHeader]byte) bool {
	for i, b := range begin {
		if b == ' ' || b == '/' {
			return i >= 3
		}
		if b < 'A' || b > 'Z' {
			return false
		}
	}
	return true
}

const plainBody = `{"error":"this port speaks HTTPS: use https:// here","code":"bad_request"}` + "\n"

var plainAnswer = fmt.Sprintf("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
	len(plainBody), plainBody)

// Certificates are those in use, of listeners and for endpoints.
func (p *Proxy) Certificates() (all []certificate.Served) {
	for _, s := range p.table.Load().sources {
		if w, ok := s.(certificate.Served); ok {
			all = append(all, w)
		}
	}
	return all
}
