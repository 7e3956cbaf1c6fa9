package balancer

import (
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"weir/backend/load"
)

// Source is where a report of an endpoint's load comes from. What one source says does not replace what
// another one said: a header of its answers may know the queue, and a scrape the GPU.
type Source uint8

const (
	FromAnswer Source = iota // of a request: ORCA
	FromScrape               // of its metrics

	sources = iota
)

// String returns the word that status and metrics show.
func (s Source) String() string {
	if s == FromScrape {
		return "scrape"
	}
	return "orca"
}

// Signal is one figure of a report.
type Signal uint8

const (
	Utilization Signal = iota // of its capacity, as the server says itself; else of its CPU. 1 is full, more is possible
	GPU                       // the part of the time in which the GPU ran anything, 0 to 1
	Memory                    // of the GPU, of its cache, or of the machine: the part in use, 0 to 1
	QueueTime                 // that requests spend waiting in the server, in milliseconds
	Queue                     // requests that wait in the server
	Running                   // requests under way in the server, whoever sent them
	Limit                     // how many may be under way at one time
	Rate                      // requests per second
	ErrorRate                 // errors per second

	signals = iota
)

// Signals returns every signal, in the order of their values.
func Signals() []Signal {
	return []Signal{Utilization, GPU, Memory, QueueTime, Queue, Running, Limit, Rate, ErrorRate}
}

// String returns the name that status shows. For those that ORCA has no field for, it is the name of the
// named metric (load.Report.Named) that carries them.
func (s Signal) String() string {
	switch s {
	case Utilization:
		return "utilization"
	case GPU:
		return "gpu_utilization"
	case Memory:
		return "memory_utilization"
	case QueueTime:
		return "queue_ms"
	case Queue:
		return "queue"
	case Running:
		return "in_flight"
	case Limit:
		return "in_flight_limit"
	case Rate:
		return "rps"
	case ErrorRate:
		return "eps"
	}
	return "unknown"
}

// Figures are the signals that one report holds.
type Figures struct {
	Values [signals]float64
	has    uint16
}

// Get returns the value of a signal, and whether the report has it.
func (f *Figures) Get(s Signal) (value float64, ok bool) { return f.Values[s], f.has&(1<<s) != 0 }

func (f *Figures) set(s Signal, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return // no honest report holds it
	}
	f.Values[s], f.has = v, f.has|1<<s
}

// raise sets a signal to the greater of v and what it is.
func (f *Figures) raise(s Signal, v float64) {
	if now, ok := f.Get(s); !ok || v > now {
		f.set(s, v)
	}
}

// positive sets a signal from a field in which zero means that nothing was reported.
func (f *Figures) positive(s Signal, v float64) {
	if v > 0 {
		f.set(s, v)
	}
}

// figuresOf takes the signals out of a report. Utilization is application_utilization where there is one, else
// cpu_utilization, as gRFC A58 has it; the further resources count by their names: gpu, memory, gpu_memory and
// kv_cache, of several (gpu.0, gpu.1) the busiest. Without queue_ms the time in the queue is queue_seconds, which
// weir-backend reports, and without that, by Little's law, its length divided by the rate, where both are reported.
func figuresOf(r *load.Report) (f Figures) {
	f.positive(Utilization, r.ApplicationUtilization)
	if _, ok := f.Get(Utilization); !ok {
		f.positive(Utilization, r.CPUUtilization)
	}
	f.positive(Memory, r.MemUtilization)
	f.positive(Rate, r.RPS)
	f.positive(ErrorRate, r.EPS)
	for i := range r.Utilization {
		m := &r.Utilization[i]
		switch name, _, _ := strings.Cut(m.Name, "."); name {
		case "gpu", "gpu_utilization":
			f.raise(GPU, m.Value)
		case "memory", "gpu_memory", "kv_cache":
			f.raise(Memory, m.Value)
		}
	}
	exact := false // the time in the queue is known in the unit of the signal
	for i := range r.Named {
		m := &r.Named[i]
		switch m.Name {
		case "gpu_utilization":
			f.raise(GPU, m.Value)
		case "memory_utilization", "kv_cache_utilization", "kv_cache_usage_perc": // Triton, vLLM
			f.raise(Memory, m.Value)
		case "queue_ms":
			f.set(QueueTime, m.Value)
			exact = true
		case "queue_seconds":
			if !exact {
				f.set(QueueTime, 1000*m.Value)
			}
		case "queue", "num_requests_waiting":
			f.set(Queue, m.Value)
		case "in_flight", "num_requests_running":
			f.set(Running, m.Value)
		case "in_flight_limit":
			f.positive(Limit, m.Value)
		}
	}
	queue, queued := f.Get(Queue)
	rate, rated := f.Get(Rate)
	if _, timed := f.Get(QueueTime); !timed && queued && rated {
		f.set(QueueTime, 1000*queue/rate)
	}
	return f
}

