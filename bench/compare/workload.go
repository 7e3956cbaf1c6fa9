package compare

import (
	"fmt"
	"slices"
	"strings"

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
)

const (
	smallRequest, smallResponse = 80, 150
	routes                      = 1000
	variants                    = 16
	endpoints                   = 1000
	idleConnections             = 10_000
	users                       = 10_000
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
func (w *Workload) Saturates() bool { return w.Rate == 0 }

// load describes the workload in a result.
func (w *Workload) load() Load {
	load := "as fast as answers come"
	if w.Rate > 0 {
		load = fmt.Sprintf("Poisson arrivals at %g/s", w.Rate)
	}
	title := w.Title
	if w.Idle > 0 {
		title = fmt.Sprintf("beside %d idle connections", w.Idle)
	}
	return Load{
		Name: w.Name, Title: title, Closed: w.Saturates(), Idle: w.Idle,
		Detail: fmt.Sprintf("%s; POST of %d B, answer of %d B, %d connections, %s", title, w.RequestBody, w.ResponseBody, w.Connections, load),
	}
}

// target returns what to send to a proxy.
func (w *Workload) target(address string) (bench.Target, error) {
	paths := w.paths()
	t := make(rotation, len(paths))
	for i, path := range paths {
		url := "http://" + address + path
		if w.ResponseBody != smallResponse {
			url += fmt.Sprintf("?size=%d", w.ResponseBody)
		}
		var err error
		t[i], err = bench.NewFixed(bench.Request{URL: url, Users: w.Users}, make([]byte, w.RequestBody))
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// paths of the routes of the workload's setup.
func (w *Workload) paths() []string {
	if w.Setup != setupRoutes {
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
