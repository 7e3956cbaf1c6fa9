package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// shake makes a handshake at the port for https.
func (g *guided) shake(c *tls.Config) (state tls.ConnectionState, err error) {
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", g.addr, c)
	if err != nil {
		return state, err
	}
	defer func() { _ = nc.Close() }()
	return nc.ConnectionState(), nil
}

// TestGuideProtocols: ssl_protocols TLSv1.2 TLSv1.3. The same.
func TestGuideProtocols(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			c := g.client()
			c.MinVersion, c.MaxVersion = version, version
			_, err := g.shake(c)
			g.wants(tls.VersionName(version), (err == nil) == want, err)
		}
	}
}

// TestGuideCiphers: ssl_ciphers HIGH:!aNULL:!MD5. Both take what is safe, of what the certificate's key allows; weir
// does not take CBC with SHA-256, which leaks by its timing as it is written in Go, and neither takes RC4.
func TestGuideCiphers(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		for suite, want := range map[uint16]bool{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: true, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: true,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: true, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA: true,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256: g.weir == nil, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA: false,
		} {
			c := g.client()
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite}
			state, err := g.shake(c)
			g.wants(tls.CipherSuiteName(suite), (err == nil) == want && (err != nil || state.CipherSuite == suite), err)
		}
	}
}

// TestGuideHTTP2: listen 443 ssl http2. The same: HTTP/2 for clients that speak it, HTTP/1.1 for others, the routes and
// the headers of both.
func TestGuideHTTP2(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{Body: []byte("well")}) {
		for _, offer := range []struct {
			protocols []string
			want      string
		}{{[]string{"h2", "http/1.1"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""}} {
			c := g.client()
			c.NextProtos = offer.protocols
			state, err := g.shake(c)
			g.wants(fmt.Sprint("ALPN ", offer.protocols), err == nil && state.NegotiatedProtocol == offer.want, fmt.Sprint(err, state.NegotiatedProtocol))
		}
		tr := &http.Transport{TLSClientConfig: g.client(), ForceAttemptHTTP2: true}
		client := &http.Client{Transport: tr}
		for range 3 {
			req, err := http.NewRequest("POST", "https://"+g.addr+"/predict", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = guideHost
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("%s: %v", g.name, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			g.wants("an answer by HTTP/2", err == nil && resp.ProtoMajor == 2 && resp.StatusCode == 200 && string(body) == "well", fmt.Sprint(err, resp.Proto, resp.Status))
			hsts := resp.Header.Values("Strict-Transport-Security")
			g.wants("HSTS", slices.Equal(hsts, []string{"max-age=31536000; includeSubDomains"}), hsts)
		}
		tr.CloseIdleConnections()
	}
}

// TestGuideRenewedCertificate: ssl_certificate. weir has a renewed one in force by itself, nginx after a reload.
func TestGuideRenewedCertificate(t *testing.T) {
	for _, g := range guides(t, backendtest.Behaviour{}) {
		before, err := g.shake(g.client())
		if err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		renewed := g.ca.Issue(t, time.Hour, guideHost)
		renewed.Write(t, g.certs)
		serial := func() int64 {
			state, err := g.shake(g.client())
			if err != nil {
				t.Fatalf("%s: %v", g.name, err)
			}
			return state.PeerCertificates[0].SerialNumber.Int64()
		}
		if g.weir != nil {
			eventually(t, "the renewed certificate", func() bool { return serial() == renewed.Serial })
		} else {
			g.wants("nginx goes on with the old one", serial() == before.PeerCertificates[0].SerialNumber.Int64(), serial())
		}
	}
}
