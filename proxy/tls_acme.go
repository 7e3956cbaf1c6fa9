package proxy

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"

	"weir/config"
	"weir/internal/certificate"
	"weir/internal/certificate/acme"
)

// newDomains makes what obtains the certificates of s. Those that old has go on as they are, whatever else of the
// listener has changed.
func (t *table) newDomains(s *tlsServer, old *table, at string) (faults config.Faults) {
	c := s.cfg.ACME
	if c == nil {
		return nil
	}
	place := strings.Join([]string{c.Directory, c.Cache, c.Email, c.CA}, "\n")
	account, err := obtain(t, old, s.uses(sourceKey{kind: "acme account", place: place}), func() (*acme.Account, error) { return acme.OpenAccount(*c) })
	if err != nil {
		return config.Faults{t.cfg.Fault(at, err.Error())}
	}
	s.plain = t.plain()
	kind := "acme domain"
	if s.plain {
		kind = "acme domain, also by HTTP-01"
	}
	s.domains = make(map[string]*acme.Domain, len(c.Domains))
	for i, name := range c.Domains {
		key := s.uses(sourceKey{kind: kind, place: place + "\n" + name})
		d, err := obtain(t, old, key, func() (*acme.Domain, error) { return acme.OpenDomain(account, name, s.plain) })
		if err != nil {
			faults = append(faults, t.cfg.Fault(config.ItemKey(at+".domains", i), err.Error()))
			continue
		}
		s.domains[name] = d
	}
	return faults
}

// plain reports whether a listener speaks HTTP without TLS, where HTTP-01 is looked for.
func (t *table) plain() bool {
	return slices.ContainsFunc(t.cfg.Listeners, func(l config.Listener) bool { return l.TLS == nil })
}

// obtainedFor is the certificate for a client of a listener with ACME: a file's that has the name, else the one that
// was obtained for it. nil ends the handshake with the alert unrecognized_name.
func (s *tlsServer) obtainedFor(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := serverName(hello)
	if c := certificate.Named(s.pairs, hello); c != nil {
		return c, nil
	}
	d := s.domains[name]
	switch {
	case d != nil:
		if c := d.Certificate(); c != nil {
			return c, nil
		}
	case len(s.pairs) > 0:
		return certificate.Choose(s.pairs, hello), nil
	case name == "": // a check of a load balancer by address, as if there were files
		for _, name := range s.cfg.ACME.Domains {
			if c := s.domains[name].Certificate(); c != nil {
				return c, nil
			}
		}
	}
	if w, ok := hello.Conn.(*tlsWire); ok {
		w.unnamed = true
	}
	return nil, nil
}

func serverName(hello *tls.ClientHelloInfo) string {
	return strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
}

// challengeFor answers an authority that verifies a domain (TLS-ALPN-01, RFC 8737). nil: it is an ordinary client.
func (s *tlsServer) challengeFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acme.ALPN {
		return nil, nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acme.ALPN}, SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if d := s.domains[serverName(hello)]; d != nil {
				return d.Challenge(), nil
			}
			return nil, nil
		},
	}, nil
}

// challengePath is where an authority looks for the answer of HTTP-01.
const challengePath = "/.well-known/acme-challenge/"

// meetChallenge answers an authority that verifies a domain by HTTP-01 (RFC 8555, 8.3). All others go on to the routes.
func (r *request) meetChallenge() {
	token, ok := bytes.CutPrefix(r.path, []byte(challengePath))
	if !ok || r.c.secure || !(r.isHead || methods[r.method] == "GET") {
		return
	}
	for _, a := range r.table.accounts {
		if answer := a.Answer(string(token)); answer != nil {
			r.answer(200, []byte("Content-Type: text/plain\r\n"), answer)
			return
		}
	}
}

// tellOf has what becomes of orders told where p's events go.
func (p *Proxy) tellOf(s source) {
	if d, ok := s.(*acme.Domain); ok && p.options.Certificate != nil {
		d.Tell(p.options.Certificate)
	}
}
