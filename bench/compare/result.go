package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Result of a comparison, in the shape of its JSON.
type Result struct {
	Date         time.Time         `json:"date"`
	System       string            `json:"system"` // operating system, architecture, processors
	Pinned       bool              `json:"pinned"`
	Quota        float64           `json:"quota"`   // share of a processor for a proxy in closed loops; 0: no limit
	Seconds      float64           `json:"seconds"` // of a measurement
	Rounds       int               `json:"rounds"`
	Versions     map[string]string `json:"versions"` // by peer
	Workloads    []Load            `json:"workloads"`
	Notes        []string          `json:"notes,omitempty"`
	Summary      []Summary         `json:"summary"`
	Measurements []Measurement     `json:"measurements"`
}

// Load describes a workload in a result.
type Load struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Closed bool   `json:"closed"` // a closed loop, which shall find the proxy at its limit
	Idle   int    `json:"idle,omitempty"`
	// Streams is how many streams were open, where the memory of each was measured.
	Streams int `json:"streams,omitempty"`
	// PerEvent says that figures are for an event of a stream in place of a request.
	PerEvent bool `json:"per_event,omitempty"`
}

// Measurement is one peer under one workload in one round.
type Measurement struct {
	Peer     string  `json:"peer"`
	Workload string  `json:"workload"`
	Round    int     `json:"round"`
	CPU      float64 `json:"cpu_us"`   // µs of the proxy for a request
	Switches float64 `json:"switches"` // context switches of the proxy for a request
	Resident int64   `json:"resident_bytes"`
	Rate     float64 `json:"rate"` // requests a second
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Lag      float64 `json:"generator_lag_p50_ms"`
	// ProxyBusy and LoadBusy are shares of a processor: the proxy's, and that of generator and
	// endpoint together.
	ProxyBusy float64 `json:"proxy_busy"`
	LoadBusy  float64 `json:"load_busy"`
	// Calls are system calls of the proxy for a request, counted in the first round only, and
	// CallsBy is by what: tracepoint, strace, or "none: " and why.
	Calls   float64 `json:"system_calls,omitempty"`
	CallsBy string  `json:"system_calls_by,omitempty"`
	// IdleBytes is the memory of the proxy for each idle connection, or for each stream.
	IdleBytes float64 `json:"idle_connection_bytes,omitempty"`
}

