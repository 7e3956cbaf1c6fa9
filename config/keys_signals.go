package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func loadShape() shape[*Signals] {
	return optional[Signals]{fresh: DefaultSignals, inner: object[Signals]{fields: []field[Signals]{
		key("preset", choiceShape("preset", LoadPresets()), func(l *Signals) *string { return &l.Preset },
			"The kind of the model server, by which its metrics are known: weir, triton, vllm, sglang, torchserve, mlserver, ray, bentoml, tf-serving, or dcgm for the GPUs alone."),
		key("answers", boolShape(), func(l *Signals) *bool { return &l.Answers },
			"Asks for a report of the endpoint's load with every request (ORCA's endpoint-load-metrics), which clients do not get to see."),
		key("scrape", scrapeShape(), func(l *Signals) *string { return &l.Scrape },
			"Where the metrics are: a path at the endpoint itself, as /metrics, or with a port, as :8002/metrics, at another port of its host, over plain HTTP. Default: where the preset has them; with weir they are not scraped."),
		key("interval", durationShape(), func(l *Signals) *time.Duration { return &l.Interval },
			"From one scrape to the next, 10 % more or less at random. What was scraped counts for three times as long."),
		key("timeout", durationShape(), func(l *Signals) *time.Duration { return &l.Timeout },
			"For a scrape as a whole. At most the interval, and the interval itself where that is shorter than the default."),
		key("max_bytes", sizeUpTo(64*MiB, " of at most 64MiB"), func(l *Signals) *Size { return &l.MaxBytes },
			"How long the metrics may be; longer ones are not read to their end, and count as none."),
		key("names", loadNamesShape(), func(l *Signals) *[]SignalName { return &l.Names },
			"Families of metrics by the signal they hold, in the place of those of the preset: utilization, gpu_utilization, memory_utilization, queue_ms, queue, in_flight, in_flight_limit, rps and eps. A counter counts by its rate, a histogram or a summary by its mean, and the unit is what the name ends in (_percent, _ratio, _seconds, _ms, _us). Absent: the preset's alone."),
	}}}
}

// loadNamesShape is a mapping from signals to families.
func loadNamesShape() shape[[]SignalName] {
	return named[SignalName]{
		noun: "signal", fresh: func() SignalName { return SignalName{} }, name: func(n *SignalName) *string { return &n.Signal },
		check: checkSignal, pattern: "^(" + strings.Join(LoadSignals(), "|") + ")$",
		elem: part[SignalName](familyShape(), func(n *SignalName) *string { return &n.Family }),
	}
}

func checkSignal(s string) error {
	for _, name := range LoadSignals() {
		if s == name {
			return nil
		}
	}
	return fmt.Errorf("unknown signal %q; want %s", clip(s), choices(LoadSignals(), "or"))
}

func familyShape() shape[string] {
	return scalar[string]{
		want: "the name of a family of metrics such as queue_depth", free: true, format: verbatim,
		parse: func(s string) (string, error) {
			if s == "" || len(s) > 200 || !only(s, keyLetters+":") || s[0] >= '0' && s[0] <= '9' || strings.Contains(s, "-") {
				return "", fmt.Errorf("%q is no name of a family of metrics; write letters, digits, _ and :, as in queue_depth", clip(s))
			}
			return s, nil
		},
		body: func() schema { return orVariable(schema{"type": "string", "pattern": `^[a-zA-Z_:][a-zA-Z0-9_:]*$`}) },
	}
}

func scrapeShape() shape[string] {
	return scalar[string]{
		want: "a path such as /metrics, or a port and a path such as :8002/metrics", free: true, optional: true, format: verbatim,
		parse: func(s string) (string, error) {
			_, _, err := SplitScrape(s)
			return s, err
		},
		body: func() schema {
			return orVariable(schema{"type": "string", "pattern": `^(:[0-9]+)?/`})
		},
	}
}

// SplitScrape takes the value of load.scrape apart. port is 0 where it is the endpoint's own.
func SplitScrape(s string) (port uint16, path string, err error) {
	path = s
	if rest, ok := strings.CutPrefix(s, ":"); ok {
		digits, _, _ := strings.Cut(rest, "/")
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 {
			return 0, "", fmt.Errorf("%q has no port from 1 to 65535 behind its colon; write one, as in :8002/metrics", clip(s))
		}
		port, path = uint16(n), rest[len(digits):]
	}
	if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return 0, "", fmt.Errorf("%q is neither a path such as /metrics nor a port and a path such as :8002/metrics; the host is the endpoint's", clip(s))
	}
	return port, path, nil
}
