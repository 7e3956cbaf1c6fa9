package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Choose returns the certificate for a client: the first that has the name the client asks for, else the first
// whose wildcard covers it, else the first of all. Among those that are equal it is one that the client can use, so
// that a name may have a certificate of each kind of key.
func Choose(pairs []*Watcher, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(pairs) == 1 {
		return pairs[0].Certificate()
	}
	if c := Named(pairs, hello); c != nil {
		return c
	}
	if c := choose(pairs, hello, func(string) bool { return true }); c != nil {
		return c
	}
	return pairs[0].Certificate()
}

// Named is Choose among the certificates that have the name alone; nil: none has it.
func Named(pairs []*Watcher, hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c := choose(pairs, hello, func(one string) bool { return strings.EqualFold(one, name) }); c != nil {
		return c
	}
	return choose(pairs, hello, func(one string) bool { return wildcard(one, name) })
}

// choose returns the first certificate with a name that is covered, of those that the client can use if there is one.
func choose(pairs []*Watcher, hello *tls.ClientHelloInfo, covers func(string) bool) (first *tls.Certificate) {
	for _, w := range pairs {
		c := w.Certificate()
		if !anyName(c, covers) {
			continue
		}
		if hello.SupportsCertificate(c) == nil {
			return c
		}
		if first == nil {
			first = c
		}
	}
	return first
}

func anyName(c *tls.Certificate, covers func(string) bool) bool {
	for _, one := range c.Leaf.DNSNames {
		if covers(one) {
			return true
		}
	}
	return false
}

// wildcard reports whether *.example.com covers name: one label in front, as in RFC 9525, 6.3.
func wildcard(pattern, name string) bool {
	parent, ok := strings.CutPrefix(pattern, "*.")
	label, rest, dotted := strings.Cut(name, ".")
	return ok && dotted && label != "" && strings.EqualFold(parent, rest)
}

// ParseAuthorities reads the certificates of a PEM file, of which there has to be one.
func ParseAuthorities(data []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		n++
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is broken: %w", n, err)
		}
		pool.AddCert(c)
	}
	if n == 0 {
		return nil, errors.New("has no certificate; want a PEM file with those of the authorities")
	}
	return pool, nil
}
