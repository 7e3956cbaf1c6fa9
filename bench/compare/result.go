package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"weir/bench"
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
	Workloads    map[string]string `json:"workloads"`
	Summary      []Summary         `json:"summary"`
	Notes        []string          `json:"notes,omitempty"`
	Measurements []Measurement     `json:"measurements"`
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
	// endpoint together. A LoadBusy near 1 means that not the proxy was the limit.
	ProxyBusy float64 `json:"proxy_busy"`
	LoadBusy  float64 `json:"load_busy"`
	// Calls are system calls of the proxy for a request, counted in the first round only, and
	// CallsBy is by what: tracepoint, strace, or "none: " and why.
	Calls   float64 `json:"system_calls,omitempty"`
	CallsBy string  `json:"system_calls_by,omitempty"`
	// IdleBytes is the memory of the proxy for each idle connection.
	IdleBytes float64 `json:"idle_connection_bytes,omitempty"`
}

// Summary is a peer under a workload over all rounds. Ratios are to the reference in the same
// round, and nil for direct, which has no proxy.
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
	CPURatio  *Spread `json:"cpu_ratio"`
	P50Ratio  *Spread `json:"p50_ratio"`
}

// Spread is the median of a ratio over the rounds, and its range.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func newResult(o *Options) *Result {
	r := &Result{
		Date: time.Now().UTC(), System: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Pinned: o.Pin, Quota: o.Quota, Seconds: o.Duration.Seconds(), Rounds: o.Rounds,
		Versions: map[string]string{}, Workloads: map[string]string{},
	}
	for _, w := range o.Workloads {
		r.Workloads[w.Name] = w.String()
	}
	return r
}

func (r *Result) note(text string) { r.Notes = append(r.Notes, text) }

// summarize fills the summary from the measurements, in the order in which they came first.
func (r *Result) summarize() {
	type key struct{ workload, peer string }
	groups := map[key][]Measurement{}
	var order []key
	for _, m := range r.Measurements {
		k := key{m.Workload, m.Peer}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], m)
	}
	slices.SortStableFunc(order, func(a, b key) int {
		return cmp.Or(place(a.workload)-place(b.workload), slices.Index(Peers(), a.peer)-slices.Index(Peers(), b.peer))
	})
	for _, k := range order {
		own, reference := groups[k], groups[key{k.workload, Reference}]
		s := Summary{Peer: k.peer, Workload: k.workload}
		s.CPU = median(own, func(m Measurement) float64 { return m.CPU })
		s.Switches = median(own, func(m Measurement) float64 { return m.Switches })
		s.Resident = int64(median(own, func(m Measurement) float64 { return float64(m.Resident) }))
		s.Rate = median(own, func(m Measurement) float64 { return m.Rate })
		s.P50 = median(own, func(m Measurement) float64 { return m.P50 })
		s.P99 = median(own, func(m Measurement) float64 { return m.P99 })
		s.ProxyBusy = median(own, func(m Measurement) float64 { return m.ProxyBusy })
		s.LoadBusy = median(own, func(m Measurement) float64 { return m.LoadBusy })
		s.Calls = own[0].Calls
		if k.peer != Direct {
			s.CPURatio = ratios(own, reference, func(m Measurement) float64 { return m.CPU })
			s.P50Ratio = ratios(own, reference, func(m Measurement) float64 { return m.P50 })
		}
		r.Summary = append(r.Summary, s)
	}
}

// place of a workload among all.
func place(name string) int {
	return slices.IndexFunc(Workloads(), func(w Workload) bool { return w.Name == name })
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

func (m *Measurement) line() string {
	return fmt.Sprintf("round %d, %s, %-8s %6.1f µs CPU, %5.2f switches a request; %7.0f/s, p50 %s, p99 %s",
		m.Round, m.Workload, m.Peer, m.CPU, m.Switches, m.Rate, bench.FormatMS(m.P50), bench.FormatMS(m.P99))
}

// JSON writes the result as one indented JSON object.
func (r *Result) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Text writes the summary as a table for each workload.
func (r *Result) Text(w io.Writer) error {
	b := &strings.Builder{}
	pinned := "not pinned"
	if r.Pinned {
		pinned = "the proxy alone on one processor, generator and endpoint on another"
	}
	fmt.Fprintf(b, "%s, %s; %s\n", r.Date.Format(time.DateOnly), r.System, pinned)
	for _, name := range []string{Weir, Nginx, HAProxy} {
		if v := r.Versions[name]; v != "" {
			fmt.Fprintf(b, "%s: %s\n", name, v)
		}
	}
	fmt.Fprintf(b, "medians of %d rounds of %.0f s; ratios to %s in the same round, and their range\n", r.Rounds, r.Seconds, Reference)
	workload := ""
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, s := range r.Summary {
		if s.Workload != workload {
			workload = s.Workload
			_ = t.Flush() // a strings.Builder does not fail
			fmt.Fprintf(b, "\n%s\n", r.Workloads[workload])
			fmt.Fprintf(t, "\tCPU µs\t÷ %s\t\tswitches\tcalls\tbusy\tload\tp50\t÷ %s\t\tp99\trate\tmemory\t\n", Reference, Reference)
		}
		s.row(t)
	}
	_ = t.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Summary) row(w io.Writer) {
	if s.CPURatio == nil {
		fmt.Fprintf(w, "%s\t\t\t\t\t\t\t%.0f%%\t%s\t\t\t%s\t%.0f/s\t\t\n", s.Peer, 100*s.LoadBusy, bench.FormatMS(s.P50), bench.FormatMS(s.P99), s.Rate)
		return
	}
	fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%.2f–%.2f\t%.2f\t%.2f\t%.0f%%\t%.0f%%\t%s\t%.2f\t%.2f–%.2f\t%s\t%.0f/s\t%.0f MB\t\n",
		s.Peer, s.CPU, s.CPURatio.Median, s.CPURatio.Min, s.CPURatio.Max, s.Switches, s.Calls, 100*s.ProxyBusy, 100*s.LoadBusy,
		bench.FormatMS(s.P50), s.P50Ratio.Median, s.P50Ratio.Min, s.P50Ratio.Max, bench.FormatMS(s.P99), s.Rate, float64(s.Resident)/1e6)
}
