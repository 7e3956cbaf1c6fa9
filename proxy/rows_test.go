package proxy

import (
	"strings"
	"testing"
)

func TestCountRows(t *testing.T) {
	for _, c := range []struct {
		doc  string
		want float64 // 0: not known
	}{
		{`{"inputs":[{"name":"x","shape":[32,784],"datatype":"FP32","data":[0.1]}]}`, 32},
		{`{"id":"1","inputs":[{"shape":[8,3]},{"shape":[1]}]}`, 8},
		{`{"inputs":[{"shape":[]}]}`, 0},
		{`{"inputs":[{"name":"x"}]}`, 0},
		{`{"inputs":[]}`, 0},
		{`{"inputs":{"x":[[1],[2]]}}`, 0},
		{`{"inp\u0075ts":[{"sh\u0061pe":[4]}]}`, 4},
		{`{"inputs":[{"shape":[1]}],"inputs":[{"shape":[500]}]}`, 500},
		{`{"inputs":[{"shape":[1],"shape":[500]}]}`, 500},
		{`{"inputs":[{"shape":[500]}],"inputs":[{"shape":[1]}]}`, 500},
		{`{"features":[1.5,2,3]}`, 1},
		{`{"features":[[1,2],[3,4],[5,6]]}`, 3},
		{`{"features":[]}`, 0.5}, // known, and 1 for everybody
		{`{"features":"x"}`, 0},
		{`{"instances":[1,2,3]}`, 3},
		{`{"instances":[{"a":1},{"a":2}],"signature_name":"x"}`, 2},
		{`{"features":[1],"instances":[1,2,3]}`, 3},
		{`[[1,2],[3,4]]`, 0},
		{`"inputs"`, 0},
		{`{"text":"x"}`, 0},
		{``, 0},
		{`{"inputs":[{"shape":[9`, 9},
	} {
		n, ok := countRows([]byte(c.doc))
		if ok != (c.want != 0) || ok && c.want >= 1 && n != c.want {
			t.Errorf("%s: %g rows, %v; want %g", c.doc, n, ok, c.want)
		}
	}
}

func FuzzCountRows(f *testing.F) {
	for _, doc := range []string{`{"inputs":[{"shape":[3`, `{"inputs":[{"shape":[[`, `{"features":[[`, `{"features":[1e999]}`, `{"instances":[{]}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) { countRows(doc) })
}

func BenchmarkCountRows(b *testing.B) {
	row := "[" + strings.TrimSuffix(strings.Repeat("0.12345,", 784), ",") + "]"
	for name, doc := range map[string]string{
		"guide":       `{"features":` + row + `}`,
		"guide, 128":  `{"features":[` + strings.TrimSuffix(strings.Repeat(row+",", 128), ",") + `]}`,
		"V2, 128":     `{"inputs":[{"name":"x","shape":[128,784],"datatype":"FP32","data":[` + strings.TrimSuffix(strings.Repeat(row+",", 128), ",") + `]}]}`,
		"V2 backward": `{"inputs":[{"data":[` + strings.TrimSuffix(strings.Repeat(row+",", 128), ",") + `],"name":"x","shape":[128,784]}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if n, ok := countRows([]byte(doc)[:]); !ok || n < 1 {
					b.Fatal(n)
				}
			}
		})
	}
}
