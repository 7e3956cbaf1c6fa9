package compare

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// document is an answer as JSON.
type document struct {
	root    any
	tensors []*value // the outputs of an answer in the Open Inference Protocol V2, else nil
}

// plain is the body without its coding.
func (a *Answer) plain(limit int) ([]byte, error) {
	switch coding := strings.ToLower(strings.TrimSpace(a.Field("Content-Encoding"))); coding {
	case "", "identity":
		return a.Body, nil
	case "gzip", "x-gzip":
	default:
		return nil, fmt.Errorf("Content-Encoding %.20q cannot be read", coding)
	}
	z, err := gzip.NewReader(bytes.NewReader(a.Body))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
	if err == nil && len(body) > limit {
		err = fmt.Errorf("it is larger than %d bytes once it is decompressed", limit)
	}
	return body, err
}

// parse reads the answer whose body, without its coding, is b.
func (a *Answer) parse(b []byte) (d document, err error) {
	var tail []byte
	if size := a.Field("Inference-Header-Content-Length"); size != "" {
		n, err := strconv.ParseUint(size, 10, 32)
		if err != nil || n > uint64(len(b)) {
			return d, fmt.Errorf("Inference-Header-Content-Length %.20q of %d bytes", size, len(b))
		}
		b, tail = b[:n], b[n:]
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&d.root); err != nil {
		return d, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return d, errors.New("not JSON: something follows it")
	}
	d.tensors, err = tensors(d.root, tail)
	return d, err
}

func (d *document) has(name string) bool {
	_, ok := path{name}.in(d.root)
	return ok
}

// path leads to a value in JSON: keys of objects, indices of lists.
type path []string

func (p path) in(v any) (any, bool) {
	for _, step := range p {
		switch x := v.(type) {
		case map[string]any:
			next, ok := x[step]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.ParseUint(step, 10, 31)
			if err != nil || i >= uint64(len(x)) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// tensor is the output that p leads to, by its index or its name: outputs.0, outputs.scores.data.
func (d *document) tensor(p path) *value {
	if len(p) < 2 || len(p) > 3 || p[0] != "outputs" || len(p) == 3 && p[2] != "data" {
		return nil
	}
	if i, err := strconv.ParseUint(p[1], 10, 31); err == nil && i < uint64(len(d.tensors)) {
		return d.tensors[i]
	}
	return find(d.tensors, p[1])
}
