package compare_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"weir/config"
	"weir/proxy/compare"
)

// answer is a whole one with status 200 and these fields, name and value in turn.
func answer(body string, fields ...string) compare.Answer {
	return compare.Answer{Status: 200, Whole: true, Body: []byte(body), Field: func(name string) string {
		for i := 0; i < len(fields); i += 2 {
			if strings.EqualFold(fields[i], name) {
				return fields[i+1]
			}
		}
		return ""
	}}
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.String()
}

// output is a V2 answer with one output.
func output(name, datatype, shape, data string) string {
	return fmt.Sprintf(`{"model_name":"m","id":"%p","outputs":[{"name":%q,"datatype":%q,"shape":%s,"data":%s}]}`, &name, name, datatype, shape, data)
}

// raw is a V2 answer with one output in binary.
func raw(name, datatype, shape string, data ...any) compare.Answer {
	var b []byte
	for _, v := range data {
		if s, ok := v.(string); ok {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...)
			continue
		}
		b, _ = binary.Append(b, binary.LittleEndian, v)
	}
	head := fmt.Sprintf(`{"outputs":[{"name":%q,"datatype":%q,"shape":%s,"parameters":{"binary_data_size":%d}}]}`, name, datatype, shape, len(b))
	return answer(head+string(b), "Inference-Header-Content-Length", strconv.Itoa(len(head)))
}

