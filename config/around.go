package config

import (
	"time"
)

// This file holds what a route does beside sending a request to its split: who may ask, what is answered
// without an endpoint, and how requests and answers are changed on their way.

// Memory bounds what the process holds.
type Memory struct {
	// Limit is the resident size from which on new requests are refused with 503; 0: no limit.
	Limit Size
	// KeepAlivePercent is the percentage of Limit from which on connections end after their request.
	KeepAlivePercent float64
}

// Hedge sends a second attempt to another endpoint while the first is slow.
type Hedge struct {
	// Delay after which it is sent; 0: when the attempt is slower than Percentile of the route's recent ones.
	Delay time.Duration
	// Percentile of attempts that are not hedged, in percent (95); 0 where Delay is set.
	Percentile float64
	// BudgetPercent bounds the hedges of a route: in any 10 s at most 10, or this percentage of its requests.
	BudgetPercent float64
}

// Cache answers from what was answered before.
type Cache struct {
	// TTL by status: how long an answer is fresh that does not say so itself. A status that is not in it is
	// not kept.
	TTL []StatusTTL
	// MaxBytes bounds the answers kept for the route, MaxObject one of them.
	MaxBytes, MaxObject Size
	// Methods of which answers are kept: of GET, HEAD, POST. A POST is told by its body.
	Methods []string
	// Key are further parts of a request by which answers are told apart: header:NAME, cookie:NAME, query:NAME, jwt:CLAIM.
	Key []Source
	// Credentials says what becomes of requests with Authorization, Cookie or an API key: one of CacheSeparate,
	// CacheShared, CacheBypass.
	Credentials string
	// SharedByVariants answers from what another variant of the route has answered.
	SharedByVariants bool
	// StaleIfError and StaleWhileRevalidate are how much longer than fresh an answer may be used while
	// endpoints fail, and while a new one is fetched.
	StaleIfError, StaleWhileRevalidate time.Duration
	// Coalesce has equal requests wait for the answer to the first of them.
	Coalesce bool
}

// StatusTTL is how long answers of a status are fresh.
type StatusTTL struct {
	Status int
	TTL    time.Duration
}

// What becomes of requests with credentials in a cache.
const (
	CacheSeparate = "separate" // answers are kept for these credentials alone
	CacheShared   = "shared"   // credentials make no difference
	CacheBypass   = "bypass"   // they are neither answered from the cache nor kept
)

// Source says where a text is read from a request.
type Source struct {
	Kind string // one of the Affinity… constants
	Name string // of the header, cookie, parameter or claim, or the path of a JSON field
}

// Mirror sends a copy of some requests to a pool whose answers nobody gets.
type Mirror struct {
	Pool    string
	Percent float64 // of the route's requests
	// MaxActive is how many copies may be under way; more are not made.
	MaxActive int
	// MaxBody is the largest body that is copied, and the largest answer that is compared.
	MaxBody Size
	Timeout time.Duration
	// Compare is nil where answers are not compared.
	Compare *Compare
}

// Compare says when two answers agree.
type Compare struct {
	// Fields are paths of JSON fields (prediction, outputs.0.data) that must agree; empty: the outputs of V2 and
	// the prediction of the guide's API where there are such, else the whole answer.
	Fields []string
	// Tolerance is how far numbers may be apart, relative to the larger; at least it is absolute.
	Tolerance float64
	// TopLabel compares only which element of a list of scores is the greatest.
	TopLabel bool
	// Samples is how many disagreements are kept to look at.
	Samples int
}

// Headers are changes of header fields.
type Headers struct {
	Request, Response HeaderChange
	// Security adds the usual fields that harden a browser to answers.
	Security bool
}

// HeaderChange is applied in this order: Remove, Set, Add. Values may hold variables in braces.
type HeaderChange struct {
	Set, Add []Header
	Remove   []string
}

// Rewrite changes the path that an endpoint sees. At most one of StripPrefix, Regex and Path is set.
type Rewrite struct {
	StripPrefix string  // taken off, whole segments
	AddPrefix   string  // put in front after that
	Path        string  // replaces the whole path
	Regex       *Regexp // what it finds in the path is replaced by Replacement, which may hold $1
	Replacement string
}

// Redirect answers with another place.
type Redirect struct {
	HTTPS  bool   // the same, by https; only for requests that did not come so
	To     string // a URL or path; may hold variables in braces
	Status int    // 301, 302, 303, 307 or 308
}

