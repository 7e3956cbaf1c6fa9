package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	brotli "github.com/molecule-man/go-brrr"

	"weir/config"
)

func aCompression(encodings ...string) *compression {
	return newCompression(&config.Compress{Encodings: encodings, Types: []string{"application/json", "Text/*"}, MinSize: 100}, nil)
}

func TestAcceptEncoding(t *testing.T) {
	all := []string{"zstd", "br", "gzip"}
	for _, c := range []struct {
		accept    string // values of lines, by |
		encodings []string
		want      coding
	}{
		{"gzip", all, codedGzip},
		{"br", all, codedBrotli},
		{"zstd", all, codedZstd},
		{"gzip, deflate, br, zstd", all, codedZstd},
		{"gzip, deflate, br", all, codedBrotli},
		{"gzip, deflate, br, zstd", []string{"gzip", "br"}, codedGzip},
		{"gzip, zstd", []string{"br"}, identity},
		{"", all, identity},
		{"deflate", all, identity},
		{"identity", all, identity},
		{"*", all, codedZstd},
		{"*", []string{"gzip"}, codedGzip},
		{"gzip;q=0, *", []string{"gzip"}, identity},
		{"zstd;q=0, *", all, codedBrotli},
		{"zstd;q=0,br;q=0,*;q=0.1", all, codedGzip},
		{"*;q=0", all, identity},
		{"*;q=0, gzip", all, codedGzip},
		{"gzip;q=0.5, br;q=0.8, zstd;q=0.1", all, codedBrotli},
		{"gzip;q=0.001", all, codedGzip},
		{"gzip;q=0.000", all, identity},
		{"gzip;q=0", all, identity},
		{"gzip;q=1.000, zstd;q=0.999", all, codedGzip},
		{"identity;q=0", all, identity}, // nothing better is known
		{"identity;q=0, gzip;q=0.1", all, codedGzip},
		{"identity;q=0.5, gzip;q=0.4", all, identity},
		{"identity;q=0.5, gzip;q=0.5", all, identity},
		{"identity;q=0.5, *;q=0.6", all, codedZstd},
		{"gzip, identity", all, identity},
		{"GZip", all, codedGzip},
		{"x-gzip", all, codedGzip},
		{"X-GZIP;Q=0.3", all, codedGzip},
		{" gzip ;  q=0.3 ", all, codedGzip},
		{"\tgzip\t;\tq=0.3\t", all, codedGzip},
		{",,gzip,,", all, codedGzip},
		{"gzip;q=2", all, identity},
		{"gzip;q=1.001", all, identity},
		{"gzip;q=-1", all, identity},
		{"gzip;q=0.1234", all, identity},
		{"gzip;q=", all, identity},
		{"gzip;q", all, identity},
		{"gzip;level=9", all, identity},
		{"gzip;q=0.x", all, identity},
		{"gzip;q=1.", all, codedGzip},
		{"gzipped, brotli", all, identity},
		{"deflate|gzip;q=0.5|zstd;q=0.2", all, codedGzip},
		{"gzip|gzip;q=0", all, identity}, // the last one counts
	} {
		lines := "Host: h\r\n"
		for v := range strings.SplitSeq(c.accept, "|") {
			lines += "accept-ENCODING: " + v + "\r\n"
		}
		if got := aCompression(c.encodings...).choose(&request{raw: []byte(lines + "\r\n")}); got != c.want {
			t.Errorf("%q of %v: %s, want %s", c.accept, c.encodings, codingName[got], codingName[c.want])
		}
	}
	if got := aCompression(all...).choose(&request{raw: []byte("Host: h\r\nX-Accept-Encoding: gzip\r\n\r\n")}); got != identity {
		t.Errorf("without the field: %s", codingName[got])
	}
}