// Summary is a peer under a workload over all rounds. Ratios are to another peer in the same
// round; nil for direct, which has no proxy, and where the other was not measured.
type Summary struct {
	Peer      string  `json:"peer"`
	Workload  string  `json:"workload"`
	CPU       float64 `json:"cpu_us"` // medians over the rounds
	Switches  float64 `json:"switches"`
	Resident  int64   `json:"resident_bytes"`
	Rate      float64 `json:"rate"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	ProxyBusy float64 `json:"proxy_busy"`
	LoadBusy  float64 `json:"load_busy"`
	Calls     float64 `json:"system_calls,omitempty"`
	CallsBy   string  `json:"system_calls_by,omitempty"`
	IdleBytes float64 `json:"idle_connection_bytes,omitempty"`
	CPURatio  *Spread `json:"cpu_ratio"`
	P50Ratio  *Spread `json:"p50_ratio"`
	// CPUToHAProxy is CPURatio with HAProxy in place of the reference.
	CPUToHAProxy *Spread `json:"cpu_ratio_haproxy"`
}

// Spread is the median of a ratio over the rounds, and its range.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// String writes the median and, where it is one, the range: 0.85 (0.80–0.90).
func (s *Spread) String() string {
	if s == nil {
		return ""
	}
	if s.Min == s.Max {
		return fmt.Sprintf("%.2f", s.Median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}

func newResult(o *Options) *Result {
	return &Result{
		Date: time.Now().UTC(), System: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Pinned: o.Pin, Quota: o.Quota, Seconds: o.Duration.Seconds(), Rounds: o.Rounds,
		Versions: map[string]string{},
	}
}

func (r *Result) note(text string) { r.Notes = append(r.Notes, text) }

// Read reads what [Result.JSON] wrote.
func Read(from io.Reader) (*Result, error) {
	var r Result
	if err := json.NewDecoder(from).Decode(&r); err != nil {
		return nil, fmt.Errorf("not the JSON of a comparison: %w", err)
	}
	if len(r.Measurements) == 0 || len(r.Workloads) == 0 {
		return nil, fmt.Errorf("the JSON of no comparison: %d measurements of %d workloads", len(r.Measurements), len(r.Workloads))
	}
	r.summarize()
	return &r, nil
}

// JSON writes the result as one indented JSON object.
func (r *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// summarize fills the summary from the measurements, in the order of workloads and peers.
func (r *Result) summarize() {
	type key struct{ workload, peer string }
	groups := map[key][]Measurement{}
	for _, m := range r.Measurements {
		groups[key{m.Workload, m.Peer}] = append(groups[key{m.Workload, m.Peer}], m)
	}
	r.Summary = nil
	for _, w := range r.Workloads {
		for _, peer := range Peers() {
			if own := groups[key{w.Name, peer}]; len(own) > 0 {
				r.Summary = append(r.Summary, summary(own, groups[key{w.Name, Reference}], groups[key{w.Name, HAProxy}]))
			}
		}
	}
}

// summary sums up the measurements of a peer under a workload, given those of the peers that
// ratios are to.
func summary(own, reference, haproxy []Measurement) Summary {
	cpu := func(m Measurement) float64 { return m.CPU }
	p50 := func(m Measurement) float64 { return m.P50 }
	s := Summary{
		Peer: own[0].Peer, Workload: own[0].Workload,
		CPU:       median(own, cpu),
		Switches:  median(own, func(m Measurement) float64 { return m.Switches }),
		Resident:  int64(median(own, func(m Measurement) float64 { return float64(m.Resident) })),
		Rate:      median(own, func(m Measurement) float64 { return m.Rate }),
		P50:       median(own, p50),
		P99:       median(own, func(m Measurement) float64 { return m.P99 }),
		ProxyBusy: median(own, func(m Measurement) float64 { return m.ProxyBusy }),
		LoadBusy:  median(own, func(m Measurement) float64 { return m.LoadBusy }),
		IdleBytes: median(own, func(m Measurement) float64 { return m.IdleBytes }),
		Calls:     own[0].Calls, CallsBy: own[0].CallsBy,
	}
	if s.Peer != Direct {
		s.CPURatio, s.P50Ratio = ratios(own, reference, cpu), ratios(own, reference, p50)
		s.CPUToHAProxy = ratios(own, haproxy, cpu)
	}
	return s
}

func median(list []Measurement, of func(Measurement) float64) float64 {
	values := make([]float64, len(list))
	for i, m := range list {
		values[i] = of(m)
	}
	return middle(values)
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios pairs measurements of the same round.
func ratios(own, reference []Measurement, of func(Measurement) float64) *Spread {
	var values []float64
	for _, m := range own {
		for _, other := range reference {
			if other.Round == m.Round {
				values = append(values, of(m)/of(other))
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	return &Spread{Median: middle(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// find returns the summary of a peer under a workload, or nil.
func (r *Result) find(workload, peer string) *Summary {
	i := slices.IndexFunc(r.Summary, func(s Summary) bool { return s.Workload == workload && s.Peer == peer })
	if i < 0 {
		return nil
	}
	return &r.Summary[i]
}

// measured returns the proxies that were measured, in the order of [Peers].
func (r *Result) measured() []string {
	var names []string
	for _, peer := range Peers() {
		if peer != Direct && slices.ContainsFunc(r.Summary, func(s Summary) bool { return s.Peer == peer }) {
			names = append(names, peer)
		}
	}
	return names
}

// callsNone begins [Measurement].CallsBy where system calls were not counted.
const callsNone = "none: "

// Bounds of what a closed loop is for.
const (
	// atLimit is the part of its quota that a proxy at its limit uses.
	atLimit = 0.9
	// loadAtLimit is the share of their processor with which generator and endpoint are the limit.
	loadAtLimit = 0.97
)

// doubts says what a reader must know of the figures of a workload: for which proxies a closed loop
// did not do what it is for, to find the proxy at its limit; and how system calls were counted where
// it was not by the kernel.
func (r *Result) doubts(w Load) []string {
	var doubts []string
	limit := cmp.Or(r.Quota, 1)
	for _, s := range r.Summary {
		if s.Workload != w.Name || s.Peer == Direct {
			continue
		}
		switch {
		case !w.Closed:
		case s.LoadBusy >= loadAtLimit:
			doubts = append(doubts, fmt.Sprintf("%s: generator and endpoint (%.0f %% busy) were the limit, not the proxy", s.Peer, 100*s.LoadBusy))
		case r.Pinned && s.ProxyBusy < atLimit*limit:
			doubts = append(doubts, fmt.Sprintf("%s: used %.0f %% of the processor and may use %.0f %%, so it was not at its limit", s.Peer, 100*s.ProxyBusy, 100*limit))
		}
		switch reason, uncounted := strings.CutPrefix(s.CallsBy, callsNone); {
		case uncounted:
			doubts = append(doubts, fmt.Sprintf("%s: system calls were not counted: %s", s.Peer, reason))
		case s.CallsBy == "strace":
			doubts = append(doubts, s.Peer+": * counted by strace, under which a program is slow and meets other loads")
		}
	}
	return doubts
}
