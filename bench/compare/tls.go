package compare

import (
	"crypto/tls"
)

// tls returns what clients of a workload speak; nil for none. It is the same handshake with every peer: the
// key exchange that all of them know, and no session is resumed.
func (f *field) tls(w *Workload) *tls.Config {
	if !w.TLS {
		return nil
	}
	return &tls.Config{
		RootCAs: f.roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
		SessionTicketsDisabled: true,
	}
}
