package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// errTooLong is what metrics are that are longer than they may be.
var errTooLong = errors.New("the metrics are longer than max_bytes allows")

// maxMetricLine bounds a line of metrics, in bytes: longer ones are passed over.
const maxMetricLine = 16 << 10

// scan calls sample for every sample of an exposition in the text format of Prometheus or OpenMetrics whose name wanted
// knows, and typed for the type of such a family. It looks at nothing else: of all other lines it finds the end alone.
// buf holds a piece of the text and has to be longer than a line; limit bounds how much is read.
func scan(r io.Reader, buf []byte, limit int64, line func(b []byte)) error {
	kept, over := 0, false // bytes of a line that is not whole; whether it is passed over
	for total := int64(0); ; {
		n, err := r.Read(buf[kept:])
		if total += int64(n); total > limit {
			return errTooLong
		}
		b := buf[:kept+n]
		for {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				break
			}
			if !over {
				line(b[:i])
			}
			b, over = b[i+1:], false
		}
		if len(b) == len(buf) || len(b) > maxMetricLine {
			b, over = b[:0], true
		}
		kept = copy(buf, b)
		if err == io.EOF {
			if kept > 0 && !over {
				line(buf[:kept])
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// cut takes a line with a sample apart; rest is what stands behind the name.
func cut(line []byte) (name, rest []byte) {
	for i, c := range line {
		if c == '{' || c == ' ' || c == '\t' {
			return line[:i], line[i:]
		}
	}
	return line, nil
}

// value reads what stands behind a name: labels, and a number, which a time and an exemplar may follow. ok is false for
// what is no finite number.
func value(rest []byte) (labels []byte, v float64, ok bool) {
	if len(rest) > 0 && rest[0] == '{' {
		end := closing(rest)
		if end < 0 {
			return nil, 0, false
		}
		labels, rest = rest[1:end], rest[end+1:]
	}
	rest = bytes.TrimLeft(rest, " \t")
	if i := bytes.IndexAny(rest, " \t\r"); i >= 0 {
		rest = rest[:i]
	}
	v, err := strconv.ParseFloat(unsafeString(rest), 64)
	return labels, v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}

// closing is where the labels that b begins with end; -1 where they do not. Braces in the values of labels do not count.
func closing(b []byte) int {
	quoted := false
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == '}' && !quoted:
			return i
		}
	}
	return -1
}

// labelled returns the value of a label as it is written; "" where there is none.
func labelled(labels, name string) string {
	for rest := labels; rest != ""; {
		key, after, ok := strings.Cut(rest, `="`)
		if !ok {
			return ""
		}
		end := 0
		for end < len(after) && after[end] != '"' {
			if after[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(after) {
			return ""
		}
		if strings.TrimLeft(key, ", ") == name {
			return after[:end]
		}
		rest = after[end+1:]
	}
	return ""
}

// typeOf is the family whose type a comment tells, and the type.
func typeOf(line []byte) (family, kind []byte) {
	const word = "# TYPE "
	if len(line) < len(word) || string(line[:len(word)]) != word {
		return nil, nil
	}
	family, kind, _ = bytes.Cut(bytes.TrimRight(line[len(word):], "\r "), []byte(" "))
	return family, kind
}

// describe names families for a message.
func describe(families []string) string {
	const most = 4
	s := ""
	for i, f := range families {
		if i == most {
			return s + fmt.Sprintf(" and %d more", len(families)-most)
		}
		if i > 0 {
			s += ", "
		}
		s += f
	}
	return s
}
