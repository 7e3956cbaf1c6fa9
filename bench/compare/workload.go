package compare

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/bench"
)

// Workload is a load to compare under.
type Workload struct {
	Name  string
	Title string // what is special about it
	// Rate in requests a second of a Poisson process; 0 is a closed loop: every connection sends
	// its next request when it has an answer.
	Rate         float64
	Connections  int
	RequestBody  int // bytes
	ResponseBody int // bytes
	Users        int // who send the requests; 0 names none
	Idle         int // connections that made one request and stay open beside the load
	Setup        string

	TLS   bool // clients speak it; endpoints do not
	HTTP2 bool // clients speak it, in clear by prior knowledge
	GRPC  bool // clients and endpoints speak it, in clear
	// Streams is how many requests are under way on each connection of HTTP/2; 0 is one.
	Streams int
	// Handshake has a new connection for every request.
	Handshake bool
	// Every is the time between two events on each of Connections times Streams endless streams, which are the
	// load in place of requests; an event is what figures are for.
	Every time.Duration
	// Memory has the memory of the proxy for each stream measured, too.
	Memory bool
}

// Setups: what the peers are configured for.
const (
	setupSmall     = "small"     // one route, a split 90/10
	setupBodies    = "bodies"    // the same, tuned for large bodies
	setupRoutes    = "routes"    // 1,000 routes
	setupSplit     = "split"     // one route, 16 variants, affinity
	setupEndpoints = "endpoints" // a pool of 1,000 endpoints
	setupIdle      = "idle"      // as small, started anew
	setupFeatures  = "features"  // all that a pod would have on
	setupTLS       = "tls"       // as small, with TLS
	setupHTTP2     = "h2"        // as small, with HTTP/2 in clear
	setupGRPC      = "grpc"      // gRPC in clear
	setupEvents    = "events"    // tuned for streams
	setupIdleTLS   = "idle_tls"
	setupIdleHTTP2 = "idle_h2"
	setupStreams   = "streams" // as events, started anew
)

const (
	smallRequest, smallResponse = 80, 150
	routes                      = 1000
	variants                    = 16
	endpoints                   = 1000
	idleConnections             = 10_000
	users                       = 10_000
	message                     = 1024 // bytes of gRPC's
	eventSize                   = 100
	openStreams                 = 2000
)

// Workloads returns all workloads, in the order in which they are measured. Those of one setup
// stand together.
func Workloads() []Workload {
	small := func(name, title string, w Workload) Workload {
		w.Name, w.Title = name, title
		w.RequestBody, w.ResponseBody = smallRequest, smallResponse
		if w.Connections == 0 {
			w.Connections = bench.DefaultConnections
		}
		if w.Setup == "" {
			w.Setup = setupSmall
		}
		return w
	}
	return []Workload{
		small("a", "64 connections", Workload{}),
		small("b", "8 connections", Workload{Connections: 8}),
		small("c", "512 connections", Workload{Connections: 512}),
		small("f", "2,500 requests/s", Workload{Rate: 2500}),
		small("f10k", "10,000 requests/s", Workload{Rate: 10_000}),
		{Name: "d", Title: "150 KB up", Connections: 64, RequestBody: 150 << 10, ResponseBody: smallResponse, Setup: setupBodies},
		{Name: "e", Title: "1 MB down", Connections: 64, RequestBody: smallRequest, ResponseBody: 1 << 20, Setup: setupBodies},
		small("routes", "1,000 routes", Workload{Setup: setupRoutes}),
		small("split16", "16 variants, affinity", Workload{Setup: setupSplit, Users: users}),
		small("endpoints", "1,000 endpoints", Workload{Setup: setupEndpoints}),
		small("idle", "beside 10,000 idle connections", Workload{Setup: setupIdle, Idle: idleConnections}),
		small("features", "all features on", Workload{Setup: setupFeatures, Users: users}),
		small("tls", "TLS", Workload{Setup: setupTLS, TLS: true}),
		small("h2tls", "HTTP/2 over TLS", Workload{Setup: setupTLS, TLS: true, HTTP2: true, Connections: 8, Streams: 8}),
		small("handshake", "a TLS handshake each", Workload{Setup: setupTLS, TLS: true, Handshake: true, Connections: 16}),
		small("h2", "HTTP/2", Workload{Setup: setupHTTP2, HTTP2: true, Connections: 8, Streams: 8}),
		{Name: "grpc", Title: "gRPC", Connections: 8, Streams: 8, RequestBody: message, ResponseBody: message, Setup: setupGRPC, HTTP2: true, GRPC: true},
		{Name: "grpc_stream", Title: "gRPC streams", Connections: 8, Streams: 25, Every: 20 * time.Millisecond, ResponseBody: eventSize, Setup: setupGRPC, HTTP2: true, GRPC: true},
		{Name: "sse", Title: "event streams", Connections: 200, Every: 20 * time.Millisecond, ResponseBody: eventSize, Setup: setupEvents},
		small("idle_tls", "beside 10,000 idle connections of TLS", Workload{Setup: setupIdleTLS, TLS: true, Idle: idleConnections}),
		small("idle_h2", "beside 10,000 idle connections of HTTP/2", Workload{Setup: setupIdleHTTP2, HTTP2: true, Connections: 8, Streams: 8, Idle: idleConnections}),
		{Name: "streams", Title: "2,000 event streams", Connections: openStreams, Every: time.Second, ResponseBody: eventSize, Setup: setupStreams, Memory: true},
	}
}

