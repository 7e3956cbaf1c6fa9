package proxy

import (
	"bufio"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"weir/balancer"
	"weir/config"
)

// The steps of the request path that only compute, each alone: what they cost is weir's own share of
// a request. That they do not allocate is asserted in hot_alloc_test.go.

// aRequest is a request whose head was read, on a connection from 192.0.2.7, over two variants with
// the affinity of a. trusted are the proxies that are believed.
func aRequest(tb testing.TB, target, lines string, a *config.Affinity, trusted ...string) *request {
	tb.Helper()
	r := &request{
		p: new(Proxy),
		c: &conn{peer: netip.MustParseAddr("192.0.2.7"), ip: []byte("192.0.2.7")}, head: new(fasthttp.RequestHeader),
		table: &table{}, route: aRoute(a), method: methodIndex([]byte("POST")),
	}
	r.head.DisableNormalizing()
	if err := r.head.Read(bufio.NewReader(strings.NewReader("POST " + target + " HTTP/1.1\r\n" + lines + "\r\n"))); err != nil {
		tb.Fatal(err)
	}
	r.raw, r.target, r.client = r.head.RawHeaders(), r.head.RequestURI(), r.c.peer
	for _, p := range trusted {
		r.table.trusted = append(r.table.trusted, netip.MustParsePrefix(p))
	}
	if p := r.fields.read(r.raw, 0, headerEnd(r.raw), fromClient); p != "" {
		tb.Fatal(p)
	}
	r.identify()
	r.believe()
	r.variant = r.route.variants[0]
	return r
}

func aRoute(a *config.Affinity) *route {
	r := &route{cfg: config.Route{Name: "predict", Affinity: a}, fallback: -1}
	if a != nil {
		r.subject = subjectOf(a)
	}
	var variants []balancer.Variant
	for i, name := range []string{"blue", "green"} {
		pool := balancer.NewPool(config.Pool{Name: name, Endpoints: []config.Endpoint{{Address: "127.0.0.1:1", Weight: 1}}}, nil, balancer.PoolOptions{})
		variants = append(variants, balancer.Variant{Pool: pool, Weight: float64(90 - 80*i)})
		r.variants = append(r.variants, &variant{route: "predict", pool: name, version: "v1", header: []byte("X-Weir-Variant: " + name + "\r\n"), live: new(variantLive)})
	}
	r.split = balancer.NewSplit("predict", variants, nil)
	return r
}

// headerLines are n lines as clients send them, the Host among them.
func headerLines(n int) string {
	usual := []string{
		"Host: ml.example.com", "User-Agent: python-requests/2.32.3", "Accept: */*", "Accept-Encoding: gzip, deflate", "Connection: keep-alive",
		"Content-Type: application/json", "Content-Length: 80", "X-User-ID: user-4711", "Authorization: Bearer 0123456789abcdef0123456789abcdef",
		"Cookie: theme=dark; session=3f2a9c; lang=en",
	}
	var b strings.Builder
	for i := range n {
		line := fmt.Sprintf("X-Custom-Header-%d: value-of-it-%d", i, i)
		if i < len(usual) {
			line = usual[i]
		}
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

const forwardedLine = "X-Forwarded-For: 203.0.113.9, 192.0.2.3\r\n"

// hotSteps are the steps by name; each is set up and returned ready to run over and over.
func hotSteps(tb testing.TB) map[string]func() {
	steps := map[string]func(){}
	var buf []byte
	for _, n := range []int{5, 20, 80} {
		for _, c := range []struct {
			name, lines string
			trusted     []string
		}{{"", "", nil}, {"_trusted_xff", forwardedLine, []string{"192.0.2.0/24"}}} {
			r := aRequest(tb, "/v1/predict", headerLines(n)+c.lines, nil, c.trusted...)
			steps[fmt.Sprintf("read_head/%d%s", n, c.name)] = func() { r.fields.read(r.raw, 0, headerEnd(r.raw), fromClient) }
			steps[fmt.Sprintf("append_head/%d%s", n, c.name)] = func() { buf = r.appendHead(buf[:0]) }
			steps[fmt.Sprintf("believe/%d%s", n, c.name)] = r.believe
			steps[fmt.Sprintf("lookup_missing/%d%s", n, c.name)] = func() { lookup(r.raw, "x-nobody-has-it") }
		}
		answer := []byte("HTTP/1.1 200 OK\r\n" + strings.ReplaceAll(headerLines(n), "Host: ml.example.com", "Server: uvicorn") + "\r\n")
		r, p := aRequest(tb, "/", headerLines(5), nil), new(response)
		steps[fmt.Sprintf("head_len/%d", n)] = func() { headLen(answer, 0) }
		steps[fmt.Sprintf("parse_response/%d", n)] = func() { p.parse(answer, len(answer)) }
		if !p.parse(answer, len(answer)) {
			tb.Fatal("the answer is not valid")
		}
		steps[fmt.Sprintf("append_response/%d", n)] = func() { buf = r.appendResponse(buf[:0], answer, p, framedLength) }
	}
	made := aRequest(tb, "/", headerLines(10), nil)
	steps["identify/made"] = made.identify
	kept := aRequest(tb, "/", headerLines(10)+"X-Request-ID: 0123456789abcdef0123456789abcdef\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", nil)
	steps["identify/kept"] = kept.identify
	for _, a := range []config.Affinity{{Source: "header", Name: "X-User-ID"}, {Source: "cookie", Name: "session"}, {Source: "query", Name: "user"}, {Source: "client_ip"}} {
		r := aRequest(tb, "/v1/predict?model=m&user=4711", headerLines(10), &a)
		steps["choose/"+a.Source] = func() { r.pickVariant() }
	}
	chance := aRequest(tb, "/", headerLines(10), nil)
	steps["choose/chance"] = func() { chance.pickVariant() }
	for name, target := range map[string]string{"plain": "/v1/models/resnet50/infer?x=1", "encoded": "/v1/m%6Fdels/../models/resnet50/./infer", "long": "/" + strings.Repeat("segment/", 100)} {
		path, out := []byte(target), make([]byte, 0, 1024)
		steps["normalise/"+name] = func() { normalisePath(out, path) }
	}
	host := []byte("ml-api.production.example.com:8080")
	steps["valid_host"] = func() { validHost(host) }
	live := new(variantLive)
	live.observe(2, 200, false, time.Millisecond)
	steps["observe"] = func() { live.observe(2, 200, false, time.Millisecond) }
	return steps
}

func BenchmarkHot(b *testing.B) {
	steps := hotSteps(b)
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		step := steps[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
