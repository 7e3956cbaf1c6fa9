// Package config holds what the operator wants, as data: the types of weir.yaml, their
// defaults, the strict loader with its error messages, and the watcher of the file.
// It imports nothing of weir. Runtime types (balancer.Pool, proxy.Table) are built from it.
package config

import (
	"io/fs"
	"net/netip"
	"slices"
	"time"
)

// Config is one weir.yaml: decoded, substituted, defaulted and validated. It is never
// changed after Load returned it, so it may be shared without a lock.
type Config struct {
	// File is the path the configuration was read from ("" when it came from memory).
	File string

	// Engine is what client connections are served on: one of Engines.
	Engine    string
	Listeners []Listener
	// TrustedProxies are the networks whose X-Forwarded-* fields are believed; the zero Prefix is that of Unix
	// sockets (Covers).
	TrustedProxies []netip.Prefix
	Admin          Admin
	State          State
	Log            Log
	Memory         Memory
	// Tracing is nil where no spans are made.
	Tracing *Tracing
	// Pools in file order.
	Pools []Pool
	// Routes in file order.
	Routes []Route
}

// The engines.
const (
	EngineAuto      = "auto"      // event loops where the system and the protocol allow it, else goroutines
	EngineGoroutine = "goroutine" // a goroutine for each connection
	EngineLoop      = "loop"      // event loops, one for each processor: Linux
)

// Engines returns the engines that a file may name.
func Engines() []string { return []string{EngineAuto, EngineGoroutine, EngineLoop} }

// Listener is one address that takes client connections.
type Listener struct {
	// Address is HOST:PORT; an empty host is every interface, port 0 lets the system choose. Or it is unix:PATH.
	Address string
	// Mode is that of the file of a Unix socket; 0: DefaultSocketMode.
	Mode fs.FileMode
	// Protocols are what clients may speak: some of Protocols.
	Protocols []string
	Timeouts  ListenerTimeouts
	Limits    ListenerLimits
	// TLS is nil when the listener speaks plain HTTP.
	TLS *ListenerTLS
	// ProxyProtocol: each connection begins with a header that says whose it is.
	ProxyProtocol bool
}

// Speaks reports whether clients of the listener may speak a protocol.
func (l *Listener) Speaks(protocol string) bool { return slices.Contains(l.Protocols, protocol) }

// ListenerTimeouts bound how long a client may take.
type ListenerTimeouts struct {
	Header    time.Duration // the whole request head, from its first byte; 408 when exceeded
	Body      time.Duration // between two reads of a request body, and between two writes to the client
	KeepAlive time.Duration // an idle connection between requests
}

// ListenerLimits bound how much a client may send.
type ListenerLimits struct {
	Header      Size // a request head; 431 when exceeded
	URI         Size // a request target; 414 when exceeded
	Body        Size // a request body; 413 when exceeded
	Connections int  // open connections on this listener; the next one waits in the backlog
	Streams     int  // requests under way on one HTTP/2 connection; the next one is refused
}

// Admin is the second listener: API, metrics, health.
type Admin struct {
	// Address is HOST:PORT; one that is not loopback has a TokenFile.
	Address string
	// TokenFile is the path of a file of tokens, absolute when it was read from a file; "" asks for
	// none. Its content is read where the configuration is put to use, not by Load.
	TokenFile string
	// TLS is nil when the listener speaks plain HTTP.
	TLS *Certificate
}

// Certificate is a certificate with its chain and its private key: the paths of two PEM files,
// absolute when they were read from a file. Load does not read them.
type Certificate struct{ Cert, Key string }

// State is what survives a restart.
type State struct {
	// File is the path of the file, absolute when it was read from a file; "" keeps nothing on disk.
	File string
}

// Log says what is written where.
type Log struct {
	Level  string // debug, info, warn, error
	Access AccessLog
}

// AccessLog is the log with one line per request.
type AccessLog struct {
	// Output is AccessStdout, AccessStderr, AccessOff, or the path of a file, absolute when it
	// was read from a file.
	Output string
}

