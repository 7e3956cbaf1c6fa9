package proxy

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/net/http2/hpack"
	"weir/config"
	"weir/proxy/enginetest"
	"weir/proxy/h2"
)

// frameOf appends a frame.
func frameOf(b []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	b = append(b, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

const (
	costHeaders, costSettings, costWindowUpdate, costData = 1, 4, 8, 0
	costEndStream, costEndHeaders                         = 1, 4
)

// h2Trips returns a function that sends costRequest over HTTP/2 on so many streams at once, and reads the answers.
func h2Trips(tb testing.TB, p *Proxy, streams int) func() {
	tb.Helper()
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	encode := func() []byte {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "ml.example.com"}, {":path", "/predict"},
			{"user-agent", "cost"}, {"content-type", "application/json"}, {"x-user-id", "user-4711"}} {
			if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				tb.Fatal(err)
			}
		}
		return bytes.Clone(block.Bytes())
	}
	first, others := encode(), encode() // the first fills the table, of which the others are indices
	out := []byte(h2.Preface)
	out = frameOf(out, costSettings, 0, 0, nil)
	out = frameOf(out, costWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, 1<<30))
	head, body := first, []byte(costRequest[len(costRequest)-40:])
	in, got := make([]byte, 64<<10), 0
	next := uint32(1)
	return func() {
		for range streams {
			out = frameOf(out, costHeaders, costEndHeaders, next, head)
			out = frameOf(out, costData, costEndStream, next, body)
			head = others
			next += 2
		}
		if _, err := c.Write(out); err != nil {
			tb.Fatal(err)
		}
		out = out[:0]
		for ended := 0; ended < streams; {
			n, err := c.Read(in[got:])
			if err != nil {
				tb.Fatal(err)
			}
			got += n
			for got >= 9 {
				size := 9 + int(in[0])<<16 + int(in[1])<<8 + int(in[2])
				if got < size {
					break
				}
				if kind, flags := in[3], in[4]; (kind == costData || kind == costHeaders) && flags&costEndStream != 0 {
					ended++
					if kind == costData && !bytes.HasSuffix(in[9:size], []byte("{\"prediction\":1}")) {
						tb.Fatalf("answer %q", in[9:size])
					}
				} else if kind == costSettings && flags == 0 {
					out = frameOf(out, costSettings, 1, 0, nil)
				} else if kind == 3 || kind == 7 {
					tb.Fatalf("frame %x", in[:size])
				}
				got = copy(in, in[size:got])
			}
		}
	}
}

func TestH2ServerSystemCallsPerRequest(t *testing.T) {
	for _, streams := range []int{1, 16} {
		p, ops := costProxy(t, costEndpoint(t, costAnswer), costEndpoint(t, costAnswer))
		trip := h2Trips(t, p, streams)
		trip()
		trip()
		const n = 200
		reads, writes, peeks := ops.Reads.Load(), ops.Writes.Load(), ops.Peeks.Load()
		for range n {
			trip()
		}
		reads, writes, peeks = ops.Reads.Load()-reads, ops.Writes.Load()-writes, ops.Peeks.Load()-peeks
		all := uint64(n * streams)
		t.Logf("%d streams at once, per request: %.2f reads, %.2f writes, %.2f peeks", streams,
			float64(reads)/float64(all), float64(writes)/float64(all), float64(peeks)/float64(all))
		// As over HTTP/1.1, where there is one stream. The endpoints' side stays as it is with more, while the client's
		// is shared: what comes in one piece is read at once. How many answers leave together is up to the endpoints.
		looks, tries := uint64(0), all+n
		if enginetest.Name() == config.EngineGoroutine {
			looks, tries = all, all+2*n
		}
		if writes > 2*all || peeks > looks || reads > tries { // a new connection to an endpoint is not looked at
			t.Errorf("%d streams at once: %d reads, %d writes, %d peeks for %d requests; want at most %d, %d, %d",
				streams, reads, writes, peeks, all, tries, 2*all, looks)
		}
	}
}
