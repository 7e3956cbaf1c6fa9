package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"weir/internal/state"
	"weir/proxy"
)

// text is the event on a line, for people; now is when it came.
func (e *event) text(now time.Time, colours bool) string {
	at, what, colour := now, "", ""
	var err error
	switch e.kind {
	case "change":
		var c state.Change
		if err = json.Unmarshal([]byte(e.data), &c); err == nil {
			at, what = c.Time, oneLine(c)
		}
	case "health":
		what, colour, err = healthText(e.data)
	case "ejection":
		what, colour, err = ejectionText(e.data, now)
	case "circuit_breaker":
		what, colour, err = breakerText(e.data)
	case "certificate":
		what, colour, err = certificateText(e.data, now)
	case "ramp":
		what, colour, err = rampEventText(e.data, now)
	case "rollout":
		what, colour, err = rolloutEventText(e.data)
	case "reload_failed":
		what, colour, err = rejectedText(e.data)
	case "lost":
		var lost struct{ Why string }
		err = json.Unmarshal([]byte(e.data), &lost)
		what, colour = lost.Why, yellow
	default:
		what = e.data
	}
	if err != nil { // of another version
		what = e.data
	}
	line := printable(fmt.Sprintf("%s  %-6s  %s", shortTime(at, now), eventLabel(e.kind), what))
	if colour == "" {
		return line
	}
	return paint(line, colour, colours)
}

// eventLabel is the type of an event in a narrow column.
func eventLabel(kind string) string {
	return strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(kind, "_failed"), "ificate"), "circuit_")
}

func certificateText(data string, now time.Time) (text, colour string, err error) {
	var c struct {
		Domain, Outcome, Why string
		Expires, Next        time.Time
	}
	err = json.Unmarshal([]byte(data), &c)
	if c.Outcome == "failed" {
		text, colour = c.Domain+": no certificate: "+c.Why+"; next try at "+shortTime(c.Next, now), red
		if !c.Expires.IsZero() {
			text += "; the one in force expires at " + shortTime(c.Expires, now)
		}
		return text, colour, err
	}
	return c.Domain + ": the certificate was " + c.Outcome + " and expires at " + shortTime(c.Expires, now), green, err
}

func ejectionText(data string, now time.Time) (text, colour string, err error) {
	var e struct {
		Pool, Endpoint, Why string
		Ejected             bool
		Until               time.Time
	}
	err = json.Unmarshal([]byte(data), &e)
	text, colour = drained(e.Pool, e.Endpoint)+" takes requests again", green
	if e.Ejected {
		text, colour = drained(e.Pool, e.Endpoint)+" is ejected until "+shortTime(e.Until, now), red
	}
	return text + ": " + e.Why, colour, err
}

func breakerText(data string) (text, colour string, err error) {
	var b struct {
		Pool    string
		Open    bool
		Refused uint64
	}
	err = json.Unmarshal([]byte(data), &b)
	text, colour = "pool "+b.Pool+" takes all requests again", green
	if b.Open {
		text, colour = "pool "+b.Pool+" refuses requests beyond its limits", red
	}
	return fmt.Sprintf("%s, %d refused so far", text, b.Refused), colour, err
}

func healthText(data string) (text, colour string, err error) {
	var h struct {
		Pool, Endpoint, Why string
		Healthy             bool
	}
	err = json.Unmarshal([]byte(data), &h)
	text, colour = drained(h.Pool, h.Endpoint)+" is healthy", green
	if !h.Healthy {
		text, colour = drained(h.Pool, h.Endpoint)+" is not healthy", red
	}
	if h.Why != "" {
		text += ": " + h.Why
	}
	return text, colour, err
}

func rampEventText(data string, now time.Time) (text, colour string, err error) {
	var r struct {
		Route, State, Why string
		proxy.RampStatus
	}
	err = json.Unmarshal([]byte(data), &r)
	text = r.Route + ": the ramp " + r.State
	switch r.State {
	case "started":
		text = r.Route + ": " + rampText(&r.RampStatus, now)
	case "stopped":
		text, colour = r.Route+": the ramp was stopped", yellow
		if r.By == "" { // by weir itself
			text = r.Route + ": the ramp stopped"
		}
	case "finished":
		text = r.Route + ": the ramp is at its end, " + setText(r.To)
	}
	if r.By != "" {
		text += ", by " + r.By
	}
	if r.Why != "" {
		text += ": " + r.Why
	}
	if r.Reason != "" {
		text += " (why: " + r.Reason + ")"
	}
	return text, colour, err
}

func rejectedText(data string) (text, colour string, err error) {
	var r struct {
		By     string
		Faults []string
	}
	err = json.Unmarshal([]byte(data), &r)
	return "a configuration was rejected, by " + r.By + ": " + strings.Join(r.Faults, "; "), red, err
}
