// Package experiment measures what the variants of a split do to the users who get them. Units (users, tenants) are
// assigned by the split's hash; here it is decided which of them take part, and what their arms have come to, in
// figures that may be looked at as often as one likes.
//
// Everything here is arithmetic over what it is given, times included. Who asks endpoints, changes weights and remembers
// is weir/proxy and weir/proxy/control.
package experiment

import (
	"time"

	"github.com/cespare/xxhash/v2"
)

// Plan is an experiment as it was configured. It is never changed.
type Plan struct {
	Arms    []string // the variants of the split, in its order
	Control int      // the arm that others are compared with
	// Salt makes hashes independent of those of other experiments.
	Salt string
	// Layer, where it has a name, lets only units take part whose place in it is at least From and less than To, 0 to 1.
	// The place depends on the layer's name alone, so that ranges that do not overlap have no unit in common.
	Layer struct {
		Name     string
		From, To float64
	}
	HoldOut  float64   // part of the units, 0 to 1, that get the control and are in no comparison
	Outcomes []Outcome // at least one; the first decides
	// Alpha is the probability with which any of the intervals ever misses the true effect.
	Alpha float64
	// Expect is the number of units of an arm at which the intervals are made to be tightest.
	Expect     int
	Allocation *Allocation // nil: the weights are somebody else's
	Units      int         // that are remembered; 0: DefaultUnits
	Requests   int         // whose outcomes may be told later; 0: DefaultRequests
}

// How much is remembered where a Plan does not say.
const (
	DefaultUnits    = 200_000
	DefaultRequests = 200_000
)

// Where the values of an outcome come from.
const (
	FromStatus  = "status"  // 1, and 0 for a request that failed
	FromLatency = "latency" // seconds
	FromJSON    = "json"    // a number or a truth value in the answer
	FromAPI     = "api"     // told later, by the request's id
)

// Outcome is something that arms may differ in.
type Outcome struct {
	Name     string
	Source   string // one of those above
	Decrease bool   // less is better
	// Sum: what is told of a unit adds up, from 0, instead of being its mean. Only FromAPI.
	Sum bool
	// Window is how long after a request its outcome may be told; 0: as long as it is remembered.
	Window time.Duration
}

// Reason says why a request is in the comparison, or is not.
type Reason uint8

const (
	ReasonHash     Reason = iota // its unit takes part, in the arm of its hash
	ReasonForced                 // a tester has chosen the arm
	ReasonFallback               // it has no unit
	ReasonHoldOut                // its unit is held out
	ReasonLayer                  // its unit belongs to another experiment of the layer
	ReasonSpill                  // the arm had no usable endpoint

	reasons = iota
)

// Reasons returns every reason, in the order of their values.
func Reasons() []Reason {
	return []Reason{ReasonHash, ReasonForced, ReasonFallback, ReasonHoldOut, ReasonLayer, ReasonSpill}
}

// String returns the value of the metric label "reason".
func (r Reason) String() string {
	switch r {
	case ReasonHash:
		return "hash"
	case ReasonForced:
		return "forced"
	case ReasonFallback:
		return "fallback"
	case ReasonHoldOut:
		return "holdout"
	case ReasonLayer:
		return "layer"
	case ReasonSpill:
		return "spill"
	}
	return "unknown"
}

// OutcomeNames are the names of the outcomes, in their order.
func (p *Plan) OutcomeNames() []string {
	names := make([]string, len(p.Outcomes))
	for i := range p.Outcomes {
		names[i] = p.Outcomes[i].Name
	}
	return names
}

// Enrol says whether a unit takes part: ReasonHash, ReasonLayer or ReasonHoldOut. Which arm it gets is the split's to say,
// by another hash.
func (p *Plan) Enrol(unit []byte) Reason {
	if l := &p.Layer; l.Name != "" {
		if at := place("layer", l.Name, unit); at < l.From || at >= l.To {
			return ReasonLayer
		}
	}
	if p.HoldOut > 0 && place("holdout", p.Salt, unit) < p.HoldOut {
		return ReasonHoldOut
	}
	return ReasonHash
}

// Unit is the name that the ledger has for a unit: nobody who reads it finds the user.
func (p *Plan) Unit(unit []byte) uint64 { return salted("unit", p.Salt, unit) }

// place is where a unit stands between 0 and 1.
func place(use, salt string, unit []byte) float64 {
	return float64(salted(use, salt, unit)>>11) / (1 << 53)
}

// salted hashes a unit for one use of it.
func salted(use, salt string, unit []byte) uint64 {
	const end = 0x1f // of a part; salts are names, which have no control characters
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(use) // a hash takes everything
	_, _ = d.Write([]byte{end})
	_, _ = d.WriteString(salt)
	_, _ = d.Write([]byte{end})
	_, _ = d.Write(unit)
	return d.Sum64()
}
