package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"weir/internal/state"
	"weir/proxy"
)

// view is what is to be shown, and how.
type view struct {
	proxy.Status
	last    *state.Change // nil where the history cannot be had
	now     time.Time
	width   int
	colours bool
}

// write writes the state for people, in at most v.width columns.
func (v *view) write(w io.Writer) {
	lines := flow(v.headline(), v.width, v.colours)
	for _, reason := range v.Reasons {
		lines = append(lines, paragraph(part{reason, red}, indent, v.width, v.colours)...)
	}
	lines = append(lines, "")
	lines = append(lines, v.routesListing().lines()...)
	lines = append(lines, "")
	lines = append(lines, v.poolsListing().lines()...)
	if v.last != nil {
		lines = append(lines, "")
		lines = append(lines, paragraph(part{"last change: " + v.lastWhen(), ""}, "", v.width, false)...)
		lines = append(lines, few(paragraph(part{oneLine(*v.last), ""}, indent, v.width, false))...)
	}
	for _, line := range lines {
		fmt.Fprintln(w, clip(line, v.width))
	}
}

func (v *view) headline() []part {
	health := part{"healthy", green}
	if v.Degraded {
		health = part{"degraded", red}
	}
	return []part{
		{"weir " + v.Version, ""}, health, {generationText(v.Generation), ""},
		{"up " + time.Duration(v.Uptime*float64(time.Second)).Round(time.Second).String(), ""}, {plural(v.Connections, "connection"), ""},
	}
}

func (v *view) lastWhen() string {
	return shortTime(v.last.Time, v.now) + ", " + about(v.now.Sub(v.last.Time)) + " ago"
}

// few are not more lines of the last change than leave the state in view: a reload may change a thousand routes.
func few(lines []string) []string {
	const most = 6
	if len(lines) <= most {
		return lines
	}
	return append(lines[:most-1:most-1], indent+`… ("weir history -n 1" shows all)`)
}

// rampWhy says who began a ramp, and why.
func rampWhy(r *proxy.RampStatus) string {
	text := ", by " + r.By
	if r.Reason != "" {
		text += " (why: " + r.Reason + ")"
	}
	return text
}

// routesListing puts each variant's observed share beside the share its weight asks for.
func (v *view) routesListing() *listing {
	l := &listing{
		names: []string{"VARIANT", "VERSION"}, width: v.width, colours: v.colours,
		titles: []string{">WEIGHT", ">EXPECTED", ">SHARE", ">REQUESTS", ">ERRORS", ">P50", ">P95", ">P99"},
	}
	for _, r := range v.Routes {
		l.heading(part{r.Name, bold}, part{r.Match, ""})
		if len(r.Variants) == 0 {
			l.note("answers by itself", "")
		}
		if r.Overlay {
			l.note("the weights were set through the API, over those of the file", "")
		}
		if r.Ramp != nil {
			l.note(rampText(r.Ramp, v.now)+rampWhy(r.Ramp), yellow)
		}
		if r.Rollout != nil {
			l.note(rolloutNote(r.Rollout), yellow)
		}
		if r.Mirror != nil {
			l.note(mirrorText(r.Mirror), "")
		}
		for _, line := range routeBounds(r.Concurrency) {
			l.note(line, "")
		}
		sum := weightSum(r)
		for _, variant := range r.Variants {
			errors := part{count(variant.Errors, 6), ""}
			if variant.Errors > 0 {
				errors.colour = red
			}
			l.row([]string{variant.Pool, variant.Version}, part{weight(variant.Weight), ""}, part{percent(variant.Weight / sum), ""},
				part{percent(variant.Share), ""}, part{count(variant.Requests, 8), ""}, errors,
				part{shortMillis(variant.P50), ""}, part{shortMillis(variant.P95), ""}, part{shortMillis(variant.P99), ""})
			if !variant.Usable {
				l.note("no usable endpoint", red)
			}
			if variant.Streams > 0 {
				l.note(streamsText(&variant), "")
			}
		}
	}
	return l
}

