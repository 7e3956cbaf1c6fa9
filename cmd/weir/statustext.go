package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"weir/proxy"
)

// writeStatus writes the state for people.
func writeStatus(w io.Writer, s proxy.Status, colours bool) {
	health := paint("healthy", green, colours)
	if s.Degraded {
		health = paint("degraded", red, colours)
	}
	fmt.Fprintf(w, "weir %s  %s  generation %d  up %s  %s\n", printable(s.Version), health, s.Generation,
		time.Duration(s.Uptime*float64(time.Second)).Round(time.Second), plural(s.Connections, "connection"))
	for _, reason := range s.Reasons {
		fmt.Fprintln(w, paint("  "+printable(reason), red, colours))
	}
	fmt.Fprintln(w)
	routesTable(s.Routes).write(w)
	for _, r := range s.Routes {
		if r.Overlay {
			fmt.Fprintf(w, "%s: the weights were set through the API, over those of the file\n", printable(r.Name))
		}
	}
	fmt.Fprintln(w)
	poolsTable(s.Pools).write(w)
}

// routesTable puts each variant's observed share beside the share its weight asks for.
func routesTable(routes []proxy.RouteStatus) *table {
	t := newTable("ROUTE", "MATCH", "VARIANT", "VERSION", ">WEIGHT", ">EXPECTED", ">SHARE", ">REQUESTS", ">ERRORS", ">P50", ">P95", ">P99", "STATE")
	for _, r := range routes {
		sum := 0.0
		for _, v := range r.Variants {
			sum += v.Weight
		}
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
	case e.Draining:
		state = "draining"
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
	red   = "31"
	green = "32"
)

func paint(text, colour string, on bool) string {
	if !on {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}
