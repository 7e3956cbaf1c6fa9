package bench

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// MaxTrace is the largest number of arrivals in a trace.
const MaxTrace = 20_000_000

// trace is arrivals at given offsets.
type trace struct{ due []time.Duration }

func (t *trace) Next() time.Duration {
	if len(t.due) == 0 {
		return Never
	}
	due := t.due[0]
	t.due = t.due[1:]
	return due
}

// ReadTrace reads arrivals from a file: a line each, which begins with its offset in seconds.
// What follows a comma, a space or a tab is not read, and neither are empty lines and those that
// begin with #. Offsets ascend; the first is taken as 0, so they may be seconds of a day or of an
// epoch. A file whose name ends in .gz is compressed by gzip.
func ReadTrace(name string) ([]time.Duration, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := io.Reader(bufio.NewReader(f))
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	due, err := parseTrace(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return due, nil
}

func parseTrace(r io.Reader) ([]time.Duration, error) {
	var due []time.Duration
	first := 0.0
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if i := strings.IndexAny(line, ", \t"); i >= 0 {
			line = line[:i]
		}
		s, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %.40q is no offset in seconds", n, line)
		}
		if len(due) == 0 {
			first = s
		}
		at := seconds(s - first)
		switch {
		case !(s >= 0) || at == Never:
			return nil, fmt.Errorf("line %d: offset %v is out of range", n, s)
		case len(due) > 0 && at < due[len(due)-1]:
			return nil, fmt.Errorf("line %d: offset %v comes before the one above it", n, s)
		case len(due) == MaxTrace:
			return nil, fmt.Errorf("line %d: more than %d arrivals", n, MaxTrace)
		}
		due = append(due, at)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(due) == 0 {
		return nil, errors.New("holds no arrivals")
	}
	return due, nil
}
