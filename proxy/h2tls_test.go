package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/config"
)

// tlsServerOf is a server of net/http's that speaks this protocol over TLS.
func tlsServerOf(t testing.TB, c *tls.Config, protocol string, handler http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	if protocol == config.ProtocolHTTP2 {
		s.Config.Protocols.SetHTTP2(true)
		c.NextProtos = []string{"h2"}
	} else {
		s.Config.Protocols.SetHTTP1(true)
		c.NextProtos = []string{"http/1.1"}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestHTTP2CertificateChanges: under load, with connections that end all the time, weir's certificate for the endpoints
// of a pool changes; no request fails, and new connections have the new one.
func TestHTTP2CertificateChanges(t *testing.T) {
	k := newKeeper(t)
	server := k.server()
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, k.Pool()
	var asked atomic.Int64
	var serials sync.Map
	addr := tlsServerOf(t, server, config.ProtocolHTTP2, func(w http.ResponseWriter, q *http.Request) {
		serials.Store(q.TLS.PeerCertificates[0].SerialNumber.String(), true)
		if asked.Add(1)%10 == 0 {
			w.Header().Set("Connection", "close") // net/http's way to GOAWAY
		}
		echo(w, q)
	})
	dir := t.TempDir()
	first := k.Issue(t, time.Hour)
	cert, key := first.Write(t, dir)
	r := start(t, setup{
		endpoints: []string{addr}, route: "retry: off",
		pool: "protocol: http2\nconnections: {connect_timeout: 10s}\n" + k.trusting(fmt.Sprintf(", cert: %q, key: %q", cert, key)),
	})
	seen := func(serial any) bool { _, ok := serials.Load(fmt.Sprint(serial)); return ok }
	var running sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		c := r.dial(t)
		running.Go(func() {
			_ = c.SetDeadline(time.Now().Add(6 * patience))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if m, err := c.post("x"); err != nil || m.status() != 200 {
					t.Errorf("%+v, %v", m, err)
					return
				}
			}
		})
	}
	eventually(t, "the first certificate", func() bool { return seen(first.Serial) })
	second := k.Issue(t, time.Hour)
	second.Write(t, dir)
	eventually(t, "the second certificate", func() bool { return seen(second.Serial) || t.Failed() })
	close(stop)
	running.Wait()
	if n := sum(r.metrics(t), "weir_retries_total"); n != 0 {
		t.Errorf("%v retries", n)
	}
}

// TestEdgeTLSHedge: hedges over TLS, on connections of HTTP/1.1 and on streams: who answers first is delivered, and the
// loser is cancelled.
func TestEdgeTLSHedge(t *testing.T) {
	for _, protocol := range []string{config.ProtocolHTTP1, config.ProtocolHTTP2} {
		t.Run(protocol, func(t *testing.T) {
			k := newKeeper(t)
			var asked, canceled atomic.Int64
			slow := tlsServerOf(t, k.server(), protocol, func(w http.ResponseWriter, q *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(io.Discard, q.Body)
				<-q.Context().Done()
				canceled.Add(1)
			})
			fast := tlsServerOf(t, k.server(), protocol, echo)
			r := start(t, setup{
				endpoints: []string{slow, fast}, options: oneLoop, pool: "outlier: off\nprotocol: " + protocol + "\n" + k.trusting(""),
				change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}),
			})
			c := r.dial(t)
			for i := range 10 {
				body := fmt.Sprintf("body %d", i)
				c.send("POST /predict HTTP/1.1\r\nHost: h\r\nIdempotency-Key: 1\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body)
				if m := c.answer("POST"); m.status() != 200 || string(m.body) != body {
					t.Fatalf("%s %q", m.start, m.body)
				}
			}
			eventually(t, "the end of the slow endpoint's requests", func() bool { return canceled.Load() == asked.Load() })
			values := r.metrics(t)
			if won := sum(values, "weir_hedges_total", `outcome="won"`); asked.Load() == 0 || won != float64(asked.Load()) {
				t.Errorf("%v hedges won, the slow endpoint had %d requests", won, asked.Load())
			}
			p, _ := r.Pool("blue")
			for _, e := range p.Endpoints {
				if e.Inflight != 0 || e.Errors != 0 {
					t.Errorf("%s has %d requests in flight at the end and %d errors", e.Address, e.Inflight, e.Errors)
				}
			}
		})
	}
}
