package load

import (
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestAppend(t *testing.T) {
	full := Report{
		CPUUtilization: 0.3, MemUtilization: 0.8, ApplicationUtilization: 1.25, RPS: 10.5, EPS: 1,
		RequestCost: []Metric{{"tokens", 17}},
		Utilization: []Metric{{"gpu", 0.5}},
		Named:       []Metric{{"in_flight", 3}, {"queue", 0}},
	}
	f := func(r Report, format Format, want string) {
		t.Helper()
		if got := string(r.Append(nil, format)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f(full, Text, "TEXT cpu_utilization=0.3, mem_utilization=0.8, application_utilization=1.25, "+
		"rps_fractional=10.5, eps=1, request_cost.tokens=17, utilization.gpu=0.5, named_metrics.in_flight=3, named_metrics.queue=0")
	f(full, JSON, `JSON {"cpu_utilization":0.3,"mem_utilization":0.8,"application_utilization":1.25,`+
		`"rps_fractional":10.5,"eps":1,"request_cost":{"tokens":17},"utilization":{"gpu":0.5},"named_metrics":{"in_flight":3,"queue":0}}`)
	f(Report{}, Text, "TEXT application_utilization=0, rps_fractional=0, eps=0")
	f(Report{}, JSON, `JSON {"application_utilization":0,"rps_fractional":0,"eps":0}`)
	f(Report{RPS: math.Inf(1), EPS: math.NaN(), Named: []Metric{{"x", math.NaN()}}}, JSON,
		`JSON {"application_utilization":0,"named_metrics":{}}`)
	f(Report{Named: []Metric{{`a"b`, 1e21}}}, JSON,
		`JSON {"application_utilization":0,"rps_fractional":0,"eps":0,"named_metrics":{"a\"b":1e+21}}`)
}

func TestAppendIsReadBack(t *testing.T) {
	want := Report{
		ApplicationUtilization: 0.7, RPS: 1234.5, EPS: 0.25, MemUtilization: 1,
		RequestCost: []Metric{{"tokens", -2}}, Utilization: []Metric{{"gpu.0", 1}}, Named: []Metric{{"vllm:queue", 1e-9}},
	}
	for _, format := range []Format{Text, JSON} {
		got, err := Parse(string(want.Append(nil, format)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("format %d (-want +got):\n%s", format, diff)
		}
	}
	got, err := ParseBinary(base64.StdEncoding.EncodeToString(want.AppendProtobuf(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("binary (-want +got):\n%s", diff)
	}
}

// TestAppendProtobufIsORCA compares with bytes that are spelled out: reading back would not see
// a field number that is wrong both ways.
func TestAppendProtobufIsORCA(t *testing.T) {
	r := Report{
		CPUUtilization: 1, MemUtilization: 1, ApplicationUtilization: 1, RPS: 1, EPS: 1, RequestCost: []Metric{{"a", 1}},
		Utilization: []Metric{{"b", 1}}, Named: []Metric{{"c", 1}, {"d", math.NaN()}},
	}
	const one = "\x00\x00\x00\x00\x00\x00\xf0\x3f"
	entry := func(name string) string { return "\x0c\x0a\x01" + name + "\x11" + one }
	want := "\x09" + one + "\x11" + one + "\x22" + entry("a") + "\x2a" + entry("b") + "\x31" + one + "\x39" + one + "\x42" + entry("c") + "\x49" + one
	if got := string(r.AppendProtobuf(nil)); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestParseFormat(t *testing.T) {
	f := func(value string, want Format, ok bool) {
		t.Helper()
		if got, gotOK := ParseFormat([]byte(value)); got != want || gotOK != ok {
			t.Errorf("ParseFormat(%q) = %v, %v", value, got, gotOK)
		}
	}
	f("text", Text, true)
	f("TEXT", Text, true)
	f("Json", JSON, true)
	f("", 0, false)
	f("bin", 0, false)
}

func TestParse(t *testing.T) {
	f := func(header string, want Report) {
		t.Helper()
		got, err := Parse(header)
		if err != nil {
			t.Errorf("Parse(%q): %v", header, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", header, diff)
		}
	}
	f("TEXT cpu_utilization=0.3,mem_utilization=0.8, rps_fractional=10.0 ,eps=1,named_metrics.custom=0.4,",
		Report{CPUUtilization: 0.3, MemUtilization: 0.8, RPS: 10, EPS: 1, Named: []Metric{{"custom", 0.4}}})
	f("cpu_utilization:0.7,application_utilization:0.8,named_metrics.foo:123",
		Report{CPUUtilization: 0.7, ApplicationUtilization: 0.8, Named: []Metric{{"foo", 123}}})
	f("text named_metrics.vllm:waiting=2, request_cost.x=-1, utilization.disk=1",
		Report{Named: []Metric{{"vllm:waiting", 2}}, RequestCost: []Metric{{"x", -1}}, Utilization: []Metric{{"disk", 1}}})
	f(`JSON {"cpu_utilization": 0.7, "named_metrics": {"kv_cache_utilization": 0.5}}`,
		Report{CPUUtilization: 0.7, Named: []Metric{{"kv_cache_utilization", 0.5}}})
	f(`JSON {"rpsFractional": 7, "namedMetrics": {"camelCase": 1}, "utilization": {}}`,
		Report{RPS: 7, Named: []Metric{{"camelCase", 1}}})
	f("BIN "+base64.StdEncoding.EncodeToString(protobuf(t)),
		Report{CPUUtilization: 0.5, RPS: 3, ApplicationUtilization: 1.5, Named: []Metric{{"queue", 4}, {"zero", 0}}})
}

// protobuf is a report as a protobuf encoder writes it, with the old rps field, an unknown
// field and a map entry whose zero value is left out.
func protobuf(t *testing.T) []byte {
	t.Helper()
	double := func(b []byte, n protowire.Number, v float64) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
	}
	text := func(b []byte, n protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
	}
	b := double(nil, 1, 0.5)
	b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.VarintType), 3)
	b = double(b, 6, 3)
	b = text(b, 8, double(text(nil, 1, []byte("queue")), 2, 4))
	b = text(b, 8, text(nil, 1, []byte("zero")))
	b = text(b, 99, []byte("from the future"))
	return double(b, 9, 1.5)
}

func TestParseBinaryUnpadded(t *testing.T) {
	got, err := ParseBinary(base64.RawStdEncoding.EncodeToString(protobuf(t)))
	if err != nil || got.RPS != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	nan := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), math.Float64bits(math.NaN()))
	f := func(header, want string) {
		t.Helper()
		got, err := Parse(header)
		if err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", header, got)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v; want %q in it", header, err, want)
		}
	}
	f("", "empty")
	f("TEXT ", "empty")
	f("TEXT ,,", "empty")
	f("JSON {}", "empty")
	f("BIN ", "empty")
	f("eps", "want name=number")
	f("eps=many", "want a number")
	f("eps=NaN", "finite")
	f("cpu_utilization=+Inf", "finite")
	f("named_metrics.x=-inf", "finite")
	f("eps=1,eps=1", "twice")
	f("named_metrics.x=1, named_metrics.x=2", "twice")
	f("eps=-1", "0 to")
	f("mem_utilization=75", "0 to 1")
	f("utilization.gpu=1.5", "0 to 1")
	f("named_metrics.=1", "no name")
	f("named_metrics.\xff=1", "not UTF-8")
	f("gpu=1", "unknown metric")
	f("metrics.gpu=1", "unknown metric")
	f("TEXT "+strings.Repeat("named_metrics.x=1,", 2), "twice")
	f(`JSON {"eps":1,"eps":2}`, "twice")
	f(`JSON {"rps_fractional":1,"rpsFractional":2}`, "twice")
	f(`JSON {"named_metrics":{"a":1},"namedMetrics":{"a":2}}`, "twice")
	f(`JSON {"eps":"1"}`, "want a number")
	f(`JSON {"eps":null}`, "want a number")
	f(`JSON {"named_metrics":[1]}`, "not a JSON object")
	f(`JSON [1]`, "not a JSON object")
	f(`JSON {"eps":1`, "bad JSON")
	f(`JSON {"eps":1} {}`, "after the JSON object")
	f(`JSON {"eps":NaN}`, "bad JSON")
	f(`JSON {"eps":1e999}`, "bad JSON")
	f("BIN !!!", "bad base64")
	f("BIN "+base64.StdEncoding.EncodeToString([]byte{0x09, 1, 2}), "bad protobuf")
	f("BIN "+base64.StdEncoding.EncodeToString(nan), "finite")
	f("BIN "+base64.StdEncoding.EncodeToString(append(protobuf(t), protobuf(t)...)), "twice")

	var many strings.Builder
	for i := range maxMetrics + 1 {
		many.WriteString("named_metrics." + strings.Repeat("x", i+1) + "=1,")
	}
	f(many.String(), "more than 128")
}

// TestParserForgets: what one report said does not pass into the next, also after one that was refused.
func TestParserForgets(t *testing.T) {
	var p Parser
	f := func(header string, want *Report) {
		t.Helper()
		got, err := p.Parse([]byte(header))
		if (err == nil) != (want != nil) {
			t.Fatalf("Parse(%q) = %+v, %v", header, got, err)
		}
		if want == nil {
			return
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", header, diff)
		}
	}
	f("cpu_utilization=0.5, named_metrics.queue=4, utilization.gpu=1, request_cost.x=2", &Report{
		CPUUtilization: 0.5, Named: []Metric{{"queue", 4}}, Utilization: []Metric{{"gpu", 1}}, RequestCost: []Metric{{"x", 2}}})
	f("eps=1, named_metrics.queue=5, eps=2", nil)
	f("eps=1", &Report{EPS: 1})
	f(`JSON {"named_metrics":{"queue":6}}`, &Report{Named: []Metric{{"queue", 6}}})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"TEXT cpu_utilization=0.3, named_metrics.a=1", "eps:1", `JSON {"eps":1,"namedMetrics":{"q":2}}`,
		"BIN CQAAAAAAAOA/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r, err := Parse(header)
		if err != nil {
			return
		}
		for _, v := range []float64{r.CPUUtilization, r.MemUtilization, r.ApplicationUtilization, r.RPS, r.EPS} {
			if v < 0 || !finite(v) {
				t.Fatalf("%q gave %v", header, v)
			}
		}
		again, err := Parse(string(r.Append(nil, JSON)))
		if err != nil {
			t.Fatalf("%q was read but not read back: %v", header, err)
		}
		if len(again.Named) != len(r.Named) || again.RPS != r.RPS {
			t.Fatalf("%q: %+v became %+v", header, r, again)
		}
	})
}
