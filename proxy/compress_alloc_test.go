//go:build !race

package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"weir/config"
)

// aroundProxy is costProxy with changes to its route.
func aroundProxy(t *testing.T, answer string, change func(*config.Route)) (*Proxy, *SocketOps) {
	p, ops := costProxy(t, costEndpoint(t, answer), costEndpoint(t, answer))
	cfg := *p.Config()
	cfg.Routes = append([]config.Route(nil), cfg.Routes...)
	cfg.Routes[0].Limits.Body = new(config.Size(1 << 20)) // something that the configuration says it has changed
	change(&cfg.Routes[0])
	if _, _, err := p.Apply(&cfg); err != nil {
		t.Fatal(err)
	}
	return p, ops
}

// equalTrips returns a function that sends the request and reads an answer as long as the first one.
func equalTrips(t *testing.T, p *Proxy, request string) (trip func(), first []byte) {
	c, err := net.Dial("tcp", p.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	out, buf, length := []byte(request), make([]byte, 64<<10), 0
	n := 0
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	for length == 0 || n < length {
		m, err := c.Read(buf[n:])
		if err != nil {
			t.Fatalf("%v after %q", err, buf[:n])
		}
		n += m
		if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end > 0 {
			var size int
			_, _ = fmt.Sscan(string(lookup(buf[:end], "content-length")), &size)
			length = end + 4 + size
		}
	}
	first = bytes.Clone(buf[:n])
	return func() {
		if _, err := c.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf[:length]); err != nil {
			t.Fatal(err)
		}
	}, first
}

// TestAroundDoesNotAllocate: changes of headers and paths, a sampled log and compression cost computing, and
// neither allocations nor system calls.
func TestAroundDoesNotAllocate(t *testing.T) {
	body := string(someJSON(2000))
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"x\"\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	zip := func(name string) func(*config.Route) {
		return func(c *config.Route) {
			c.Compress = &config.Compress{Encodings: []string{name}, Types: []string{"application/json"}, MinSize: 100}
		}
	}
	for name, c := range map[string]struct {
		change func(*config.Route)
		has    string
		allocs float64 // an encoder of zstd has two small ones of its own, and that of brotli one or two
	}{
		"edits": {func(c *config.Route) {
			c.Headers = config.Headers{Security: true, Request: config.HeaderChange{Set: fieldsOf("X-Env", "prod", "X-To", "{variant}"), Remove: []string{"User-Agent"}},
				Response: config.HeaderChange{Set: fieldsOf("X-By", "{endpoint}")}}
			c.Rewrite = &config.Rewrite{StripPrefix: "/predict", AddPrefix: "/v2/infer"}
			c.Log.Percent = 10
		}, "X-By: 127.0.0.1", 0},
		"gzip":           {zip("gzip"), "Content-Encoding: gzip", 0},
		"br":             {zip("br"), "Content-Encoding: br", 2},
		"zstd":           {zip("zstd"), "Content-Encoding: zstd", 2},
		"not compressed": {func(c *config.Route) { zip("gzip")(c); c.Compress.MinSize = 5000 }, "Vary: Accept-Encoding", 0},
	} {
		p, ops := aroundProxy(t, answer, c.change)
		trip, first := equalTrips(t, p, strings.Replace(costRequest, "User-Agent: cost", "User-Agent: cost\r\nAccept-Encoding: gzip, br, zstd", 1))
		if !strings.Contains(string(first), c.has) {
			t.Errorf("%s: %q", name, first)
		}
		for range 50 {
			trip()
		}
		if n := testing.AllocsPerRun(1000, trip); n > c.allocs {
			t.Errorf("%s: %v allocations per request, want %v", name, n, 1+c.allocs)
		}
		reads, writes := ops.Reads.Load(), ops.Writes.Load()
		for range 100 {
			trip()
		}
		if n := ops.Writes.Load() - writes; n != 200 {
			t.Errorf("%s: %d writes for 100 requests, want 200", name, n)
		}
		if n := ops.Reads.Load() - reads; n > 300 {
			t.Errorf("%s: %d reads for 100 requests", name, n)
		}
	}
}