// Respond answers without an endpoint.
type Respond struct {
	Status  int
	Body    string
	Headers []Header
}

// Auth says who may ask. Where several are given, one of them is enough.
type Auth struct {
	Basic  *BasicAuth
	APIKey *APIKeyAuth
	JWT    *JWTAuth
}

// BasicAuth asks for a name and a password (RFC 7617).
type BasicAuth struct {
	File  string // htpasswd, bcrypt
	Realm string
}

// APIKeyAuth asks for a key.
type APIKeyAuth struct {
	Header string
	File   string // a line a key: NAME:KEY or NAME:sha256:HEX
}

// JWTAuth asks for a signed token (RFC 7519) in Authorization: Bearer.
type JWTAuth struct {
	JWKS       string        // the path of a file, or an http(s) URL
	Refresh    time.Duration // from one look at it to the next
	Issuer     string
	Audience   string
	Algorithms []string
	Leeway     time.Duration
	Claims     []Header // that must have this value
}

// CORS lets pages of other origins ask.
type CORS struct {
	Origins     []string // * for all
	Methods     []string
	Headers     []string
	Expose      []string
	Credentials bool
	MaxAge      time.Duration
}

// Compress sends answers compressed to clients that take them so.
type Compress struct {
	Encodings []string // in the order of preference: of zstd, br, gzip
	Types     []string // media types; text/* for all of a kind
	MinSize   Size
}

// WebSocket says what becomes of requests for a WebSocket connection.
type WebSocket struct {
	// Off has them sent as plain GET requests.
	Off bool
	// Max bounds the connections of a route at one time; 0: no bound.
	Max int
}

// Stream is how event streams reach the client.
type Stream struct {
	// ErrorEvent: one that breaks off is ended with an event that says so.
	ErrorEvent bool
}

// RouteLog is what is logged of a route's requests.
type RouteLog struct {
	// Percent of requests with a status below 500 that are logged; those from 500 always are unless Off.
	Percent float64
	Off     bool
}

// Concurrency bounds requests under way.
type Concurrency struct {
	// Key tells clients apart; of a route only. Kind "" counts all requests together.
	Key Source
	// Max per key, or of the pool; 0 where Adaptive finds it.
	Max int
	// Total bounds all keys of a route together; 0: no bound.
	Total    int
	Adaptive *Adaptive // of a pool only
	Queue    Queue
}

// Queue is where requests wait for their turn.
type Queue struct {
	Size    int           // 0: they are refused at once
	Order   string        // one of QueueFIFO, QueueLIFO, QueueAdaptive
	Timeout time.Duration // in the queue
}

// The orders of a queue.
const (
	QueueFIFO     = "fifo"
	QueueLIFO     = "lifo"
	QueueAdaptive = "adaptive" // fifo, and lifo while the queue is more than half full
)

// Adaptive finds how many requests a pool bears by their latency (gradient).
type Adaptive struct {
	Min, Max   int
	Percentile float64       // of latency that is compared, in percent
	Tolerance  float64       // percent by which latency may grow over its minimum
	Interval   time.Duration // between two changes
	Remeasure  time.Duration // between two measurements of the minimum
}

// CircuitBreaker bounds what a pool has under way; beyond it requests are refused at once. 0: no bound.
type CircuitBreaker struct {
	MaxRequests int // attempts under way
	MaxPending  int // of them, waiting for a connection
	MaxRetries  int // of them, retries
}

// Priority orders requests in queues.
type Priority struct {
	Class  string // one of Priorities; of requests without the header
	Header string // "": every request has Class
}

// Priorities returns the classes, most important first.
func Priorities() []string { return []string{PriorityHigh, PriorityNormal, PriorityLow} }

// The classes of priority.
const (
	PriorityHigh   = "high"
	PriorityNormal = "normal"
	PriorityLow    = "low"
)

// What a request costs of a rate limit.
const (
	CostRequests = "requests" // 1
	CostBytes    = "bytes"    // the length of its body
	CostRows     = "rows"     // the rows of its V2 batch, or of the guide's features
)

// Tier is another rate for some keys.
type Tier struct {
	Name  string
	Rate  Rate
	Burst int
	Keys  []string // that belong to it; beside those whose TierBy is its name
}