func TestCompressionTakes(t *testing.T) {
	const kind = "Content-Type: application/json\r\n"
	for name, c := range map[string]struct {
		status  int
		lines   string
		request string
		takes   bool
	}{
		"sized":                 {200, kind + "Content-Length: 100", "", true},
		"too small":             {200, kind + "Content-Length: 99", "", false},
		"empty":                 {200, kind + "Content-Length: 0", "", false},
		"chunked":               {200, kind + "Transfer-Encoding: chunked", "", true},
		"to the end":            {200, kind + "Connection: close", "", true},
		"an error":              {500, kind + "Content-Length: 100", "", true},
		"of a kind":             {200, "content-type: text/plain; charset=utf-8\r\n", "", true},
		"in capitals":           {200, "CONTENT-TYPE:Application/JSON;x\r\n", "", true},
		"another type":          {200, "Content-Type: image/png\r\n", "", false},
		"the beginning of one":  {200, "Content-Type: application/jsonl\r\n", "", false},
		"the kind alone":        {200, "Content-Type: text/\r\n", "", false},
		"no type":               {200, "X-A: b\r\n", "", false},
		"events":                {200, "Content-Type: text/event-stream\r\n", "", false},
		"events with a charset": {200, "Content-Type: Text/Event-Stream; charset=utf-8\r\n", "", false},
		"encoded":               {200, kind + "Content-Encoding: gzip\r\n", "", false},
		"said to be identity":   {200, kind + "Content-Encoding: identity\r\n", "", false},
		"not to be transformed": {200, kind + "Cache-Control: public\r\ncache-control: max-age=1, No-Transform\r\n", "", false},
		"asked for as it is":    {200, kind, "Cache-Control: no-transform\r\n", false},
		"cached":                {200, kind + "Cache-Control: max-age=1, x-no-transform\r\n", "Cache-Control: no-cache\r\n", true},
		"a part":                {206, kind + "Content-Range: bytes 0-99/200\r\n", "", false},
		"a part with 200":       {200, kind + "Content-Range: bytes 0-99/200\r\n", "", false},
		"no content":            {204, kind, "", false},
		"reset content":         {205, kind, "", false},
		"not modified":          {304, kind, "", false},
		"with a digest":         {200, kind + "Repr-Digest: sha-256=:x=:\r\n", "", false},
		"with an old digest":    {200, kind + "Content-MD5: x\r\n", "", false},
		"with trailers":         {200, kind + "Transfer-Encoding: chunked\r\nTrailer: X-Sum", "", false},
	} {
		head := fmt.Sprintf("HTTP/1.1 %d X\r\n%s\r\n\r\n", c.status, strings.TrimSuffix(c.lines, "\r\n"))
		r := &request{raw: []byte("Accept-Encoding: br\r\n" + c.request + "\r\n"), buf: &buffers{in: []byte(head)}}
		var p response
		if !p.parse(r.buf.in, len(head)) {
			t.Fatalf("%s: %q", name, head)
		}
		z := aCompression("gzip", "br")
		if got := z.takes(r, &p); got != c.takes || got != (p.coding == codedBrotli) {
			t.Errorf("%s: %v %s", name, got, codingName[p.coding])
		}
		r.http10 = true
		if z.takes(r, &p) {
			t.Errorf("%s: for HTTP/1.0", name)
		}
		r.http10, r.raw = false, []byte("\r\n")
		if z.takes(r, &p) {
			t.Errorf("%s: for a client that takes nothing", name)
		}
	}
}

// TestCompressionOutlivesTables: what was counted goes on where the configuration is another.
func TestCompressionOutlivesTables(t *testing.T) {
	before := aCompression("gzip")
	before.live.in[codedGzip].Add(7)
	after := newCompression(&config.Compress{Encodings: []string{"br", "gzip", "deflate"}}, before)
	if after.live.in[codedGzip].Load() != 7 || len(after.codings) != 2 || after.codings[0] != codedBrotli {
		t.Errorf("%+v", after)
	}
	if newCompression(nil, before) != nil {
		t.Error("off is not off")
	}
}

func TestAllTypes(t *testing.T) {
	z := newCompression(&config.Compress{Encodings: []string{"gzip"}, Types: []string{"*/*"}}, nil)
	if !z.has([]byte("x/y")) || z.has([]byte("text/event-stream")) || z.has(nil) {
		t.Error("*/* is every type but events")
	}
}

func TestVary(t *testing.T) {
	for name, c := range map[string]struct {
		status               int
		accept, lines, after string
	}{
		"compressible":      {200, "", "Content-Type: text/html\r\n", "Content-Type: text/html\r\nVary: Accept-Encoding\r\n"},
		"encoded already":   {200, "gzip", "Content-Type: text/html\r\nContent-Encoding: br\r\nETag: \"x\"\r\n", "Content-Type: text/html\r\nContent-Encoding: br\r\nETag: \"x\"\r\nVary: Accept-Encoding\r\n"},
		"of another type":   {200, "gzip", "Content-Type: image/png\r\n", "Content-Type: image/png\r\n"},
		"of none":           {200, "gzip", "", ""},
		"with another Vary": {200, "gzip", "Content-Type: text/html\r\nVary: Cookie\r\n", "Content-Type: text/html\r\nVary: Cookie\r\nVary: Accept-Encoding\r\n"},
		"with this":         {200, "gzip", "Content-Type: text/html\r\nVary: Cookie\r\nvary: x,ACCEPT-encoding\r\n", "Content-Type: text/html\r\nVary: Cookie\r\nvary: x,ACCEPT-encoding\r\n"},
		"with *":            {200, "gzip", "Content-Type: text/html\r\nVary: *\r\n", "Content-Type: text/html\r\nVary: *\r\n"},
		"304":               {304, "gzip", "ETag: \"x\"\r\n", "ETag: W/\"x\"\r\nVary: Accept-Encoding\r\n"},
		"304 as it is":      {304, "", "ETag: \"x\"\r\n", "ETag: \"x\"\r\nVary: Accept-Encoding\r\n"},
		"304, weak":         {304, "gzip", "etag:W/\"x\"\r\n", "etag:W/\"x\"\r\nVary: Accept-Encoding\r\n"},
	} {
		r := &request{raw: []byte("Accept-Encoding: " + c.accept + "\r\n\r\n"), status: c.status}
		d := newEdits(config.Route{}, aCompression("gzip"))
		if got := string(d.response(r, []byte("first\r\n"+c.lines), 7)); got != "first\r\n"+c.after {
			t.Errorf("%s: %q, want %q", name, got, c.after)
		}
	}
}

