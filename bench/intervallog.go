package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// IntervalLog writes latencies in the log format of HdrHistogram (version 1.3, histograms in V2
// encoding), which its viewers and libraries read: a line for the total and one for each variant,
// tagged with its name, for every interval. Values are nanoseconds.
type IntervalLog struct {
	log *hdrhistogram.HistogramLogWriter
}

// NewIntervalLog writes the head of a log that begins at start.
func NewIntervalLog(w io.Writer, start time.Time) (*IntervalLog, error) {
	l := &IntervalLog{log: hdrhistogram.NewHistogramLogWriter(w)}
	// The head holds whole seconds; times of intervals are relative to it.
	base := start.Truncate(time.Second).UnixMilli()
	l.log.SetBaseTime(base)
	for _, err := range []error{
		l.log.OutputComment("[Logged by weir-bench]"), l.log.OutputLogFormatVersion(),
		l.log.OutputStartTime(base), l.log.OutputBaseTime(base), l.log.OutputLegend(),
	} {
		if err != nil {
			return nil, fmt.Errorf("histogram log: %w", err)
		}
	}
	return l, nil
}

// Add writes the latencies of the time between two moments.
func (l *IntervalLog) Add(t *Tally, from, to time.Time) error {
	if err := l.write(t.Total().Latency, "", from, to); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Variants)) {
		if name == "" || t.Variants[name].empty() {
			continue
		}
		if err := l.write(t.Variants[name].Latency, name, from, to); err != nil {
			return err
		}
	}
	return nil
}

func (l *IntervalLog) write(h *hdrhistogram.Histogram, variant string, from, to time.Time) error {
	h.SetStartTimeMs(from.UnixMilli())
	h.SetEndTimeMs(to.UnixMilli())
	// A tag may hold neither commas nor spaces.
	h.SetTag(strings.Map(func(r rune) rune {
		if r <= ' ' || r == ',' {
			return '_'
		}
		return r
	}, variant))
	if err := l.log.OutputIntervalHistogram(h); err != nil {
		return fmt.Errorf("histogram log: %w", err)
	}
	return nil
}
