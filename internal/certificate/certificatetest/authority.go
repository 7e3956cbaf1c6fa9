// Package certificatetest issues real certificates for tests that speak TLS on loopback.
package certificatetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	last atomic.Int64 // serial number
}

// New returns an authority that only this test trusts.
func New(t testing.TB) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &Authority{cert: cert, key: key, pem: encode("CERTIFICATE", der)}
	a.last.Store(1)
	return a
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// PEM is the authority's own certificate, as a file for clients has it.
func (a *Authority) PEM() []byte { return a.pem }

// Pair is a certificate and its key, as PEM.
type Pair struct {
	Cert, Key []byte
	Serial    int64 // no two pairs of an authority have the same
}

// Issue returns a certificate for localhost, 127.0.0.1, ::1 and the names, valid from an hour ago
// until the given time from now.
func (a *Authority) Issue(t testing.TB, lasts time.Duration, names ...string) Pair {
	t.Helper()
	return a.IssueFrom(t, time.Now().Add(-time.Hour), time.Now().Add(lasts), names...)
}

// IssueFrom is Issue with both ends of the certificate's time.
func (a *Authority) IssueFrom(t testing.TB, from, to time.Time, names ...string) Pair {
	t.Helper()
	return a.issue(t, func(template *x509.Certificate) {
		template.NotBefore, template.NotAfter = from, to
		template.DNSNames = append(template.DNSNames, names...)
	})
}

// IssueAs is Issue for an hour, with what change makes of the certificate.
func (a *Authority) IssueAs(t testing.TB, change func(*x509.Certificate)) Pair {
	t.Helper()
	return a.issue(t, change)
}

func (a *Authority) issue(t testing.TB, change func(*x509.Certificate)) Pair {
	t.Helper()
	serial := a.last.Add(1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "weir"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Pair{Cert: encode("CERTIFICATE", der), Key: encode("PRIVATE KEY", private), Serial: serial}
}

// Write puts the pair into dir as tls.crt and tls.key and returns their paths.
func (p Pair) Write(t testing.TB, dir string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	WriteFile(t, cert, p.Cert)
	WriteFile(t, key, p.Key)
	return cert, key
}

// WriteFile replaces a file as a whole, as tools that renew certificates do.
func WriteFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
