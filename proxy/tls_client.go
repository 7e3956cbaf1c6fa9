package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"
	"weir/balancer"
	"weir/config"
	"weir/internal/certificate"
	"weir/proxy/auth"
)

// tlsClient is how weir speaks TLS with the endpoints of a pool. It is kept, as a tlsServer is.
type tlsClient struct {
	cfg     config.PoolTLS
	ca      *auth.File[x509.CertPool] // nil: those of the system
	pair    *certificate.Watcher      // nil: weir presents no certificate
	sources []sourceKey
}

// newTLSClient makes that of a pool of t; nil where plain HTTP is spoken. prev is the pool's in old, or nil.
func (t *table) newTLSClient(c config.Pool, old *table, prev *tlsClient) (*tlsClient, error) {
	if c.TLS == nil {
		return nil, nil
	}
	of := *c.TLS
	if d := c.Discover; d != nil && of.ServerName == "" && !d.SRV() {
		of.ServerName, _, _ = net.SplitHostPort(d.DNS) // its endpoints have but addresses
	}
	if prev != nil && reflect.DeepEqual(prev.cfg, of) {
		t.keepSources(prev.sources, old)
		return prev, nil
	}
	s := &tlsClient{cfg: of}
	uses := func(key sourceKey) sourceKey {
		s.sources = append(s.sources, key)
		return key
	}
	at := config.ChildKey("pools", c.Name) + ".tls"
	var faults config.Faults
	var err error
	if c.TLS.CA != "" {
		if s.ca, err = t.authorities(old, c.TLS.CA, uses); err != nil {
			faults = append(faults, t.cfg.Fault(at+".ca", err.Error()))
		}
	}
	if c.TLS.Cert != "" {
		if s.pair, err = t.pair(old, config.Certificate{Cert: c.TLS.Cert, Key: c.TLS.Key}, uses); err != nil {
			faults = append(faults, t.cfg.Fault(at+".cert", err.Error()))
		}
	}
	if faults != nil {
		return nil, faults
	}
	return s, nil
}

// newTLSClients makes those of t's pools.
func (t *table) newTLSClients(old *table) error {
	var faults config.Faults
	for _, pl := range t.pools {
		prev := old.pool(pl.Name())
		if prev == pl {
			if pl.tls != nil {
				t.keepSources(pl.tls.sources, old)
			}
			continue
		}
		var before *tlsClient
		if prev != nil {
			before = prev.tls
		}
		var wrong config.Faults
		var err error
		if pl.tls, err = t.newTLSClient(pl.Config(), old, before); errors.As(err, &wrong) {
			faults = append(faults, wrong...)
		}
	}
	if faults != nil {
		return faults
	}
	return nil
}

func (t *table) keepSources(keys []sourceKey, old *table) {
	for _, key := range keys {
		t.addSource(key, old.sources[key])
	}
}

// endpointTLS is what handshakes with an endpoint are made with, as long as it stays what it was made of.
type endpointTLS struct {
	of     *tlsClient
	http2  bool
	ca     *x509.CertPool
	pair   *tls.Certificate
	config *tls.Config
}

// tlsConfig is the configuration of the next handshake with the endpoint. Sessions are forgotten with what they
// were made with.
func (t *transport) tlsConfig(of *tlsClient, http2 bool) *tls.Config {
	now := endpointTLS{of: of, http2: http2}
	if of.ca != nil {
		now.ca = of.ca.Current()
	}
	if of.pair != nil {
		now.pair = of.pair.Certificate()
	}
	known := t.handshake.Load()
	if known != nil {
		now.config = known.config
		if now == *known {
			return known.config
		}
	}
	c := &tls.Config{
		MinVersion: config.TLSVersion(of.cfg.MinVersion), RootCAs: now.ca, InsecureSkipVerify: of.cfg.InsecureSkipVerify,
		ServerName: of.cfg.ServerName, NextProtos: []string{alpnHTTP1}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	if http2 {
		c.NextProtos = []string{alpnHTTP2}
	}
	if c.ServerName == "" {
		c.ServerName = t.serverName()
	}
	if now.pair != nil {
		c.Certificates = []tls.Certificate{*now.pair}
	}
	now.config = c
	t.handshake.Store(&now)
	return c
}

// serverName is the name that the endpoint's certificate must have where the configuration names none.
func (t *transport) serverName() string {
	if _, ok := config.UnixPath(t.address); ok {
		return "localhost"
	}
	host, _, _ := net.SplitHostPort(t.address)
	return host
}

var (
	errHandshakeSlow = errors.New("the TLS handshake takes longer than connect_timeout")
	errNoALPN        = errors.New("the endpoint does not agree to HTTP/2 (ALPN), which the pool's protocol asks for")
)

// secure makes the handshake over d, which it closes where that fails.
func (t *transport) secure(d descriptor, settings *transportSettings, until time.Time) (descriptor, error) {
	c := newTLSConn(d.(file), t.ops)
	var mu sync.Mutex
	over, late := false, false
	timer := time.AfterFunc(time.Until(until), func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			late = true
			d.interrupt()
		}
	})
	err := c.shake(tls.Client((*tlsWire)(c), t.tlsConfig(settings.tls, settings.http2)))
	timer.Stop()
	mu.Lock()
	over = true
	mu.Unlock()
	switch {
	case late && errors.Is(err, os.ErrDeadlineExceeded):
		err = errHandshakeSlow
	case late:
		d.resume()
	}
	if err == nil && settings.http2 && c.tls.ConnectionState().NegotiatedProtocol != alpnHTTP2 {
		err = errNoALPN
	}
	if err != nil {
		d.close()
		t.insecure(err)
		return nil, err
	}
	return c, nil
}

// insecure tells people, now and then, that a handshake with the endpoint has failed.
func (t *transport) insecure(err error) {
	now := time.Now().Unix()
	if last := t.warned.Load(); t.log != nil && now-last >= warnEvery && t.warned.CompareAndSwap(last, now) {
		t.log.Warn("a TLS handshake with an endpoint failed", zap.String("endpoint", t.address), zap.Error(err))
	}
}

// secureConn is secure for connections of package net: those of probes and copies. It returns nc where the
// endpoint speaks plain HTTP, and closes it where it fails.
func secureConn(ctx context.Context, e *balancer.Endpoint, nc net.Conn) (net.Conn, error) {
	t, ok := e.Transport.(*transport)
	if !ok {
		return nc, nil
	}
	settings := t.settings.Load()
	if settings == nil || settings.tls == nil {
		return nc, nil
	}
	c := tls.Client(nc, t.tlsConfig(settings.tls, settings.http2))
	err := c.HandshakeContext(ctx)
	if err == nil && settings.http2 && c.ConnectionState().NegotiatedProtocol != alpnHTTP2 {
		err = errNoALPN
	}
	if err != nil {
		_ = nc.Close()
		t.insecure(err)
		return nil, err
	}
	return c, nil
}

// falseAlarm undoes the interrupt for an early answer where the endpoint has said nothing but what concerns TLS
// alone: tickets, mostly, which come while the request is on its way.
func (c *conn) falseAlarm() bool {
	if c.ep == nil || c.interruptedBy() != reasonEarly {
		return false
	}
	t, ok := c.ep.descriptor.(*tlsConn)
	if !ok || !t.quiet() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != reasonEarly {
		return false
	}
	c.pardon()
	return true
}