func TestCompare(t *testing.T) {
	js := func(s string) compare.Answer { return answer(s, "Content-Type", "application/json") }
	status := func(n int) compare.Answer { a := js("{}"); a.Status = n; return a }
	cut := js("{}")
	cut.Whole = false
	f32 := func(v ...float32) (out []any) {
		for _, f := range v {
			out = append(out, f)
		}
		return out
	}
	loose, top := config.Compare{Tolerance: 0.01}, config.Compare{TopLabel: true, Tolerance: 1e-6}
	fields := func(f ...string) config.Compare { return config.Compare{Fields: f, Tolerance: 1e-6} }
	for _, c := range []struct {
		name   string
		rules  config.Compare
		a, b   compare.Answer
		result compare.Result
		field  string
		reason string // a part of it
	}{
		{"the same", config.Compare{}, answer("\x00\xff"), answer("\x00\xff"), compare.Agree, "", ""},
		{"other bytes", config.Compare{}, answer("a"), answer("b"), compare.Disagree, "", "bodies differ"},
		{"other spelling", config.Compare{}, js(`{"a":[1,2.50,"é",null,true],"b":{}}`), js(`{ "b": {}, "a":[1, 25e-1, "\u00e9", null, true]}`), compare.Agree, "", ""},
		{"status class", config.Compare{}, status(200), status(503), compare.Incomparable, "", "status 200 and 503"},
		{"two errors", config.Compare{}, status(404), status(400), compare.Incomparable, "", "errors"},
		{"no answer", config.Compare{}, status(200), status(0), compare.Incomparable, "", "two answers"},
		{"same class", config.Compare{}, status(200), status(201), compare.Agree, "", ""},
		{"too large", config.Compare{}, js("{}"), cut, compare.Incomparable, "", "max_body"},
		{"not JSON", config.Compare{}, js(`{"a":1}`), js(`{"a":NaN}`), compare.Disagree, "", "shadow: not JSON"},
		{"two JSON texts", config.Compare{}, js(`{"a":1}{}`), js(`{"a":1}`), compare.Disagree, "", "primary: not JSON"},
		{"nested too deep", config.Compare{}, js(strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)), js(`[]`), compare.Disagree, "", "primary: not JSON"},

		{"whole answer", config.Compare{}, js(`{"a":{"b":[1,{"c":1}]}}`), js(`{"a":{"b":[1,{"c":2}]}}`), compare.Disagree, "a.b.1.c", "numbers differ"},
		{"kinds", config.Compare{}, js(`{"a":1}`), js(`{"a":"1"}`), compare.Disagree, "a", "values differ"},
		{"null", config.Compare{}, js(`{"a":null}`), js(`{"a":false}`), compare.Disagree, "a", "values differ"},
		{"longer list", config.Compare{}, js(`[1]`), js(`[1,2]`), compare.Disagree, "", "1 and 2 elements"},
		{"lost key", config.Compare{}, js(`{"a":1,"b":2}`), js(`{"a":1}`), compare.Disagree, "b", "shadow's answer lacks it"},
		{"new key", config.Compare{}, js(`{"a":1}`), js(`{"a":1,"b":2}`), compare.Disagree, "b", "primary's answer lacks it"},

		{"within tolerance", loose, js(`{"a":100.5}`), js(`{"a":101.5}`), compare.Agree, "", ""},
		{"beyond tolerance", loose, js(`{"a":100.5}`), js(`{"a":101.6}`), compare.Disagree, "a", "numbers differ"},
		{"absolute below 1", loose, js(`{"a":0.001}`), js(`{"a":-0.008}`), compare.Agree, "", ""},
		{"labels know no tolerance", loose, js(`{"a":1000}`), js(`{"a":1001}`), compare.Disagree, "a", "numbers differ"},
		{"large whole numbers", loose, js(`{"a":9007199254740993}`), js(`{"a":9007199254740992}`), compare.Disagree, "a", "numbers differ"},
		{"signs", loose, js(`{"a":-5}`), js(`{"a":5}`), compare.Disagree, "a", "numbers differ"},
		{"minus zero", loose, js(`{"a":-0}`), js(`{"a":0}`), compare.Agree, "", ""},
		{"infinite", loose, js(`{"a":1e999}`), js(`{"a":1}`), compare.Disagree, "a", "numbers differ"},

		{"guide", config.Compare{}, js(`{"prediction":7,"model_version":"1","latency_ms":1}`), js(`{"prediction":7,"model_version":"2","latency_ms":9}`), compare.Agree, "", ""},
		{"guide, other", config.Compare{}, js(`{"prediction":7,"latency_ms":1}`), js(`{"prediction":8,"latency_ms":1}`), compare.Disagree, "prediction", "numbers differ"},
		{"guide, none", config.Compare{}, js(`{"prediction":7}`), js(`{"result":7}`), compare.Disagree, "prediction", "lacks it"},
		{"fields", fields("a.0.b", "c"), js(`{"a":[{"b":1,"x":1}],"c":1}`), js(`{"a":[{"b":1,"x":2}],"c":1}`), compare.Agree, "", ""},
		{"fields, other", fields("a.0.b", "c"), js(`{"a":[{"b":1}],"c":1}`), js(`{"a":[{"b":1}],"c":2}`), compare.Disagree, "c", "numbers differ"},
		{"fields, one without", fields("a"), js(`{"a":1}`), js(`{"b":1}`), compare.Disagree, "a", "lacks it"},
		{"fields, both without", fields("a.x", "b.7"), js(`{"a":1,"b":[1]}`), js(`{"a":1,"b":[2]}`), compare.Incomparable, "", "neither"},

		{"top label", top, js(`{"s":[0.1,0.7,0.2]}`), js(`{"s":[0.3,0.4,0.3]}`), compare.Agree, "", ""},
		{"top label, other", top, js(`{"s":[0.1,0.7,0.2]}`), js(`{"s":[0.5,0.4,0.1]}`), compare.Disagree, "s", "label"},
		{"top label, tie", top, js(`{"s":[0.5,0.5]}`), js(`{"s":[0.4999999,0.5000001]}`), compare.Agree, "", ""},
		{"top label, rows", top, js(`{"prediction":[[0.1,0.9],[0.9,0.1]]}`), js(`{"prediction":[[0.2,0.8],[0.2,0.8]]}`), compare.Disagree, "prediction.1", "label"},
		{"top label, labels", top, js(`{"prediction":[1,9]}`), js(`{"prediction":[2,9]}`), compare.Disagree, "prediction.0", "numbers differ"},

		{"V2", loose, js(output("s", "FP32", "[1,2]", "[0.5,0.4]")), js(output("s", "FP32", "[1,2]", "[[0.501,0.4]]")), compare.Agree, "", ""},
		{"V2, other", loose, js(output("s", "FP32", "[1,2]", "[0.5,0.4]")), js(output("s", "FP32", "[1,2]", "[0.5,0.6]")), compare.Disagree, "outputs.s.data.1", "numbers differ"},
		{"V2, whole floats", loose, js(output("s", "FP64", "[1]", "[100000]")), js(output("s", "FP64", "[1]", "[100001]")), compare.Agree, "", ""},
		{"V2, whole numbers", loose, js(output("s", "INT64", "[1]", "[100000]")), js(output("s", "INT64", "[1]", "[100001]")), compare.Disagree, "outputs.s.data.0", "numbers differ"},
		{"V2, half", loose, js(output("s", "FP16", "[1]", "[0.5]")), js(output("s", "FP32", "[1]", "[0.501]")), compare.Agree, "", ""},
		{"V2, datatype", loose, js(output("s", "INT32", "[1]", "[1]")), js(output("s", "FP32", "[1]", "[1]")), compare.Disagree, "outputs.s.datatype", "datatypes"},
		{"V2, shape", loose, js(output("s", "FP32", "[2,1]", "[1,2]")), js(output("s", "FP32", "[1,2]", "[1,2]")), compare.Disagree, "outputs.s.shape", "shapes"},
		{"V2, name", loose, js(output("s", "FP32", "[1]", "[1]")), js(output("t", "FP32", "[1]", "[1]")), compare.Disagree, "outputs.s", "lacks it"},
		{"V2, lies", loose, js(output("s", "FP32", "[3]", "[1]")), js(output("s", "FP32", "[1]", "[1]")), compare.Disagree, "", "its shape says 3"},
		{"V2, top label", top, js(output("s", "FP32", "[2,2]", "[0.1,0.9,0.8,0.2]")), js(output("s", "FP32", "[2,2]", "[0.4,0.6,0.7,0.3]")), compare.Agree, "", ""},
		{"V2, top label, other", top, js(output("s", "FP32", "[2,2]", "[0.1,0.9,0.8,0.2]")), js(output("s", "FP32", "[2,2]", "[0.4,0.6,0.3,0.7]")), compare.Disagree, "outputs.s.row 1", "label"},
		{"V2, top label, one column", top, js(output("s", "FP32", "[2,1]", "[0.1,0.9]")), js(output("s", "FP32", "[2,1]", "[0.2,0.9]")), compare.Disagree, "outputs.s.data.0", "numbers differ"},
		{"V2, bool", loose, js(output("s", "BOOL", "[2]", "[true,false]")), js(output("s", "BOOL", "[2]", "[1,0]")), compare.Agree, "", ""},
		{"V2, field by index", fields("outputs.0.data"), js(output("s", "FP32", "[1]", "[5]")), js(output("t", "FP32", "[1]", "[5.000001]")), compare.Agree, "", ""},
		{"V2, field by name", fields("outputs.s"), js(output("s", "FP32", "[1]", "[5]")), js(output("s", "FP32", "[1]", "[6]")), compare.Disagree, "outputs.s.data.0", "numbers differ"},
		{"V2, field lost", fields("outputs.s"), js(output("s", "FP32", "[1]", "[5]")), js(output("t", "FP32", "[1]", "[5]")), compare.Disagree, "outputs.s", "lacks it"},

		{"binary", loose, raw("s", "FP32", "[1,2]", f32(0.5, 0.4)...), raw("s", "FP32", "[1,2]", f32(0.501, 0.4)...), compare.Agree, "", ""},
		{"binary, other", loose, raw("s", "FP32", "[1,2]", f32(0.5, 0.4)...), raw("s", "FP32", "[1,2]", f32(0.5, 0.6)...), compare.Disagree, "outputs.s.data.1", "numbers differ"},
		{"binary, NaN", loose, raw("s", "FP32", "[2]", f32(float32(math.NaN()), 1)...), raw("s", "FP32", "[2]", f32(float32(math.NaN()), 1.001)...), compare.Agree, "", ""},
		{"binary against JSON", loose, raw("s", "INT64", "[2]", int64(-3), int64(math.MaxInt64)), js(output("s", "INT64", "[2]", "[-3,9223372036854775807]")), compare.Agree, "", ""},
		{"binary, UINT64", loose, raw("s", "UINT64", "[1]", uint64(math.MaxUint64)), js(output("s", "UINT64", "[1]", "[18446744073709551614]")), compare.Disagree, "outputs.s.data.0", "numbers differ"},
		{"binary, top label", top, raw("s", "FP32", "[1,3]", f32(0.1, 0.7, 0.2)...), raw("s", "FP16", "[1,3]", uint16(0x3000), uint16(0x3800), uint16(0x2c00)), compare.Agree, "", ""},
		{"binary, BYTES", loose, raw("s", "BYTES", "[2]", "cat", ""), js(output("s", "BYTES", "[2]", `["cat",""]`)), compare.Agree, "", ""},
		{"binary, BYTES, other", loose, raw("s", "BYTES", "[1]", "cat"), raw("s", "BYTES", "[1]", "dog"), compare.Disagree, "outputs.s.data.0", "values differ"},
		{"binary, size", loose, raw("s", "FP32", "[1]", f32(1)...), raw("s", "FP32", "[2]", f32(1)...), compare.Disagree, "", "shadow: output"},
		{"binary, header size", loose, raw("s", "FP32", "[1]", f32(1)...), answer("{}", "Inference-Header-Content-Length", "77"), compare.Disagree, "", "shadow: Inference-Header"},

		{"gzip", config.Compare{}, answer(zipped("{}"), "Content-Encoding", "gzip"), js("{}"), compare.Agree, "", ""},
		{"gzip, other", config.Compare{}, answer(zipped(`{"a":1}`), "Content-Encoding", "GZIP"), answer(zipped(`{"a":2}`), "content-encoding", "gzip"), compare.Disagree, "a", "numbers"},
		{"gzip, broken", config.Compare{}, answer("{}", "Content-Encoding", "gzip"), js("{}"), compare.Incomparable, "", "primary: "},
		{"gzip, bomb", config.Compare{}, js("{}"), answer(zipped(strings.Repeat("x", 9<<20)), "Content-Encoding", "gzip"), compare.Incomparable, "", "decompressed"},
		{"br", config.Compare{}, js("{}"), answer("{}", "Content-Encoding", "br"), compare.Incomparable, "", "br"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := compare.New(&c.rules, 1<<20).Compare(c.a, c.b)
			if v.Result != c.result || v.Field != c.field || !strings.Contains(v.Reason, c.reason) || (c.reason == "") != (v.Reason == "") {
				t.Errorf("%v, field %q: %q (%q, %q); want %v, field %q: %q", v.Result, v.Field, v.Reason, v.Primary, v.Shadow, c.result, c.field, c.reason)
			}
			back := compare.New(&c.rules, 1<<20).Compare(c.b, c.a)
			if back.Result != c.result {
				t.Errorf("the other way round: %v (%s)", back.Result, back.Reason)
			}
		})
	}
}

