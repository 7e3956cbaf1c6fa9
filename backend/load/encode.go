package load

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Format is an encoding of the response header.
type Format uint8

const (
	// Text is "TEXT eps=1, named_metrics.queue=4".
	Text Format = iota + 1
	// JSON is `JSON {"eps":1,"named_metrics":{"queue":4}}`.
	JSON
)

// ParseFormat reads the value of [RequestHeader], "text" or "json" in any case.
func ParseFormat(value []byte) (Format, bool) {
	switch {
	case strings.EqualFold(string(value), "text"):
		return Text, true
	case strings.EqualFold(string(value), "json"):
		return JSON, true
	}
	return 0, false
}

// Append appends the report as the value of [ResponseHeader] and returns the longer slice.
// The fields of this server's own load (application utilization, rps, eps) are written even
// when zero; the others only when they are not. Values that are not finite are left out.
func (r *Report) Append(dst []byte, f Format) []byte {
	if f == JSON {
		return r.appendJSON(append(dst, "JSON "...))
	}
	return r.appendText(append(dst, "TEXT "...))
}

type field struct {
	name   string
	value  float64
	always bool
}

func (r *Report) fields() [5]field {
	return [5]field{
		{fieldCPU, r.CPUUtilization, false},
		{fieldMem, r.MemUtilization, false},
		{fieldApplication, r.ApplicationUtilization, true},
		{fieldRPS, r.RPS, true},
		{fieldEPS, r.EPS, true},
	}
}

type group struct {
	name    string
	metrics []Metric
}

func (r *Report) groups() [3]group {
	return [3]group{{groupCost, r.RequestCost}, {groupUtilization, r.Utilization}, {groupNamed, r.Named}}
}

func (r *Report) appendText(dst []byte) []byte {
	separator := ""
	item := func(group, name string, value float64) {
		dst = append(dst, separator...)
		if group != "" {
			dst = append(append(dst, group...), '.')
		}
		dst = append(append(dst, name...), '=')
		dst = appendNumber(dst, value)
		separator = ", "
	}
	for _, f := range r.fields() {
		if (f.always || f.value != 0) && finite(f.value) {
			item("", f.name, f.value)
		}
	}
	for _, g := range r.groups() {
		for _, m := range g.metrics {
			if finite(m.Value) {
				item(g.name, m.Name, m.Value)
			}
		}
	}
	return dst
}

func (r *Report) appendJSON(dst []byte) []byte {
	separator := byte('{')
	for _, f := range r.fields() {
		if (f.always || f.value != 0) && finite(f.value) {
			dst = appendKey(dst, separator, f.name)
			dst = appendNumber(dst, f.value)
			separator = ','
		}
	}
	for _, g := range r.groups() {
		if len(g.metrics) == 0 {
			continue
		}
		dst = appendKey(dst, separator, g.name)
		separator = ','
		inner := byte('{')
		for _, m := range g.metrics {
			if finite(m.Value) {
				dst = appendKey(dst, inner, m.Name)
				dst = appendNumber(dst, m.Value)
				inner = ','
			}
		}
		if inner == '{' {
			dst = append(dst, '{')
		}
		dst = append(dst, '}')
	}
	if separator == '{' {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// AppendProtobuf appends the report as an OrcaLoadReport, which is the value of
// [BinaryResponseHeader] before its base64, with the same fields as Append.
func (r *Report) AppendProtobuf(dst []byte) []byte {
	for n := protowire.Number(1); n <= lastField; n++ {
		for _, f := range r.fields() {
			if f.name == fieldName(n) && (f.always || f.value != 0) && finite(f.value) {
				dst = appendDouble(dst, n, f.value)
			}
		}
		for _, g := range r.groups() {
			if g.name != groupName(n) {
				continue
			}
			for _, m := range g.metrics {
				if !finite(m.Value) {
					continue
				}
				entry := appendDouble(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), m.Name), 2, m.Value)
				dst = protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), entry)
			}
		}
	}
	return dst
}

func appendDouble(dst []byte, n protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(dst, n, protowire.Fixed64Type), math.Float64bits(v))
}

func appendKey(dst []byte, separator byte, name string) []byte {
	quoted, err := json.Marshal(name)
	if err != nil {
		panic("BUG: a string does not marshal: " + err.Error())
	}
	return append(append(append(dst, separator), quoted...), ':')
}

func appendNumber(dst []byte, v float64) []byte {
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