// Find returns the workloads of those names, in the order of [Workloads].
func Find(names []string) ([]Workload, error) {
	all := Workloads()
	known := make([]string, len(all))
	for i, w := range all {
		known[i] = w.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("workload %q: must be one of %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(all, func(w Workload) bool { return !slices.Contains(names, w.Name) }), nil
}

// Saturates reports whether the workload is as much as the proxy can take.
func (w *Workload) Saturates() bool { return w.Rate == 0 && w.Every == 0 }

// streams is how many requests are under way on a connection.
func (w *Workload) streams() int { return max(w.Streams, 1) }

// load describes the workload in a result.
func (w *Workload) load() Load {
	load := "as fast as answers come"
	if w.Rate > 0 {
		load = fmt.Sprintf("Poisson arrivals at %g/s", w.Rate)
	}
	title := w.Title
	if w.Idle > 0 {
		title = fmt.Sprintf("beside %d idle connections%s", w.Idle, w.protocol())
	}
	l := Load{Name: w.Name, Title: title, Closed: w.Saturates(), Idle: w.Idle}
	connections := fmt.Sprintf("%d connections", w.Connections)
	if w.Streams > 1 {
		connections += fmt.Sprintf(" with %d streams each", w.Streams)
	}
	if w.Every > 0 {
		l.PerEvent = true
		if w.Memory {
			l.Streams = w.Connections * w.streams()
		}
		l.Detail = fmt.Sprintf("%s; an event of %d B each %v on each stream, %s; figures are for an event, latencies from the endpoint to the client", title, w.ResponseBody, w.Every, connections)
		return l
	}
	l.Detail = fmt.Sprintf("%s; POST of %d B, answer of %d B, %s, %s", title, w.RequestBody, w.ResponseBody, connections, load)
	return l
}

// protocol says what idle connections speak, unless it is HTTP/1.1 in clear.
func (w *Workload) protocol() string {
	switch {
	case w.TLS:
		return " of TLS"
	case w.HTTP2:
		return " of HTTP/2"
	}
	return ""
}

// url returns where a path of a proxy is, for the workload.
func (w *Workload) url(address, path string) string {
	if w.TLS {
		return "https://" + address + path
	}
	return "http://" + address + path
}

// target returns what to send to a proxy.
func (w *Workload) target(address string) (bench.Target, error) {
	paths := w.paths()
	if w.GRPC {
		method := fmt.Sprintf("%s?size=%d", grpcMethod, w.ResponseBody)
		return bench.NewGRPC(bench.Request{URL: w.url(address, "")}, method, make([]byte, w.RequestBody))
	}
	var header []bench.Field
	if w.Handshake {
		header = []bench.Field{{Name: "Connection", Value: "close"}}
	}
	t := make(rotation, len(paths))
	for i, path := range paths {
		url := w.url(address, path)
		if w.ResponseBody != smallResponse {
			url += fmt.Sprintf("?size=%d", w.ResponseBody)
		}
		var err error
		t[i], err = bench.NewFixed(bench.Request{URL: url, Users: w.Users, Header: header}, make([]byte, w.RequestBody))
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// The service that gRPC calls.
const (
	grpcService = "/weir.bench.Endpoint"
	grpcMethod  = grpcService + "/Infer"
)

// paths of the routes of the workload's setup.
func (w *Workload) paths() []string {
	switch {
	case w.GRPC:
		return []string{grpcService}
	case w.Setup != setupRoutes:
		return []string{"/predict"}
	}
	paths := make([]string, routes)
	for i := range paths {
		paths[i] = fmt.Sprintf("/models/model-%04d/predict", i)
	}
	return paths
}

// rotation sends requests of several kinds in turn.
type rotation []*bench.Fixed

// stride is a prime that visits the kinds in no order that a cache could like.
const stride = 611_953

// Append implements [bench.Target].
func (r rotation) Append(b []byte, n uint64) ([]byte, bench.Hit) {
	return r[n*stride%uint64(len(r))].Append(b, n)
}

// Judge implements [bench.Target].
func (r rotation) Judge(bench.Hit, *bench.Response) bench.Verdict { return bench.Unjudged }
