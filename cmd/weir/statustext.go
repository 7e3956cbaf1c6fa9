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

// write writes the state for people.
func (v *view) write(w io.Writer) {
	fmt.Fprintln(w, v.headline())
	for _, reason := range v.Reasons {
		fmt.Fprintln(w, paint("  "+printable(reason), red, v.colours))
	}
	fmt.Fprintln(w)
	routesTable(v.Routes).write(w)
	for _, r := range v.Routes {
		if r.Overlay {
			fmt.Fprintf(w, "%s: the weights were set through the API, over those of the file\n", printable(r.Name))
		}
		if r.Ramp != nil {
			fmt.Fprintln(w, printable(r.Name+": "+rampText(r.Ramp, v.now)+rampWhy(r.Ramp)))
		}
	}
	fmt.Fprintln(w)
	poolsTable(v.Pools).write(w)
	for _, line := range drainLines(v.Pools) {
		fmt.Fprintln(w, printable(line))
	}
	if v.last != nil {
		fmt.Fprintf(w, "\nlast change: %s, %s ago\n", shortTime(v.last.Time, v.now), about(v.now.Sub(v.last.Time)))
		fmt.Fprintln(w, "  "+printable(oneLine(*v.last)))
	}
}

func (v *view) headline() string {
	health := paint("healthy", green, v.colours)
	if v.Degraded {
		health = paint("degraded", red, v.colours)
	}
	return fmt.Sprintf("weir %s  %s  %s  up %s  %s", printable(v.Version), health, generationText(v.Generation),
		time.Duration(v.Uptime*float64(time.Second)).Round(time.Second), plural(v.Connections, "connection"))
}

// rampWhy says who began a ramp, and why.
func rampWhy(r *proxy.RampStatus) string {
	text := ", by " + r.By
	if r.Reason != "" {
		text += " (why: " + r.Reason + ")"
	}
	return text
}

// drainLines say what drains; of a pool that drains as a whole, not each endpoint.
func drainLines(pools []proxy.PoolStatus) (lines []string) {
	for _, p := range pools {
		if p.Draining {
			lines = append(lines, drained(p.Name, "")+" drains: "+underWay(p.Inflight))
			continue
		}
		for _, e := range p.Endpoints {
			if e.Draining {
				lines = append(lines, drained(p.Name, e.Address)+" drains: "+underWay(e.Inflight))
			}
		}
	}
	return lines
}

// routesTable puts each variant's observed share beside the share its weight asks for.
func routesTable(routes []proxy.RouteStatus) *table {
	t := newTable("ROUTE", "MATCH", "VARIANT", "VERSION", ">WEIGHT", ">EXPECTED", ">SHARE", ">REQUESTS", ">ERRORS", ">P50", ">P95", ">P99", "STATE")
	for _, r := range routes {
		sum := weightSum(r)
		name, match := r.Name, r.Match
		for _, v := range r.Variants {
			state := "usable"
			if !v.Usable {
				state = "no usable endpoint"
			}
			t.row(name, match, v.Pool, v.Version, number(v.Weight), percent(v.Weight/sum), percent(v.Share),
				strconv.FormatUint(v.Requests, 10), strconv.FormatUint(v.Errors, 10), millis(v.P50), millis(v.P95), millis(v.P99), state)
			name, match = "", ""
		}
	}
	return t
}

func weightSum(r proxy.RouteStatus) (sum float64) {
	for _, v := range r.Variants {
		sum += v.Weight
	}
	return sum
}

func poolsTable(pools []proxy.PoolStatus) *table {
	t := newTable("POOL", "POLICY", "ENDPOINT", ">WEIGHT", ">EFFECTIVE", ">INFLIGHT", ">CONNECTIONS", ">REQUESTS", ">ERRORS", "STATE")
	for _, p := range pools {
		name, policy := p.Name, p.Policy
		for _, e := range p.Endpoints {
			t.row(name, policy, e.Address, number(e.Weight), number(e.EffectiveWeight), strconv.FormatInt(e.Inflight, 10),
				strconv.Itoa(e.Connections), strconv.FormatUint(e.Requests, 10), strconv.FormatUint(e.Errors, 10), endpointState(e))
			name, policy = "", ""
		}
	}
	return t
}

func endpointState(e proxy.EndpointStatus) string {
	state := "healthy"
	switch {
	case e.Draining && e.Inflight > 0:
		state = "draining"
	case e.Draining:
		state = "drained"
	case e.Ejected:
		state = "ejected"
	case !e.Healthy:
		state = "unhealthy"
	}
	if e.Probe != "" {
		state += ": " + e.Probe
	}
	return state
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func percent(ratio float64) string { return strconv.FormatFloat(100*ratio, 'f', 2, 64) + "%" }

func millis(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return strconv.FormatFloat(*ms, 'f', 1, 64) + "ms"
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
	faint  = "2"
)

func paint(text, colour string, on bool) string {
	if !on || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
