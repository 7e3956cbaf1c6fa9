package proxy

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"weir/config"
	"weir/internal/certificate/certificatetest"
	"weir/proxy/enginetest"
)

// TestTLSSystemCallsPerRequest: TLS on both sides costs no system call more than without.
func TestTLSSystemCallsPerRequest(t *testing.T) {
	ca := certificatetest.New(t)
	pair := ca.Issue(t, time.Hour)
	own, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go costServe(ln, costAnswer)
	cert, key := pair.Write(t, t.TempDir())
	p, ops := changedConfigProxy(t, func(c *config.Config) {
		s := config.DefaultListenerTLS()
		s.Certificates = []config.Certificate{{Cert: cert, Key: key}}
		c.Listeners[0].TLS = &s
		client := config.DefaultPoolTLS()
		client.InsecureSkipVerify = true
		c.Pools[0].TLS = &client
	}, ln.Addr().String())
	c, err := tls.Dial("tcp", p.Addrs()[0].String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	buf, end := make([]byte, 64<<10), []byte(`{"prediction":1}`)
	trip := func() {
		if _, err := c.Write([]byte(costRequest)); err != nil {
			t.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(buf[:n], end); {
			m, err := c.Read(buf[n:])
			if err != nil {
				t.Fatalf("%v after %q", err, buf[:n])
			}
			n += m
		}
	}
	for range 3 {
		trip()
	}
	reads, writes, peeks := ops.Reads.Load(), ops.Writes.Load(), ops.Peeks.Load()
	const n = 100
	for range n {
		trip()
	}
	reads, writes, peeks = ops.Reads.Load()-reads, ops.Writes.Load()-writes, ops.Peeks.Load()-peeks
	tries := uint64(3 * n) // as in TestSystemCallsPerRequest
	if enginetest.Name() != config.EngineGoroutine {
		tries = 2 * n
	}
	if writes != 2*n || reads > tries {
		t.Errorf("%d reads, %d writes, %d peeks for %d requests; want at most %d, %d", reads, writes, peeks, n, tries, 2*n)
	}
}
