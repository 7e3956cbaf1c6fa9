package proxy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
)

// clientCert is what is known of a client by its certificate.
type clientCert struct {
	name string // that limits and affinities go by; "": it has presented none
	// field is the line for the endpoint, as Envoy writes it; "" without a certificate.
	field string
}

// xfcc is the field that tells endpoints of the client's certificate.
const xfcc = "x-forwarded-client-cert"

// newIdentity reads the certificates that a client has presented, its own first. They were verified.
func newIdentity(certs []*x509.Certificate) *clientCert {
	if len(certs) == 0 {
		return &clientCert{}
	}
	c := certs[0]
	sum := sha256.Sum256(c.Raw)
	parts := []string{"Hash=" + hex.EncodeToString(sum[:]), "Subject=" + quoteXFCC(c.Subject.String())}
	var names []string
	for _, u := range c.URIs {
		names = append(names, u.String())
		parts = append(parts, "URI="+xfccValue(u.String()))
	}
	for _, name := range c.DNSNames {
		names = append(names, name)
		parts = append(parts, "DNS="+xfccValue(name))
	}
	names = append(names, c.Subject.CommonName)
	return &clientCert{name: plainText(names[0]), field: "X-Forwarded-Client-Cert: " + strings.Join(parts, ";") + "\r\n"}
}

// text is the name; empty where there is none.
func (id *clientCert) text() []byte {
	if id == nil {
		return nil
	}
	return unsafeBytes(id.name)
}

// xfccValue quotes a value that could be taken for more than one.
func xfccValue(s string) string {
	if strings.ContainsAny(s, ",;=\" ") {
		return quoteXFCC(s)
	}
	return plainText(s)
}

func quoteXFCC(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plainText(s)) + `"`
}

// plainText is s without its control characters.
func plainText(s string) string { return string(appendPlain(nil, s)) }

// appendNamed appends all the lines called name.
func appendNamed(b, raw []byte, name string) []byte {
	for one, v := range eachField(raw) {
		if equalFold(one, name) {
			b = append(append(b, one...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	return b
}
