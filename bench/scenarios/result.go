package scenarios

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"weir/bench"
	"weir/bench/compare"
)

// The lines of a document between which the tables stand.
const (
	TablesBegin = "<!-- scenarios -->"
	TablesEnd   = "<!-- /scenarios -->"
)

// Result is what was found, in the shape of its JSON. Times are milliseconds.
type Result struct {
	Date         time.Time         `json:"date"`
	System       string            `json:"system"`
	Rounds       int               `json:"rounds"`
	Warmup       float64           `json:"warmup_seconds"`
	Seconds      float64           `json:"seconds"` // of each measurement
	Versions     map[string]string `json:"versions"`
	Scenarios    []Load            `json:"scenarios"`
	Summary      []Summary         `json:"summary"`
	Measurements []Measurement     `json:"measurements"`

	plots string // the folder of the drawings, as a document names it; "": there are none
}

// Load describes a scenario.
type Load struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Detail string  `json:"detail"`
	Rate   float64 `json:"rate"`
}

// Measurement is what became of the requests that were due in one turn of a policy.
type Measurement struct {
	Scenario string  `json:"scenario"`
	Policy   string  `json:"policy"`
	Round    int     `json:"round"`
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"` // dropped ones among them
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	P999     float64 `json:"p999"`
	LagP99   float64 `json:"generator_lag_p99"`
	// Served is how many requests each pod took, with those of the warm-up.
	Served []uint64 `json:"served"`
}

// Summary is a policy in a scenario: the requests of all rounds together, and its p99 by those of others within each
// round.
type Summary struct {
	Scenario  string          `json:"scenario"`
	Policy    string          `json:"policy"`
	Title     string          `json:"title"`
	Requests  uint64          `json:"requests"`
	Errors    uint64          `json:"errors"`
	P50       float64         `json:"p50"`
	P99       float64         `json:"p99"`
	P999      float64         `json:"p999"`
	LagP99    float64         `json:"generator_lag_p99"`
	Share     float64         `json:"last_pod_share"`        // of the requests that pods took
	ToNginx   *compare.Spread `json:"p99_to_nginx"`          // of nginx
	ToHAProxy *compare.Spread `json:"p99_to_haproxy_better"` // of HAProxy's policy that is better in the round
}

func newResult(o *Options) *Result {
	return &Result{
		Date: time.Now().UTC(), System: fmt.Sprintf("%s/%s, %d processors", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Rounds: o.Rounds, Warmup: o.Warmup.Seconds(), Seconds: o.Duration.Seconds(), Versions: map[string]string{},
	}
}

// fill takes figures from a report.
func (m *Measurement) fill(r *bench.Report) {
	m.Requests, m.Errors, m.LagP99 = r.Scheduled, r.Total.Errors, r.Lag.P99
	if q := r.Total.Latency; q != nil {
		m.P50, m.P99, m.P999 = q.P50, q.P99, q.P999
	}
}

// add takes the measurements of a scenario, and everything that each policy's turns recorded.
func (r *Result) add(s Scenario, policies []Policy, measured []Measurement, all []*bench.Tally) {
	r.Scenarios = append(r.Scenarios, Load{Name: s.Name, Title: s.Title, Detail: s.Detail, Rate: s.Rate})
	r.Measurements = append(r.Measurements, measured...)
	for i, p := range policies {
		var m Measurement
		m.fill(bench.Summarize(all[i], time.Duration(float64(r.Rounds)*r.Seconds*float64(time.Second))))
		r.Summary = append(r.Summary, Summary{
			Scenario: s.Name, Policy: p.Name, Title: p.Title,
			Requests: m.Requests, Errors: m.Errors, P50: m.P50, P99: m.P99, P999: m.P999, LagP99: m.LagP99,
			Share:     lastShare(measured, p.Name),
			ToNginx:   ratios(measured, p.Name, Nginx),
			ToHAProxy: ratios(measured, p.Name, HAProxy, HAProxyRandom2),
		})
	}
}

// lastShare is the part of a policy's requests that the last pod took.
func lastShare(measured []Measurement, policy string) float64 {
	last, sum := uint64(0), uint64(0)
	for _, m := range measured {
		if m.Policy != policy || len(m.Served) == 0 {
			continue
		}
		last += m.Served[len(m.Served)-1]
		for _, n := range m.Served {
			sum += n
		}
	}
	return float64(last) / float64(max(sum, 1))
}

// ratios divides the p99 of a policy by the least of others' in the same round; nil without them.
func ratios(measured []Measurement, policy string, others ...string) *compare.Spread {
	best := map[int]float64{}
	for _, m := range measured {
		if b, ok := best[m.Round]; slices.Contains(others, m.Policy) && (!ok || m.P99 < b) {
			best[m.Round] = m.P99
		}
	}
	var values []float64
	for _, m := range measured {
		if b := best[m.Round]; m.Policy == policy && b > 0 {
			values = append(values, m.P99/b)
		}
	}
	n := len(values)
	if n == 0 {
		return nil
	}
	slices.Sort(values)
	return &compare.Spread{Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1]}
}

