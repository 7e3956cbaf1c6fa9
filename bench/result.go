package bench

import "time"

// Verdict is what a target says of an answer's content.
type Verdict uint8

// The verdicts.
const (
	Unjudged   Verdict = iota // the target has no opinion
	Right                     // the answer carries the expected label
	Wrong                     // the answer carries another label
	Unreadable                // the answer is not of the promised form; the request counts as failed
)

// Result is what became of one request. Moments are offsets from the start of the attack.
type Result struct {
	Due  time.Duration // when the schedule wanted it sent
	Sent time.Duration // when its first byte was written, or the connection for it begun
	Done time.Duration // when the last byte of the answer was read, or the request given up

	// Queued means that no connection was free when it was due: it waited for the target, not
	// for the generator.
	Queued bool

	Failure Failure
	Status  int    // 0 when no status line was read
	GRPC    int    // grpc-status; 0 is OK, NoGRPC that there was none
	Variant []byte // of X-Weir-Variant; empty when there was none. Valid only during Add.
	Verdict Verdict
	User    int   // the user it was sent for, from 0; -1 when it named none
	Bytes   int64 // read from the connection
}

// Latency is what a user would have waited: from the moment the request was due. A request
// sent a few microseconds early counts from when it was sent.
func (r *Result) Latency() time.Duration { return r.Done - min(r.Due, r.Sent) }

// Service is how long the target took: from the moment the request was sent.
func (r *Result) Service() time.Duration { return r.Done - r.Sent }

// Late reports whether the request was sent more than [LateAfter] after it was due.
func (r *Result) Late() bool { return r.Sent-r.Due > LateAfter }

// OK reports whether the request was answered with a status below 400, no grpc-status but 0, and a
// readable body.
func (r *Result) OK() bool { return r.Failure == None && r.Status < 400 && r.GRPC <= 0 }
