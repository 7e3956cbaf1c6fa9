package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weir/balancer/rollout"
	"weir/proxy"
	"weir/proxy/control"
)

// rolloutWhere is where a rollout is, in short: "progressing, step 2 of 5 (30 %)".
func rolloutWhere(s *control.RolloutStatus) string {
	text := string(s.Phase)
	if s.Step > 0 && !s.Phase.Ended() {
		text += fmt.Sprintf(", step %d of %d (%s %%)", s.Step, len(s.Steps), number(s.Weight))
	}
	return text
}

// rolloutWhy is what it waits for, or what brought it there.
func rolloutWhy(s *control.RolloutStatus) string {
	if s.Phase == rollout.Progressing && s.Analysis != nil && s.Analysis.Verdict != rollout.Pass {
		return s.Analysis.Why
	}
	return s.Why
}

// writeRollout writes a rollout for people, in at most width columns.
func writeRollout(w io.Writer, s *control.RolloutStatus, width int, now time.Time) {
	line := func(indent, format string, args ...any) {
		for _, l := range wrap(printable(fmt.Sprintf(format, args...)), max(width-len(indent), 20)) {
			fmt.Fprintln(w, indent+l)
		}
	}
	line("", "%s: %s from %s to %s, %s", s.Route, s.Strategy, s.From, s.To, rolloutWhere(s))
	if s.Ends != nil {
		if left := s.Ends.Sub(now); left > 0 {
			line("  ", "holds for another %s", about(left))
		} else {
			line("  ", "its hold is over")
		}
	}
	if s.Why != "" {
		line("  ", "%s", s.Why)
	}
	by := "begun " + shortTime(s.Begun, now) + " by " + s.By
	if s.Reason != "" {
		by += " (why: " + s.Reason + ")"
	}
	line("  ", "%s", by)
	for _, g := range s.Gates {
		line("  ", "%s: %s, %s", g.Name, g.Verdict, g.Why)
	}
	for i := range s.Registry {
		line("  ", "%s", registryText(&s.Registry[i]))
	}
	a := s.Analysis
	if a == nil {
		return
	}
	line("  ", "requests: %d at %s, %d of them failed; %d at %s, %d failed", a.Canary.Requests, s.To, a.Canary.Errors, a.Stable.Requests, s.From, a.Stable.Errors)
	line("  ", "analysis: %s, %s", a.Verdict, a.Why)
	for _, c := range a.Checks {
		line("  ", "%s: %s%s", c.Name, c.Verdict, ratioText(&c))
		if c.Why != a.Why {
			line("    ", "%s", c.Why)
		}
	}
}

// registryText is what a registry calls the new version, or is to call it.
func registryText(v *control.RegistryStatus) string {
	text := v.Model + " version " + v.Version + " is called "
	if !v.Moved {
		text = v.Model + " version " + v.Version + " is to be called "
	}
	text += strings.Join(slices.DeleteFunc([]string{v.Alias, v.Stage}, func(s string) bool { return s == "" }), " and ")
	if v.Why != "" {
		text += "; that could not be changed and is tried again: " + v.Why
	}
	return text
}

// ratioText is the estimated ratio, and between which bounds that of bad requests lies.
func ratioText(c *rollout.Check) string {
	if c.Ratio == nil {
		return ""
	}
	text := fmt.Sprintf(", %.2f times the old", *c.Ratio)
	if c.Low != nil && c.High != nil {
		text += fmt.Sprintf(" (bad requests %.2f to %.2f times)", *c.Low, *c.High)
	}
	return text
}

// watched is what of a rollout is worth another print: not the figures alone.
func watched(s *control.RolloutStatus) string {
	text := rolloutWhere(s) + s.Why
	for _, g := range s.Gates {
		text += string(g.Verdict)
	}
	if s.Analysis != nil {
		text += string(s.Analysis.Verdict)
		for _, c := range s.Analysis.Checks {
			text += string(c.Verdict)
		}
	}
	return text
}

func writeRollouts(w io.Writer, all []control.RolloutStatus, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no route has had a rollout")
		return
	}
	t := newTable("ROUTE", "FROM", "TO", "STRATEGY", "STATE", "SINCE", "BY")
	for i := range all {
		s := &all[i]
		t.row(s.Route, s.From, s.To, s.Strategy, rolloutWhere(s), shortTime(s.Since, now), s.By)
	}
	t.write(w)
}

func rolloutEventText(data string) (text, colour string, err error) {
	var e control.RolloutEvent
	err = json.Unmarshal([]byte(data), &e)
	s := &e.RolloutStatus
	text = fmt.Sprintf("%s: rollout from %s to %s, %s", s.Route, s.From, s.To, rolloutWhere(s))
	if s.Why != "" {
		text += ": " + s.Why
	}
	switch s.Phase {
	case rollout.Succeeded:
		colour = green
	case rollout.Aborted:
		colour = red
	case rollout.Paused:
		colour = yellow
	}
	return strings.TrimSpace(text), colour, err
}

// rolloutNote is a rollout under way, in the status.
func rolloutNote(b *proxy.RolloutBrief) string {
	text := "rollout from " + b.From + " to " + b.To + ": " + b.Phase
	if b.Step > 0 {
		text += fmt.Sprintf(", step %d of %d (%s %%)", b.Step, b.Steps, number(b.Weight))
	}
	return text
}
