// Package peers holds the configurations of the proxies that weir is compared with, and weir's
// own for the comparison: the same work for all, each tuned as its documentation advises.
package peers

import (
	"bytes"
	"embed"
	"fmt"
	"strconv"
	"strings"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

// Setup is the work that every peer is configured for.
type Setup struct {
	// Dir is a folder that the peer may write to: its log, its temporary files.
	Dir string
	// Listen and Admin are IPv4:PORT of the peer's two listeners. Only weir has the second.
	Listen, Admin string
	// Engine of weir; empty leaves the choice to it.
	Engine string
	// Files is how many files the peer may have open.
	Files uint64
	// Clients is how many connections of clients there may be.
	Clients int
	// Pools are the variants of every route.
	Pools []Pool
	// Routes are the prefixes of the paths that are served.
	Routes []string
	// Affinity keeps a user, named by X-User-ID, on a variant. Without it a variant is drawn for
	// every request.
	Affinity bool
	// LargeBodies tunes the peers for bodies of more than 100 KB, at the price of memory.
	LargeBodies bool
	// Features are those that a pod would have on: access log, health checks, trusted proxies,
	// limits, timeouts, metrics.
	Features bool
	// TLS is what clients speak, with the certificate in Cert, PEM, and its key in Key. Both has one after the
	// other.
	TLS             bool
	Cert, Key, Both string
	// HTTP2 is what clients may speak: beside HTTP/1.1 by ALPN with TLS, by prior knowledge without.
	HTTP2 bool
	// GRPC is what clients and endpoints speak, over HTTP/2 in clear.
	GRPC bool
	// Events are what is answered, and must not be held up.
	Events bool
	// Policy is how an endpoint of a pool is chosen, as HAProxy or weir calls it; empty leaves it at HAProxy's
	// leastconn and weir's default. nginx has least_conn always.
	Policy string
	// NoEjection lets endpoints that fail have requests all the same, so that the policy alone decides.
	NoEjection bool
}

// Scheme is that of the addresses that clients use.
func (s *Setup) Scheme() string {
	if s.TLS {
		return "https"
	}
	return "http"
}

// upstreams is how many connections to endpoints there may be, busy and idle.
const upstreams = 3072

// Connections is how many connections there may be in all.
func (s *Setup) Connections() int { return s.Clients + upstreams }

// ListenHost is the host of Listen.
func (s *Setup) ListenHost() string {
	host, _, _ := strings.Cut(s.Listen, ":")
	return host
}

// ListenPort is the port of Listen.
func (s *Setup) ListenPort() string {
	_, port, _ := strings.Cut(s.Listen, ":")
	return port
}

// Pool is a variant.
type Pool struct {
	Name, Version string
	Weight        int // relative; in percent where there are two
	Endpoints     []string
}

// Share is what a pool gets, as nginx's split_clients wants it.
type Share struct {
	Name, Percent string
}

// Shares returns the pools' shares; the last gets what is left, "*".
func (s *Setup) Shares() []Share {
	sum := 0
	for _, p := range s.Pools {
		sum += p.Weight
	}
	shares := make([]Share, len(s.Pools))
	for i, p := range s.Pools {
		shares[i] = Share{p.Name, strconv.FormatFloat(float64(p.Weight)*100/float64(sum), 'f', 2, 64) + "%"}
	}
	if len(shares) > 0 {
		shares[len(shares)-1].Percent = "*"
	}
	return shares
}

// Addresses returns the endpoints of all pools.
func (s *Setup) Addresses() []string {
	var all []string
	for _, p := range s.Pools {
		all = append(all, p.Endpoints...)
	}
	return all
}

// Render returns the configuration file called name for a setup: nginx.conf, haproxy.cfg,
// haproxy.map, Caddyfile or weir.yaml.
func Render(name string, s *Setup) ([]byte, error) {
	t, err := template.New(name+".tmpl").Option("missingkey=error").ParseFS(files, name+".tmpl")
	if err != nil {
		return nil, fmt.Errorf("no configuration of a peer: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, s); err != nil {
		return nil, err
	}
	return []byte(strings.TrimLeft(b.String(), "\n")), nil
}