// reported is the last report of one source. Whoever writes makes version odd meanwhile; readers read again when
// it was, or has changed. Nobody waits: of two reports that come at the same moment one is dropped.
type reported struct {
	version atomic.Uint64
	at      atomic.Int64 // since Endpoint.born; meaningless before the first report
	has     atomic.Uint32
	values  [signals]atomic.Uint64 // float64 bits
}

func (r *reported) store(f *Figures, at time.Duration) {
	v := r.version.Load()
	if v%2 == 1 || !r.version.CompareAndSwap(v, v+1) {
		return
	}
	r.at.Store(int64(at))
	r.has.Store(uint32(f.has))
	for s := range f.Values {
		if f.has&(1<<s) != 0 {
			r.values[s].Store(math.Float64bits(f.Values[s]))
		}
	}
	r.version.Store(v + 2)
}

// load returns the last report and when it came; ok is false when none has.
func (r *reported) load() (f Figures, at time.Duration, ok bool) {
	for {
		v := r.version.Load()
		if v == 0 {
			return Figures{}, 0, false
		}
		at, f.has = time.Duration(r.at.Load()), uint16(r.has.Load())
		for s := range f.Values {
			f.Values[s] = 0
			if f.has&(1<<s) != 0 {
				f.Values[s] = math.Float64frombits(r.values[s].Load())
			}
		}
		if v%2 == 0 && r.version.Load() == v {
			return f, at, true
		}
		runtime.Gosched() // who writes may wait for this core
	}
}

// Report takes in what the endpoint says of its load, in the place of what the same source said before. A zero in
// a field of the report means, as in the protobuf, that nothing was said; in a named metric it is a value.
// A report without any signal that weir knows is as good as none.
//
// It may be called for every answer: it takes no lock, allocates nothing, and keeps nothing of r. Weights follow
// reports once a second, under the policy utilization.
func (e *Endpoint) Report(from Source, r *load.Report, now time.Time) {
	if f := figuresOf(r); f.has != 0 {
		e.reports[from].store(&f, now.Sub(e.born))
	}
}

// LastReport returns the last report of a source and how old it is; ok is false when there was none.
func (e *Endpoint) LastReport(from Source, now time.Time) (f Figures, age time.Duration, ok bool) {
	f, at, ok := e.reports[from].load()
	return f, max(0, now.Sub(e.born)-at), ok
}

// AgedSignal is a signal as status shows it.
type AgedSignal struct {
	Signal Signal
	Value  float64
	From   Source
	Age    time.Duration
}

// Reported returns the signals that are known of the endpoint, each from the source that reported it last, also
// when that is too long ago for it to count; nil when there are none.
func (e *Endpoint) Reported(now time.Time) (known []AgedSignal) {
	var figures [sources]Figures
	var ages [sources]time.Duration
	for from := range figures {
		figures[from], ages[from], _ = e.LastReport(Source(from), now)
	}
	for _, s := range Signals() {
		best := -1
		for from := range figures {
			if _, ok := figures[from].Get(s); ok && (best < 0 || ages[from] < ages[best]) {
				best = from
			}
		}
		if best >= 0 {
			known = append(known, AgedSignal{Signal: s, Value: figures[best].Values[s], From: Source(best), Age: ages[best]})
		}
	}
	return known
}
