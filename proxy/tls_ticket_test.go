package proxy

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"weir/config"
	"weir/internal/certificate"
	"weir/internal/certificate/certificatetest"
)

// TestTicketKeysRotate: a ticket is good for some days, and then no more: its key is gone. A change of configuration
// keeps the keys.
func TestTicketKeysRotate(t *testing.T) {
	ca := certificatetest.New(t)
	cert, key := ca.Issue(t, time.Hour).Write(t, t.TempDir())
	w, err := certificate.Open(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &tlsServer{cfg: config.ListenerTLS{MinVersion: "1.2"}, protocols: []string{alpnHTTP1}, pairs: []*certificate.Watcher{w}}
	s.configure(nil)
	var ahead time.Duration
	now := func() time.Time { return time.Now().Add(ahead) }
	s.current.Time = now // the clone has it, too
	next := &tlsServer{cfg: s.cfg, protocols: s.protocols, pairs: s.pairs}
	sessions := tls.NewLRUClientSessionCache(8)
	shake := func(s *tlsServer) bool {
		t.Helper()
		here, there := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			server := tls.Server(there, s.config())
			err := server.Handshake()
			_ = server.Close()
			ended <- err
		}()
		// TLS 1.2 has the ticket within the handshake. The client's clock is not looked at: it is the server that forgets.
		client := tls.Client(here, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MaxVersion: tls.VersionTLS12, ClientSessionCache: sessions})
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		resumed := client.ConnectionState().DidResume
		_ = here.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		return resumed
	}
	shake(s)
	if !shake(s) {
		t.Error("the second handshake is not resumed")
	}
	next.configure(s)
	if !shake(next) {
		t.Error("not resumed with another configuration")
	}
	ticket, _ := sessions.Get("localhost")
	ahead = 2 * 24 * time.Hour
	sessions.Put("localhost", ticket)
	if !shake(next) {
		t.Error("not resumed two days later")
	}
	ahead = 9 * 24 * time.Hour
	sessions.Put("localhost", ticket)
	if shake(next) {
		t.Error("resumed nine days later")
	}
	if !shake(next) {
		t.Error("and not again")
	}
}
