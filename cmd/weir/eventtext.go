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
	case "ramp":
		what, colour, err = rampEventText(e.data, now)
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
	line := printable(fmt.Sprintf("%s  %-6s  %s", shortTime(at, now), strings.TrimSuffix(e.kind, "_failed"), what))
	if colour == "" {
		return line
	}
	return paint(line, colour, colours)
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