func streamsText(v *proxy.VariantStatus) string {
	text := plural(int(v.Streams), "event stream")
	if v.FirstByteP50 != nil {
		text += ", first byte after " + shortMillis(v.FirstByteP50) + " (p95 " + shortMillis(v.FirstByteP95) + ", p99 " + shortMillis(v.FirstByteP99) + ")"
	}
	return text
}

func weightSum(r proxy.RouteStatus) (sum float64) {
	for _, v := range r.Variants {
		sum += v.Weight
	}
	return sum
}

// poolsListing has the endpoints of each pool. NOW is the weight that an endpoint has at present.
func (v *view) poolsListing() *listing {
	l := &listing{
		names: []string{"ENDPOINT"}, width: v.width, colours: v.colours,
		titles: []string{"STATE", ">INFLIGHT", ">CONNS", ">REQUESTS", ">ERRORS", ">WEIGHT", ">NOW"},
	}
	for _, p := range v.Pools {
		drains := part{}
		if p.Draining {
			drains = part{"drains: " + underWay(p.Inflight), yellow}
		}
		l.heading(part{p.Name, bold}, part{p.Policy, ""}, drains)
		if d := p.Discovery; d != nil {
			l.note(discoveryLine(d))
		}
		if p.Concurrency != nil {
			l.note(poolBound(p.Concurrency), "")
		}
		if p.CircuitBreaker != nil {
			l.note(breakerLine(p.CircuitBreaker))
		}
		for _, e := range p.Endpoints {
			state, colour := endpointState(e)
			errors := part{count(e.Errors, 6), ""}
			if e.Errors > 0 {
				errors.colour = red
			}
			l.row([]string{e.Address}, part{state, colour}, part{strconv.FormatInt(e.Inflight, 10), ""}, part{strconv.Itoa(e.Connections), ""},
				part{count(e.Requests, 8), ""}, errors, part{weight(e.Weight), ""}, part{weight(e.EffectiveWeight), ""})
			if e.Probe != "" {
				l.note(e.Probe, red)
			}
			for _, n := range loadNotes(e.Load) {
				l.note(n.text, n.colour)
			}
			if e.Ejection != "" {
				l.note("ejected until "+e.EjectedUntil+": "+e.Ejection, red)
			}
		}
	}
	return l
}

// discoveryLine says how a pool's endpoints are found, in red where the last look-up failed.
func discoveryLine(d *proxy.DiscoveryStatus) (text, colour string) {
	if d.Error != "" {
		return fmt.Sprintf("%s found at %s; the last look-up failed: %s", plural(d.Found, "endpoint"), d.DNS, d.Error), red
	}
	return fmt.Sprintf("%s found at %s", plural(d.Found, "endpoint"), d.DNS), ""
}

func endpointState(e proxy.EndpointStatus) (state, colour string) {
	switch {
	case e.Draining && e.Inflight > 0:
		return "draining", yellow
	case e.Draining:
		return "drained", yellow
	case e.Ejected:
		return "ejected", red
	case e.Starting:
		return "starting", yellow
	case !e.Healthy:
		return "unhealthy", red
	case e.Refusing:
		return "refusing", red
	}
	return "healthy", green
}

// count is a number in at most width columns, of which there are 5 or more: exact, else with three digits.
func count(n uint64, width int) string {
	if text := strconv.FormatUint(n, 10); len(text) <= width {
		return text
	}
	f := float64(n)
	for _, unit := range []string{"k", "M", "G", "T", "P"} {
		if f /= 1000; f < 999.5 {
			return three(f) + unit
		}
	}
	return three(f/1000) + "E"
}

// weight is a weight in at most 7 columns, with as many digits as go into them.
func weight(f float64) string {
	const width = 7
	text := number(f)
	for digits := width - 1; len(text) > width && digits > 0; digits-- {
		text = strconv.FormatFloat(f, 'g', digits, 64)
	}
	return text
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func percent(ratio float64) string { return strconv.FormatFloat(100*ratio, 'f', 2, 64) + "%" }

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
	faint  = "2"
)

func paint(text, colour string, on bool) string {
	if !on || text == "" || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