func TestVerdictIsShort(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	for _, b := range []string{`{"` + long + `":1}`, `{"a":"` + long + `"}`, long} {
		v := compare.New(&config.Compare{}, 1<<20).Compare(answer(`{"a":1}`), answer(b))
		if v.Result != compare.Disagree || len(v.Field)+len(v.Primary)+len(v.Shadow)+len(v.Reason) > 3<<10 {
			t.Errorf("%v with %d, %d, %d, %d bytes", v.Result, len(v.Field), len(v.Primary), len(v.Shadow), len(v.Reason))
		}
	}
	v := compare.New(&config.Compare{}, 1<<20).Compare(answer(`{"a":1}`), answer(`{"a":[2]}`))
	if v.Primary != "1" || v.Shadow != "[2]" {
		t.Errorf("values %q and %q", v.Primary, v.Shadow)
	}
}

// FuzzCompare: no answer makes it panic, equal ones agree, and the order makes no difference to the result.
func FuzzCompare(f *testing.F) {
	for _, s := range []string{`{"prediction":[0.1,0.9]}`, `{"a":{"b":[1,2,{"c":"x"}]}}`, output("s", "FP32", "[1,2]", "[1,2]"), output("s", "BOOL", "[1]", "[true]"), `[1e999,-0]`} {
		f.Add([]byte(s), []byte(strings.Replace(s, "1", "2", 1)), "", "outputs.0.data")
	}
	b := raw("s", "INT8", "[3]", int8(1), int8(2), int8(3))
	f.Add(b.Body, b.Body, b.Field("Inference-Header-Content-Length"), "")
	f.Fuzz(func(t *testing.T, a, b []byte, size, field string) {
		for _, rules := range []config.Compare{{}, {TopLabel: true, Tolerance: 0.1}, {Fields: []string{field}}} {
			r := compare.New(&rules, 1<<16)
			x, y := answer(string(a), "Inference-Header-Content-Length", size), answer(string(b), "Inference-Header-Content-Length", size)
			if v := r.Compare(x, x); v.Result != compare.Agree {
				t.Errorf("an answer does not agree with itself: %+v", v)
			}
			if v, w := r.Compare(x, y), r.Compare(y, x); v.Result != w.Result {
				t.Errorf("%+v, and the other way round %+v", v, w)
			}
		}
	})
}