// Pool is a named set of endpoints that run the same version of a model.
type Pool struct {
	Name      string
	Version   string
	Endpoints []Endpoint
	// Discover finds the endpoints instead; nil: they are listed.
	Discover *Discover
	// Policy picks the endpoint: one of Policies.
	Policy string
	// Hash says how the policy hash picks; nil with any other.
	Hash *Hash
	// Probe is the active health check; nil means probe: off.
	Probe *Probe
	// Outlier ejects endpoints by what requests meet there; nil means outlier: off.
	Outlier *Outlier
	// SlowStart is how long the weight of an endpoint that became usable grows to its own; 0: at once.
	SlowStart time.Duration
	// PanicThreshold is the percentage of endpoints that are not ejected below which ejected ones are used all
	// the same; 0: never.
	PanicThreshold float64
	// Load says how busy the endpoints are; nil where nobody asks.
	Load *Signals
	// Protocol is what is spoken with the endpoints: one of Protocols.
	Protocol string
	// TLS is nil when the endpoints speak plain HTTP.
	TLS *PoolTLS
	// ProxyProtocol is the version of the PROXY protocol that connections to endpoints begin with, ProxyV1 or ProxyV2;
	// "": they do not.
	ProxyProtocol string
	Connections   Connections
	// Concurrency and CircuitBreaker are nil where nothing is bounded.
	Concurrency    *Concurrency
	CircuitBreaker *CircuitBreaker
	// Scale says how many replicas are desired; nil: nobody asks.
	Scale *Scale
}

// What can be spoken with clients and with endpoints.
const (
	ProtocolHTTP1 = "http1"
	ProtocolHTTP2 = "http2"
)

// Protocols returns what can be spoken with clients and endpoints, in the order they are documented.
func Protocols() []string { return []string{ProtocolHTTP1, ProtocolHTTP2} }

// The versions of the PROXY protocol.
const (
	ProxyV1 = "v1" // a line of text
	ProxyV2 = "v2" // binary
)

// Outlier is passive health: an endpoint that fails requests gets none for a while.
type Outlier struct {
	ConsecutiveFailures int           // in a row; 0: their number does not matter
	FailurePercent      float64       // of the requests of an Interval, from MinRequests on; 0: it does not matter
	MinRequests         int           // to one endpoint in an Interval
	SuccessDeviation    float64       // how many standard deviations the success rate may lie below the mean of the pool's endpoints; 0: it does not matter
	LatencyFactor       float64       // how many times the median of the other endpoints' latency its own may be; 0: it does not matter
	Interval            time.Duration // over which percentages are taken
	Ejection            time.Duration // of the first; each further one is longer by as much, until the endpoint was well for as long
	MaxEjection         time.Duration
	MaxEjectedPercent   float64 // of a pool's endpoints at one time, at least one; never the last
}

// Policies returns the balancing policies a pool may name, in the order they are documented.
func Policies() []string {
	return []string{"round_robin", "least_request", "two_choices", "peak_ewma", "prequal", "utilization", "hash", "random"}
}

// Hash keeps requests alike on one endpoint of a pool.
type Hash struct {
	// Key is where a request says which it is like: a header, cookie, query parameter, the client's address or a
	// field of the body.
	Key Source
	// MaxLoad is the percentage of the mean requests in flight that an endpoint may have before others get its
	// requests; 0: any.
	MaxLoad float64
}

// Endpoint is one address of a pool.
type Endpoint struct {
	// Address is HOST:PORT, where a host name is resolved at load and every 10 s, or unix:PATH.
	Address string
	// Weight is relative to the other endpoints of the pool; default 1, 0 takes no new requests.
	Weight float64
	// Capacity is what the endpoint is said to bear; 0 when nothing is said.
	Capacity Rate
}

// Probe is an active health check: GET Path on every endpoint, once per Interval (± 10 % jitter).
type Probe struct {
	Path     string
	Interval time.Duration
	Timeout  time.Duration
	Rise     int // successes in a row that make an endpoint healthy
	Fall     int // failures in a row that make it unhealthy
	// Status are the expected status codes; default 200 to 299.
	Status StatusRange
	// JSON are fields of the answer that must have these values.
	JSON []Assertion
	// Model asks for the readiness of this model by the Open Inference Protocol V2, instead of Path; "": no.
	Model, ModelVersion string
	// GRPC asks grpc.health.v1.Health instead of Path; nil: no.
	GRPC *HealthService
	// Startup is how an endpoint is probed until its first success; nil: as later.
	Startup *Startup
	// Inference is a request with a known answer; nil: none.
	Inference *Inference
}