func TestMark(t *testing.T) {
	for lines, want := range map[string]string{
		"ETag: \"x\"\r\nAccept-Ranges: bytes\r\nX-A: b\r\n": "ETag: W/\"x\"\r\nX-A: b\r\nContent-Encoding: zstd\r\n",
		"etag:\"x\"\r\n":             "etag:W/\"x\"\r\nContent-Encoding: zstd\r\n",
		"ETag:  \t\"x\" \r\n":        "ETag:  \tW/\"x\" \r\nContent-Encoding: zstd\r\n",
		"ETag: W/\"x\"\r\n":          "ETag: W/\"x\"\r\nContent-Encoding: zstd\r\n",
		"ETag:\r\nETag-2: \"x\"\r\n": "ETag:\r\nETag-2: \"x\"\r\nContent-Encoding: zstd\r\n",
		"":                           "Content-Encoding: zstd\r\n",
	} {
		if got := string(codedZstd.mark([]byte("ETag: \"first\"\r\n"+lines), 15)); got != "ETag: \"first\"\r\n"+want {
			t.Errorf("%q becomes %q, want %q", lines, got, want)
		}
	}
}

// unpack decodes what there is of a body; whole reports whether it ends as it should.
func unpack(tb testing.TB, c coding, b []byte) (plain []byte, whole bool) {
	var r io.Reader
	switch c {
	case codedGzip:
		g, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, false
		}
		r = g
	case codedBrotli:
		r = brotli.NewReader(bytes.NewReader(b))
	case codedZstd:
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			tb.Fatal(err)
		}
		defer z.Close()
		r = z
	}
	plain, err := io.ReadAll(r)
	return plain, err == nil
}

func someJSON(n int) []byte {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := []byte(`{"predictions":[`)
	for len(b) < n {
		b = fmt.Appendf(b, `{"label":"class-%d","score":%.6f},`, rng.IntN(1000), rng.Float64())
	}
	return b[:n]
}

// TestPackers: a packer whose last answer was broken off serves the next one, and each flush gives out all there is.
func TestPackers(t *testing.T) {
	var p packers
	for c := codedGzip; c < codings; c++ {
		for _, size := range []int{1, 100, 5000, 70_000, 300_000} {
			data := someJSON(size)
			pk, err := p.get(c)
			if err != nil {
				t.Fatal(err)
			}
			for half := data; len(half) > 0; {
				n := min(len(half), 1+len(data)/3)
				if _, err := pk.Write(half[:n]); err != nil {
					t.Fatal(err)
				}
				half = half[n:]
				if err := pk.Flush(); err != nil {
					t.Fatal(err)
				}
				if plain, _ := unpack(t, c, pk.out[chunkLead:]); string(plain) != string(data[:len(data)-len(half)]) {
					t.Fatalf("%s, %d: %d of %d bytes after a flush", codingName[c], size, len(plain), len(data)-len(half))
				}
			}
			if size%2 == 0 { // broken off
				p.put(c, pk)
				continue
			}
			if err := pk.Close(); err != nil {
				t.Fatal(err)
			}
			if plain, whole := unpack(t, c, pk.out[chunkLead:]); !whole || string(plain) != string(data) {
				t.Errorf("%s, %d: not whole", codingName[c], size)
			}
			p.put(c, pk)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	var p packers
	for c := codedGzip; c < codings; c++ {
		for _, size := range []int{2 << 10, packPiece} {
			data := someJSON(size)
			b.Run(fmt.Sprintf("%s/%d", codingName[c], size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(size))
				out := 0
				for b.Loop() {
					pk, _ := p.get(c)
					_, _ = pk.Write(data)
					_ = pk.Close()
					out = len(pk.out) - chunkLead
					p.put(c, pk)
				}
				b.ReportMetric(100*float64(out)/float64(size), "%")
			})
		}
	}
}
