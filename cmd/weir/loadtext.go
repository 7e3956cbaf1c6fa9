package main

import (
	"slices"
	"strconv"
	"strings"

	"weir/proxy"
)

// loadNotes say how busy an endpoint is by its own account, and what its weight makes of that.
func loadNotes(l *proxy.LoadStatus) (notes []part) {
	if l == nil {
		return nil
	}
	var known []string
	oldest := map[string]float64{}
	for _, s := range l.Signals {
		known = append(known, s.Name+" "+signalText(s.Name, s.Value))
		oldest[s.Source] = max(oldest[s.Source], s.Age)
	}
	for _, source := range []string{"orca", "scrape"} {
		if age, ok := oldest[source]; ok {
			known = append(known, source+" "+strconv.FormatFloat(age, 'f', 1, 64)+" s ago")
		}
	}
	if len(known) > 0 {
		notes = append(notes, part{"load: " + strings.Join(known, ", "), ""})
	}
	if w := l.Weighting; w != nil {
		text := "weight × " + three(w.Factor)
		if w.By != "" {
			text += ", " + strconv.FormatFloat(100*w.Full, 'f', 0, 64) + " % full by " + w.By
		}
		colour := ""
		if w.Why != "" {
			text += ": " + w.Why
		}
		if strings.Contains(w.Why, "stale") {
			colour = yellow
		}
		notes = append(notes, part{text, colour})
	}
	var sources []string
	for source := range l.Problems {
		sources = append(sources, source)
	}
	slices.Sort(sources)
	for _, source := range sources {
		notes = append(notes, part{"load by " + source + ": " + l.Problems[source], yellow})
	}
	return notes
}

// signalText is a signal's value, in the unit that people read it in.
func signalText(name string, v float64) string {
	switch {
	case strings.HasSuffix(name, "utilization"):
		return strconv.FormatFloat(100*v, 'f', 0, 64) + "%"
	case name == "rps", name == "eps":
		return three(v) + "/s"
	}
	return three(v)
}