// HealthService is what gRPC's health checking is asked for.
type HealthService struct {
	Name string // "": the server as a whole
}

// Assertion is a field of a JSON answer, by its path (checks.gpu.healthy), and the value it must have: a text,
// a number, true, false or null, as JSON.
type Assertion struct{ Path, Value string }

// Startup is the time that an endpoint has to load its model: while it lasts, failures are expected.
type Startup struct {
	Budget   time.Duration
	Interval time.Duration
	Timeout  time.Duration
}

// Inference is a synthetic request: POST Body to Path, once per Interval.
type Inference struct {
	Path       string
	Body       string // JSON
	JSON       []Assertion
	Tolerance  float64 // how far numbers may be from what is expected, relative to it
	MaxLatency time.Duration
	Interval   time.Duration
}

// StatusRange is a range of HTTP status codes, both ends included ("200-299", or one code "204").
type StatusRange struct{ Low, High int }

// Contains reports whether code lies in the range.
func (r StatusRange) Contains(code int) bool { return code >= r.Low && code <= r.High }

// Connections bounds the connections weir keeps to each endpoint.
type Connections struct {
	Max            int           // open connections to one endpoint
	Idle           int           // of them kept open while idle
	ConnectTimeout time.Duration // to establish one

	// With ProtocolHTTP2: the requests that one carries at one time; how long nothing may come while it does until
	// there is a PING; and how long its answer may take.
	Streams          int
	Keepalive        time.Duration
	KeepaliveTimeout time.Duration
}

// Route sends the requests that match it to its split.
type Route struct {
	Name  string
	Match Match
	// Split in file order; the weights sum to more than 0. Empty where Redirect or Respond answers.
	Split []Variant
	// Rollout is how the route goes to another version; nil: as DefaultRollout says.
	Rollout *Rollout
	// Experiment is nil where nothing is measured of the variants as arms.
	Experiment *Experiment
	// Affinity is nil when the variant is chosen by chance.
	Affinity *Affinity
	Timeouts RouteTimeouts
	// Limits.Body is nil when only the listener's limit holds.
	Limits RouteLimits
	Retry  Retry
	// RateLimit is nil when there is none; so are the following.
	RateLimit   *RateLimit
	Hedge       *Hedge
	Concurrency *Concurrency
	Cache       *Cache
	Mirror      *Mirror
	Auth        *Auth
	CORS        *CORS
	Compress    *Compress
	Rewrite     *Rewrite
	Redirect    *Redirect // instead of Split, or before it (HTTPS)
	Respond     *Respond  // instead of Split
	Headers     Headers
	Stream      Stream
	Priority    Priority
	WebSocket   WebSocket
	Log         RouteLog
	// Allow and Deny are networks of clients, as TrustedProxies are: with Allow only those in it may ask, those in Deny may not.
	Allow, Deny []netip.Prefix
}

// Retry says when a request is sent again, to another endpoint of its variant while there is one.
type Retry struct {
	Attempts int // the first included; 1: never again
	// On are the failures after which a request is sent again: of RetryConnect, RetryReset, RetryTimeout, RetryProtocol.
	On []string
	// Status are codes of answers that count as such failures, ascending.
	Status []int
	// GRPC are names of statuses of gRPC, such as resource_exhausted, that count as such failures where the answer
	// to a call is nothing else; in the order of their codes.
	GRPC []string
	// Idempotent says which requests may be sent again after they may have reached an endpoint: one of
	// IdempotentAuto, IdempotentAlways, IdempotentNever.
	Idempotent string
	// BudgetPercent bounds the retries of a route: in any 10 s at most 10, or this percentage of its requests.
	BudgetPercent float64
	// Backoff is the base B of the pause before the n-th retry, which is drawn from 0 to (2^n - 1) B, at
	// most 10 B.
	Backoff time.Duration
}

