package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"

	"weir/proxy/admin"
)

// apiToken is the token of --token-file or WEIR_TOKEN, in this order; "" when there is none. No error has
// it in its text.
func (c *cli) apiToken() (string, error) {
	if c.token != "" {
		token, err := admin.FirstToken(c.token)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return token, nil
	}
	token := strings.TrimSpace(c.getenv("WEIR_TOKEN"))
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usageError("WEIR_TOKEN has a character that no token has: blanks, or other than visible ASCII")
	}
	return token, nil
}

// transport trusts the authorities of the system and those of --ca-file or WEIR_CA.
func (c *cli) transport() (http.RoundTripper, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	file, from := c.ca, "--ca-file"
	if file == "" {
		file, from = c.getenv("WEIR_CA"), "WEIR_CA"
	}
	if file == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without authorities of its own
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %s has no certificate in PEM form", from, file)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return transport, nil
}
