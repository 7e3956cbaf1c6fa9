package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What the histograms resolve: values up to MaxTimeout and a little more, to three digits.
const (
	histogramUnit   = 100 // ns
	histogramMax    = int64(MaxTimeout + time.Minute)
	histogramDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(histogramUnit, histogramMax, histogramDigits)
}

// recordDuration adds d, bounded to what a histogram holds.
func recordDuration(h *hdrhistogram.Histogram, d time.Duration) {
	// The error says that the value is out of range, which the bounds exclude.
	_ = h.RecordValue(min(max(int64(d), 0), histogramMax))
}

// Tally adds results up, per variant. It is not safe for concurrent use; tallies of several
// goroutines are merged.
type Tally struct {
	// Scheduled is how many requests were due; each was either sent or dropped.
	Scheduled uint64
	// Dropped were never sent: no connection was free until their timeout was over.
	Dropped uint64
	// Connections were opened.
	Connections uint64
	// Lag is how late the generator itself was, in nanoseconds: from due to sent, for requests
	// that had a free connection when they were due.
	Lag *hdrhistogram.Histogram
	// Variants by name; "" holds answers without X-Weir-Variant and requests without an answer.
	Variants map[string]*Record
	// Sightings are which user was served by which variant, in the order of the answers;
	// kept only for requests that name users.
	Sightings []Sighting

	slo time.Duration
}

// Record is what a [Tally] holds of one variant.
type Record struct {
	Variant  string
	Requests uint64 // sent, however they ended, except unfinished ones
	OK       uint64 // answered with a status below 400 and a readable body
	Good     uint64 // of them within the SLO; all of them without one
	Late     uint64
	Judged   uint64
	Right    uint64
	Bytes    uint64 // of answers
	Failures [failures]uint64
	Statuses map[int]uint64 // statuses of 400 and more
	GRPC     map[int]uint64 // grpc-statuses other than 0, under a status below 400
	Latency  *hdrhistogram.Histogram
	Service  *hdrhistogram.Histogram
}

// Sighting says that a user was served by a variant.
type Sighting struct {
	User       int
	Variant    string
	Sent, Done time.Duration
}

// NewTally returns an empty tally that judges goodput by slo; 0 means that every answer is good.
func NewTally(slo time.Duration) *Tally {
	return &Tally{Lag: newHistogram(), Variants: map[string]*Record{}, slo: slo}
}

func newRecord(variant string) *Record {
	return &Record{Variant: variant, Statuses: map[int]uint64{}, GRPC: map[int]uint64{}, Latency: newHistogram(), Service: newHistogram()}
}

// Add counts one result.
func (t *Tally) Add(r *Result) {
	t.Scheduled++
	rec := t.Variants[string(r.Variant)] // does not allocate
	if rec == nil {
		rec = newRecord(string(r.Variant))
		t.Variants[rec.Variant] = rec
	}
	rec.add(r, t.slo)
	if !r.Queued {
		recordDuration(t.Lag, r.Sent-r.Due)
	}
	if r.User >= 0 && rec.Variant != "" {
		t.Sightings = append(t.Sightings, Sighting{User: r.User, Variant: rec.Variant, Sent: r.Sent, Done: r.Done})
	}
}

// Drop counts a request that was due and never sent.
func (t *Tally) Drop() { t.Scheduled++; t.Dropped++ }

func (rec *Record) add(r *Result, slo time.Duration) {
	rec.Failures[r.Failure]++
	if r.Failure == Unfinished {
		return
	}
	rec.Requests++
	rec.Bytes += uint64(r.Bytes)
	if r.Late() {
		rec.Late++
	}
	if r.Failure == None && r.Status >= 400 {
		rec.Statuses[r.Status]++
	} else if r.Failure == None && r.GRPC > 0 {
		rec.GRPC[r.GRPC]++
	}
	if r.OK() {
		rec.OK++
		if slo == 0 || r.Latency() <= slo {
			rec.Good++
		}
	}
	if r.Verdict == Right || r.Verdict == Wrong {
		rec.Judged++
	}
	if r.Verdict == Right {
		rec.Right++
	}
	// A request that timed out kept its user waiting that long; other failures end early and
	// would make a failing target look fast.
	if r.OK() || r.Failure == Timeout {
		recordDuration(rec.Latency, r.Latency())
		recordDuration(rec.Service, r.Service())
	}
}

// Errors is how many requests failed: any failure, a status of 400 or more, or a grpc-status other than 0.
func (rec *Record) Errors() uint64 { return rec.Requests - rec.OK }

// Merge adds what o holds, except its sightings, which would add up without bound.
func (t *Tally) Merge(o *Tally) {
	t.Scheduled += o.Scheduled
	t.Dropped += o.Dropped
	t.Connections += o.Connections
	t.Lag.Merge(o.Lag)
	for name, rec := range o.Variants {
		if rec.empty() {
			continue
		}
		if t.Variants[name] == nil {
			t.Variants[name] = newRecord(name)
		}
		t.Variants[name].Merge(rec)
	}
}

func (rec *Record) empty() bool { return rec.Requests == 0 && rec.Failures[Unfinished] == 0 }

// Merge adds what o holds.
func (rec *Record) Merge(o *Record) {
	rec.Requests += o.Requests
	rec.OK += o.OK
	rec.Good += o.Good
	rec.Late += o.Late
	rec.Judged += o.Judged
	rec.Right += o.Right
	rec.Bytes += o.Bytes
	for i, n := range o.Failures {
		rec.Failures[i] += n
	}
	for status, n := range o.Statuses {
		rec.Statuses[status] += n
	}
	for status, n := range o.GRPC {
		rec.GRPC[status] += n
	}
	rec.Latency.Merge(o.Latency)
	rec.Service.Merge(o.Service)
}

// Reset empties the tally and keeps its memory.
func (t *Tally) Reset() {
	t.Scheduled, t.Dropped, t.Connections = 0, 0, 0
	t.Lag.Reset()
	t.Sightings = t.Sightings[:0]
	for _, rec := range t.Variants {
		rec.reset()
	}
}

func (rec *Record) reset() {
	latency, service := rec.Latency, rec.Service
	latency.Reset()
	service.Reset()
	clear(rec.Statuses)
	clear(rec.GRPC)
	*rec = Record{Variant: rec.Variant, Statuses: rec.Statuses, GRPC: rec.GRPC, Latency: latency, Service: service}
}

// Total returns the sum over the variants.
func (t *Tally) Total() *Record {
	total := newRecord("")
	for _, rec := range t.Variants {
		total.Merge(rec)
	}
	return total
}
