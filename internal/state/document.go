// Package state is what weir remembers over a restart: the weights and drains that were set upon the
// file, and the history of every change of routing.
//
// A Document is the whole of it, as data. A Store keeps one: File over a restart, Memory as long as the
// process lives.
package state

import (
	"encoding/json"
	"time"
)

// Store keeps one Document. It has one user at a time: whoever opened it holds it until Close.
//
// What Save has accepted Load returns: with the current Format, without the oldest changes beyond
// MaxHistory, and sharing no memory with what was given. Neither deals with a Document that cannot be,
// such as one with a negative weight or a history that is out of order.
type Store interface {
	// Load returns what was saved last, nil when nothing was.
	Load() (*Document, error)
	// Save replaces it, whole: after a crash at any instant Load returns this document or the one before.
	// When it returns nil, this one.
	Save(*Document) error
	// Close gives the store free for another user. Load and Save fail from then on.
	Close() error
}

// Format is the version of Document that this program writes and reads. A new field, too, makes a new
// version: an older weir has to say that the file is newer, not drop what it does not know.
const Format = 2

// MaxHistory is how many changes a Document keeps; the oldest go first.
const MaxHistory = 1000

// Document is everything that survives a restart.
type Document struct {
	Format     int    `json:"format"`
	Generation uint64 `json:"generation"` // of the last change
	// Config is a digest of the configuration in force, which tells whether the file changed meanwhile.
	Config string           `json:"config"`
	Routes map[string]Route `json:"routes"`
	Pools  map[string]Pool  `json:"pools"`
	// History in the order of the generations.
	History []Change `json:"history"`
}

// Route is what is remembered of a route.
type Route struct {
	Generation uint64 `json:"generation"` // of its last change
	// Split is the file's, parsed; Overlay what was set upon it, nil when the file's weights are in force.
	Split   []Weight `json:"split"`
	Overlay []Weight `json:"overlay,omitempty"`
	// Back are the weights before the last switch, which `switch --back` restores.
	Back []Weight `json:"back,omitempty"`
	// Ramp is the way to other weights that was not yet at its end.
	Ramp *Ramp `json:"ramp,omitempty"`
	// Rollout is the one under way, or the last one, as whoever looks after rollouts writes it. Since format 2.
	Rollout json.RawMessage `json:"rollout,omitempty"`
	// Experiment is what the route's has counted, as whoever looks after experiments writes it. Since format 2.
	Experiment json.RawMessage `json:"experiment,omitempty"`
	// Buckets is the affinity table where it depends on how the weights came about (balancer.Split.Memory).
	Buckets string `json:"buckets,omitempty"`
}

// Pool is what is remembered of a pool.
type Pool struct {
	Generation uint64   `json:"generation"`
	Draining   bool     `json:"draining,omitempty"`
	Endpoints  []string `json:"endpoints,omitempty"` // addresses of those that drain by themselves
}

// Weight is a variant, known by its pool, and its relative weight in a split.
type Weight struct {
	Pool   string  `json:"pool"`
	Weight float64 `json:"weight"`
}

// Ramp is a change of weights in small steps.
type Ramp struct {
	From   []Weight      `json:"from"`
	To     []Weight      `json:"to"`
	Total  time.Duration `json:"total_ns"`        // from From to To
	Done   time.Duration `json:"done_ns"`         // of it, when the last step was made
	First  uint64        `json:"first"`           // generation of its first step
	Force  bool          `json:"force,omitempty"` // whatever the health of the endpoints
	By     string        `json:"by"`
	Reason string        `json:"reason,omitempty"`
}

// The kinds of changes.
const (
	KindStart      = "start"      // the first configuration, or another one than before the restart
	KindReload     = "reload"     // another configuration
	KindWeights    = "weights"    // weights set
	KindRamp       = "ramp"       // a step of a ramp
	KindSwitch     = "switch"     // all traffic to one variant, or back
	KindDrain      = "drain"      // no new requests to a pool or an endpoint
	KindUndrain    = "undrain"    // and again
	KindRollback   = "rollback"   // weights and drains of an earlier generation
	KindRollout    = "rollout"    // a step of a rollout, or its end
	KindExperiment = "experiment" // weights that follow what an experiment has come to
)

// Change is one entry of the history: what was changed, by whom, and why.
type Change struct {
	Generation uint64    `json:"generation"`
	Time       time.Time `json:"time"`
	Kind       string    `json:"kind"`
	By         string    `json:"by"` // "file", "signal", or the name of a token and the address it came from
	Reason     string    `json:"reason,omitempty"`
	// Routes whose weights changed. A route that came has no Before, one that went no After.
	Routes []RouteChange `json:"routes,omitempty"`
	Drains []DrainChange `json:"drains,omitempty"`
	// Notes say, a line each, what else changed, for people.
	Notes []string `json:"notes,omitempty"`
	// To is the generation that a rollback went to.
	To uint64 `json:"to,omitempty"`
	// First is the generation of the first step of the ramp of which this is a step.
	First uint64 `json:"first,omitempty"`
}

// RouteChange is a change of a route's weights.
type RouteChange struct {
	Route  string   `json:"route"`
	Before []Weight `json:"before"`
	After  []Weight `json:"after"`
}

// DrainChange is the begin or the end of a drain. Endpoint is "" for the whole pool.
type DrainChange struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint,omitempty"`
	Draining bool   `json:"draining"`
}