// Formats are those that [Result.Write] knows.
func Formats() []string { return []string{"text", "json", "markdown"} }

// Write writes the result in one of the formats.
func (r *Result) Write(w io.Writer, format string) error {
	switch format {
	case "text":
		return r.text(w)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case "markdown":
		return r.markdown(w)
	}
	return fmt.Errorf("output %q: must be one of %s", format, strings.Join(Formats(), ", "))
}

// head names the columns of a table.
func head() []string {
	return []string{"policy", "p50", "p99", "p99.9", "errors", "p99 ÷ nginx's", "p99 ÷ HAProxy's better", "at the last pod"}
}

// cells are the row of a policy in a table.
func (s *Summary) cells() []string {
	return []string{
		s.Title, bench.FormatMS(s.P50), bench.FormatMS(s.P99), bench.FormatMS(s.P999),
		fmt.Sprintf("%d of %d", s.Errors, s.Requests), s.ToNginx.String(), s.ToHAProxy.String(), fmt.Sprintf("%.1f %%", 100*s.Share),
	}
}

// conditions says under which conditions the figures came about.
func (r *Result) conditions() string {
	text := fmt.Sprintf("%s, %s; rounds: %d, each %g s after %g s of warm-up; quantiles over the requests of all rounds, ratios within a round: median and range",
		r.Date.Format(time.DateOnly), r.System, r.Rounds, r.Seconds, r.Warmup)
	for _, peer := range []string{Nginx, HAProxy, Weir} {
		if v := r.Versions[peer]; v != "" {
			text += "; " + peer + " " + strings.TrimPrefix(v, peer+" ")
		}
	}
	lag := 0.0
	for _, s := range r.Summary {
		lag = max(lag, s.LagP99)
	}
	return text + fmt.Sprintf("; the generator was late by %s at most (p99)", bench.FormatMS(lag))
}

func (r *Result) text(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintln(b, r.conditions())
	for _, load := range r.Scenarios {
		fmt.Fprintf(b, "\n%s: %s; %g requests/s\n", load.Name, load.Detail, load.Rate)
		t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(t, strings.Join(head(), "\t")+"\t")
		for _, s := range r.Summary {
			if s.Scenario == load.Name {
				fmt.Fprintln(t, strings.Join(s.cells(), "\t")+"\t")
			}
		}
		_ = t.Flush() // a strings.Builder does not fail
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Result) markdown(w io.Writer) error {
	b := &strings.Builder{}
	for _, load := range r.Scenarios {
		fmt.Fprintf(b, "**%s**: %s; %g requests a second.\n\n", strings.ToUpper(load.Title[:1])+load.Title[1:], load.Detail, load.Rate)
		fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head(), " | "), strings.Repeat(" --- |", len(head())))
		for _, s := range r.Summary {
			if s.Scenario == load.Name {
				fmt.Fprintf(b, "| %s |\n", strings.Join(s.cells(), " | "))
			}
		}
		b.WriteString("\n" + r.image(load))
	}
	fmt.Fprintf(b, "%s.\n", r.conditions())
	_, err := io.WriteString(w, b.String())
	return err
}

// line is what is said of a measurement when it is done.
func (m *Measurement) line() string {
	return fmt.Sprintf("round %d, %-7s %-18s %5d requests, %d errors; p50 %s, p99 %s, p99.9 %s; pods %d",
		m.Round, m.Scenario, m.Policy, m.Requests, m.Errors, bench.FormatMS(m.P50), bench.FormatMS(m.P99), bench.FormatMS(m.P999), m.Served)
}