// The failures that a retry may follow.
const (
	RetryConnect = "connect" // no connection
	RetryReset   = "reset"   // the connection ended before the answer's head
	RetryTimeout = "timeout" // of the attempt
	// RetryProtocol is an answer that is not valid HTTP.
	RetryProtocol = "protocol"
)

// What may be sent again.
const (
	IdempotentAuto   = "auto"   // safe methods (GET, HEAD, OPTIONS); and inference, which is pure: POST to …/predict, to V2 /v2/models/…/infer and gRPC's ModelInfer
	IdempotentAlways = "always" // every request of the route
	IdempotentNever  = "never"  // only what has reached no endpoint, and safe methods that met the end of a kept-alive connection
)

// RateLimit refuses requests of a key beyond a rate.
type RateLimit struct {
	// Source and Name say where the key is read: AffinityClientIP, or AffinityHeader with the header's name,
	// AffinityAPIKey, AffinityJWT with the claim's.
	Source, Name string
	Rate         Rate
	Burst        int // requests at once, at least 1
	// Cost is what a request takes: one of CostRequests, CostBytes, CostRows.
	Cost string
	// MaxDelay is how long a request may wait for its turn; 0: it is refused at once.
	MaxDelay time.Duration
	// Total bounds all keys together; 0: it does not.
	Total      Rate
	TotalBurst int
	Tiers      []Tier
	TierBy     Source // what names a request's tier; Kind "": only Tier.Keys
	// MaxKeys is how many keys of each tier are remembered, 16 bytes each; what comes beyond them shares a bucket.
	// 0: 262144.
	MaxKeys int
}

// Match is a conjunction; an empty field matches everything. At most one of Path,
// PathPrefix, PathRegex and GRPC is set.
type Match struct {
	Host       string // exact ("ml.example.com") or wildcard ("*.example.com"), lower case, without port; IPv6 in brackets
	Path       string
	PathPrefix string // whole segments, without a slash at the end unless it is all
	PathRegex  *Regexp
	Methods    []string // upper case
	Headers    []Header // all must be present with this exact value
	GRPC       *Method  // a call of gRPC
	// Model and ModelVersion are what the request says that it is for.
	Model, ModelVersion string
}

// Method is one of gRPC.
type Method struct {
	Service string // with its package, as in inference.GRPCInferenceService
	Method  string // "": any of the service
}

// Path is that of a call, or, of a service alone, its prefix.
func (m *Method) Path() string {
	if m.Method == "" {
		return "/" + m.Service
	}
	return "/" + m.Service + "/" + m.Method
}

// Conditions counts what the match demands beyond host and path: its set of methods is one condition, each of the
// others another.
func (m *Match) Conditions() int {
	n := len(m.Headers)
	for _, demands := range []bool{len(m.Methods) > 0, m.GRPC != nil, m.Model != "", m.ModelVersion != ""} {
		if demands {
			n++
		}
	}
	return n
}

// Header is a field name (canonical case not required) and its value.
type Header struct{ Name, Value string }

// Variant is a pool and its relative weight in a split.
type Variant struct {
	Pool   string
	Weight float64
}

// Affinity keeps a subject on its variant.
type Affinity struct {
	// Source is where the subject is read: AffinityHeader, AffinityCookie, AffinityQuery, AffinityClientIP,
	// AffinityJWT or AffinityJSON.
	Source string
	// Name of the header, cookie, query parameter or claim, or the path of the field; empty for client_ip.
	Name string
	// Fallback for a request without a subject: FallbackRandom, FallbackClientIP, or the name of
	// a variant of the split; the two words win over a variant of that name.
	Fallback string
	// Salt makes assignments of different routes independent; default: the route's name.
	Salt string
}

// RouteTimeouts bound one request of a route.
type RouteTimeouts struct {
	Total   time.Duration // from the request's head to the last byte of the answer
	Attempt time.Duration // from the request wholly sent to the answer's head
	Idle    time.Duration // between two bytes from the endpoint
	// Header is the field in which a client shortens Total and the endpoint is told what is left; "": none.
	Header string
}

// RouteLimits tighten the listener's limits.
type RouteLimits struct {
	Body *Size
}
