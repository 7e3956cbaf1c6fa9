// Package admin is weir's second listener: the API that shows and steers a running weir, its
// metrics, and the health of the process. It decides nothing itself; what it is asked to do it
// hands to the Controller and to the reload function it was given. openapi.yaml describes the API; a
// test holds the two together.
//
// Try it:
//
//	curl -s http://127.0.0.1:9901/api/v1/status
//	curl -s -X PUT -H 'Content-Type: application/json' \
//	     -d '{"weights":{"blue":50,"green":50},"reason":"halfway","ramp":"5m"}' \
//	     http://127.0.0.1:9901/api/v1/routes/predict/weights
//	curl -s -X POST http://127.0.0.1:9901/api/v1/rollback
//	curl -sN http://127.0.0.1:9901/api/v1/events
//
// Where admin.token_file is set, every request but those for /health/ brings a token:
//
//	curl -s -H "Authorization: Bearer $WEIR_TOKEN" http://127.0.0.1:9901/api/v1/status
package admin

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/config"
	"weir/proxy/control"
)

// Bounds on what one client of the API may take. The longest write is a profile or a big page of
// metrics to a slow reader.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHead       = 32 << 10
)

// Options are the parts the API works on. Address, Tokens, GetCertificate, Collectors and Log may be absent.
type Options struct {
	// Address is the listener's as configured. When its host is a name, requests may use that name.
	Address string
	// Control is what the API shows and steers.
	Control *control.Controller
	// Config returns the configuration in force and the generation it came into force with.
	Config func() (*config.Config, uint64)
	// Reload reads the configuration again. It returns the generation then in force and what changed, a
	// line each; the error is a config.Faults when the file is at fault, a *proxy.ControlError when
	// weir is.
	Reload func(by string) (generation uint64, changes []string, err error)
	// Started reports whether the start is complete, Ready why new requests should not be sent here
	// (nothing: they should).
	Started func() bool
	Ready   func() []string
	// Tokens are those of which a request must bring one. Default: none is asked for.
	Tokens *Tokens
	// GetCertificate, when it is set, has Serve speak TLS; it is asked at every handshake.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Collectors are the metrics, besides those of the process and the Go runtime.
	Collectors []prometheus.Collector
	// Log defaults to none.
	Log *zap.Logger
}

// Server answers the API. Create it with New.
type Server struct {
	o    Options
	log  *zap.Logger
	http *http.Server

	refused refusals
	streams *streams

	started  atomic.Bool   // Serve was called
	accepted chan struct{} // closed when it has returned
}

// New builds the server. An error means that two collectors describe the same metric.
func New(o Options) (*Server, error) {
	s := &Server{o: o, log: o.Log, streams: newStreams(), accepted: make(chan struct{})}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	metrics, err := s.metrics()
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.guard(serveTable(s.table(metrics))),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: patience}, // a deadline of one stream does not end the connection's
		ErrorLog:          zap.NewStdLog(s.log),
	}
	s.http.RegisterOnShutdown(s.streams.end) // they would never end by themselves
	if o.GetCertificate != nil {
		s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: o.GetCertificate}
	}
	return s, nil
}

// Serve answers requests on l until Shutdown: HTTP/1.1, and over TLS also HTTP/2. It returns nil after
// a Shutdown.
// It is called once.
func (s *Server) Serve(l net.Listener) error {
	s.started.Store(true)
	defer close(s.accepted)
	serve := s.http.Serve
	if s.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	if err := serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Shutdown stops accepting, ends the event streams, waits for other running requests until ctx ends, then
// cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err == nil && s.started.Load() {
		// Serve may just have accepted a connection that net/http did not know of yet.
		select {
		case <-s.accepted:
			err = s.http.Shutdown(ctx)
		case <-ctx.Done():
		}
	}
	if err != nil {
		_ = s.http.Close() // the error that matters is that of Shutdown
	}
	return err
}

// Handler returns what answers the requests, guards included.
func (s *Server) Handler() http.Handler { return s.http.Handler }
