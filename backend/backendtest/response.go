package backendtest

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func writeHead(w io.Writer, status int, header []Field) {
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	writeFields(w, header)
}

// writeFields ends with the empty line.
func writeFields(w io.Writer, fields []Field) {
	for _, f := range fields {
		fmt.Fprintf(w, "%s: %s\r\n", f.Name, f.Value)
	}
	io.WriteString(w, "\r\n")
}

// loadReport renders an ORCA report in the format the request asked for, or "".
func loadReport(load map[string]float64, format string) string {
	if len(load) == 0 {
		return ""
	}
	switch strings.ToLower(format) {
	case "text":
		var parts []string
		for name, v := range load {
			parts = append(parts, name+"="+strconv.FormatFloat(v, 'g', -1, 64))
		}
		slices.Sort(parts)
		return "TEXT " + strings.Join(parts, ", ")
	case "json":
		report, named := map[string]any{}, map[string]float64{}
		for name, v := range load {
			if short, ok := strings.CutPrefix(name, "named_metrics."); ok {
				named[short] = v
			} else {
				report[name] = v
			}
		}
		if len(named) > 0 {
			report["named_metrics"] = named
		}
		text, err := json.Marshal(report)
		if err != nil {
			panic(fmt.Sprintf("backendtest: Behaviour.Load holds what JSON cannot express: %v", err))
		}
		return "JSON " + string(text)
	}
	return ""
}

// Pattern is the body of size bytes that BodySize sends: always the same, and without
// repetition at the sizes of buffers, so that a lost or doubled part does not go unnoticed.
func Pattern(size int64) io.Reader {
	p := &pattern{left: size}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range p.block {
		p.block[i] = byte(r.Uint32())
	}
	return p
}

type pattern struct {
	block [4093]byte // a prime
	at    int
	left  int64
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left <= 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.left)]
	n := 0
	for n < len(b) {
		k := copy(b[n:], p.block[p.at:])
		n, p.at = n+k, (p.at+k)%len(p.block)
	}
	p.left -= int64(n)
	return n, nil
}
