package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
)

// presented is an endpoint that takes in a PROXY header before everything else, and keeps what they say.
type presented struct {
	*endpoint
	mu      sync.Mutex
	headers []string
}

// newPresented runs script after the header, over TLS if k is not nil.
func newPresented(t *testing.T, script func(*served)) *presented {
	p := &presented{}
	p.endpoint = newEndpointOver(t, func(nc net.Conn) net.Conn {
		h, br := readPresented(nc)
		p.mu.Lock()
		p.headers = append(p.headers, h)
		p.mu.Unlock()
		return &replayed{Conn: nc, r: br}
	}, script)
	return p
}

// replayed reads on after a header.
type replayed struct {
	net.Conn
	r io.Reader
}

func (r *replayed) Read(p []byte) (int, error) { return r.r.Read(p) }

// readPresented reads a header by itself: the line of version 1, or the command, family and addresses of version 2.
func readPresented(nc net.Conn) (string, io.Reader) {
	br := bufio.NewReader(nc)
	b, err := br.Peek(6)
	switch {
	case err != nil:
		return "nothing: " + err.Error(), br
	case string(b) == "PROXY ":
		line, _ := br.ReadString('\n')
		return line, br
	}
	head := make([]byte, 16)
	if _, err := io.ReadFull(br, head); err != nil || !bytes.HasPrefix(head, []byte("\r\n\r\n\x00\r\nQUIT\n")) {
		return fmt.Sprintf("%q", head), br
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	_, _ = io.ReadFull(br, body)
	text := fmt.Sprintf("%02x %02x", head[12], head[13])
	if head[13] == 0x11 && len(body) >= 12 {
		text += fmt.Sprintf(" %s %s %d %d", net.IP(body[:4]), net.IP(body[4:8]), binary.BigEndian.Uint16(body[8:]), binary.BigEndian.Uint16(body[10:]))
	}
	return text, br
}

func (p *presented) said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.headers)
}

// TestEdgePresent: each connection to an endpoint says whose request it carries, and carries no other.
func TestEdgePresent(t *testing.T) {
	alongside(t)
	for version, form := range map[string]string{config.ProxyV1: "PROXY TCP4 %s 127.0.0.1 %s %s\r\n", config.ProxyV2: "21 11 %s 127.0.0.1 %s %s"} {
		t.Run(version, func(t *testing.T) {
			ep := newPresented(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}, pool: "proxy_protocol: " + version, top: "trusted_proxies: [127.0.0.1]", options: oneLoop})
			_, port, _ := net.SplitHostPort(r.addr)
			c, other := r.dial(t), r.dial(t)
			_, from, _ := net.SplitHostPort(c.LocalAddr().String())
			_, otherFrom, _ := net.SplitHostPort(other.LocalAddr().String())
			c.get("/1")
			other.get("/2")
			c.get("/3")
			c.send("POST /4 HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7\r\n\r\n" + strings.Repeat("x", 100_000))
			if m := c.answer("POST"); m.status() != 200 {
				t.Error(m.start)
			}
			want := []string{
				fmt.Sprintf(form, "127.0.0.1", from, port), fmt.Sprintf(form, "127.0.0.1", otherFrom, port), fmt.Sprintf(form, "127.0.0.1", from, port),
				fmt.Sprintf(form, "7.7.7.7", "0", port), // whose port nobody has told
			}
			if got := ep.said(); !slices.Equal(got, want) {
				t.Errorf("the endpoint was told %q, want %q", got, want)
			}
			if got := ep.got(); !slices.Equal(got, []string{"GET /1", "GET /2", "GET /3", "POST /4"}) {
				t.Errorf("the endpoint got %q", got)
			}
			eventually(t, "the end of the connections", func() bool { _, open, _ := ep.counts(); return open == 0 })
		})
	}
}

// TestEdgePresentOverTLS: the header stands before the handshake.
func TestEdgePresentOverTLS(t *testing.T) {
	k := newKeeper(t)
	p := &presented{}
	c := k.server()
	p.endpoint = newEndpointOver(t, func(nc net.Conn) net.Conn {
		h, br := readPresented(nc)
		p.mu.Lock()
		p.headers = append(p.headers, h)
		p.mu.Unlock()
		return tlsServer(&replayed{Conn: nc, r: br}, c)
	}, serveOK)
	r := start(t, setup{endpoints: []string{p.addr}, pool: "proxy_protocol: v2\n" + k.trusting("")})
	if m := r.dial(t).get("/"); m.status() != 200 {
		t.Fatalf("%s %s", m.start, m.body)
	}
	if got := p.said(); len(got) != 1 || !strings.HasPrefix(got[0], "21 11 127.0.0.1 127.0.0.1 ") {
		t.Errorf("the endpoint was told %q", got)
	}
}

// TestEdgePresentOwn: what weir asks by itself, and copies, are nobody's; so are requests of clients without an address.
func TestEdgePresentOwn(t *testing.T) {
	for version, want := range map[string]struct{ own, unix string }{
		config.ProxyV1: {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN\r\n"}, config.ProxyV2: {"20 00", "21 00"},
	} {
		t.Run(version, func(t *testing.T) {
			ep, shadow := newPresented(t, serveOK), newPresented(t, serveOK)
			r := start(t, setup{endpoints: []string{ep.addr}, address: "unix:" + backendtest.SocketPath(t), pool: "proxy_protocol: " + version, change: func(c *config.Config) {
				copied := c.Pools[0]
				copied.Name, copied.Endpoints = "shadow", []config.Endpoint{{Address: shadow.addr, Weight: 1}}
				c.Pools = append(c.Pools, copied)
				probe := config.DefaultProbe()
				c.Pools[0].Probe = &probe
				mirror := config.DefaultMirror()
				mirror.Pool, mirror.Percent = "shadow", 100
				c.Routes[0].Mirror = &mirror
			}})
			eventually(t, "a probe", func() bool { return slices.Equal(ep.got(), []string{"GET /health/ready"}) })
			r.dial(t).get("/copied")
			eventually(t, "a copy", func() bool { return slices.Equal(shadow.got(), []string{"GET /copied"}) })
			if got := ep.said(); len(got) < 2 || got[0] != want.own || !slices.Contains(got, want.unix) {
				t.Errorf("the endpoint was told %q", got)
			}
			if got := shadow.said(); !slices.Equal(got, []string{want.own}) {
				t.Errorf("the shadow was told %q", got)
			}
		})
	}
}

// TestEdgePresentReload: connections from before a reload, without a header, serve nobody after it, and the other way
// round.
func TestEdgePresentReload(t *testing.T) {
	var with bool
	var mu sync.Mutex
	var said []string
	ep := newEndpointOver(t, func(nc net.Conn) net.Conn {
		mu.Lock()
		defer mu.Unlock()
		if !with {
			said = append(said, "")
			return nc
		}
		h, br := readPresented(nc)
		said = append(said, h[:5])
		return &replayed{Conn: nc, r: br}
	}, serveOK)
	s := setup{endpoints: []string{ep.addr}, options: oneLoop}
	r := start(t, s)
	c := r.dial(t)
	for i, pool := range []string{"", "proxy_protocol: v2", ""} {
		s.pool = pool
		mu.Lock()
		with = pool != ""
		mu.Unlock()
		if i > 0 {
			if _, _, err := r.Apply(parse(t, s.render())); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if m := c.get("/"); m.status() != 200 {
				t.Fatalf("%d: %s", i, m.start)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"", "21 11", "21 11", ""}; !slices.Equal(said, want) {
		t.Errorf("the connections said %q, want %q", said, want)
	}
}

// TestEdgePresentMax: where connections are few, who waits for one gets one of its own.
func TestEdgePresentMax(t *testing.T) {
	ep := newPresented(t, serveOK)
	r := start(t, setup{endpoints: []string{ep.addr}, pool: "proxy_protocol: v2\nconnections: {max: 2, connect_timeout: 30s}\n"})
	var clients sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		clients.Go(func() {
			for range 5 {
				c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				if m, _, err := c.readResponse("GET"); err != nil || m.status() != 200 {
					t.Errorf("%v %v", m, err)
					return
				}
			}
		})
	}
	clients.Wait()
	count := map[string]int{}
	for _, h := range ep.said() {
		count[h]++
	}
	if len(count) != 8 || len(ep.said()) != 40 {
		t.Errorf("%d connections of %d clients; want 40 of 8: %v", len(ep.said()), len(count), count)
	}
}

// TestEdgePresentHedge: both attempts say whose request it is.
func TestEdgePresentHedge(t *testing.T) {
	var eps []*presented
	var addrs []string
	for _, wait := range []time.Duration{time.Second, 0} {
		ep := newPresented(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				time.Sleep(wait)
				s.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		eps, addrs = append(eps, ep), append(addrs, ep.addr)
	}
	r := start(t, setup{endpoints: addrs, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), pool: "outlier: off\nproxy_protocol: v1\n"})
	c := r.dial(t)
	_, from, _ := net.SplitHostPort(c.LocalAddr().String())
	for range 2 {
		c.get("/")
	}
	if sum(r.metrics(t), "weir_hedges_total") == 0 {
		t.Error("no hedge")
	}
	for _, ep := range eps {
		for _, h := range ep.said() {
			if !strings.HasPrefix(h, "PROXY TCP4 127.0.0.1 127.0.0.1 "+from+" ") {
				t.Errorf("an endpoint was told %q, not of port %s", h, from)
			}
		}
	}
}

// TestEdgePresentToWeir: from one weir to the next, as often as one likes, a client stays who it is, with its port and
// what it connected to.
func TestEdgePresentToWeir(t *testing.T) {
	ep := newPresented(t, forwardedFor)
	addr := ep.addr
	for _, version := range []string{"v1", "v2"} {
		addr = start(t, setup{endpoints: []string{addr}, listener: "proxy_protocol: true", pool: "proxy_protocol: " + version}).addr
	}
	for _, header := range []string{"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x04\x57\x08\xae"} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		io.WriteString(nc, header)
		c := &client{newWire(nc), t}
		if m := c.get("/"); string(m.body) != "1.2.3.4 1.2.3.4" {
			t.Errorf("%s %q", m.start, m.body)
		}
		if got := ep.said(); got[len(got)-1] != "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n" {
			t.Errorf("the endpoint was told %q", got)
		}
	}
}

const nginxPresented = `
daemon off; master_process off; worker_processes 1; error_log stderr warn; pid %[1]s/pid;
events { worker_connections 64; }
http {
	access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server {
		listen %[2]s proxy_protocol;
		location = /health/ready { return 200 "$proxy_protocol_addr"; }
		location / { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port"; }
	}
}
`

// free is an address where nobody listens, most likely.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// program runs one until the end of the test, and waits until somebody listens at addr.
func program(t *testing.T, addr, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(name + " is not there: scripts/setup.sh installs it")
	}
	said := new(lockedBuffer)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	eventually(t, name, func() bool {
		c, err := connect(addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// TestEdgePresentToOthers: nginx and HAProxy as endpoints that expect a header, also on a Unix socket, and probes of them.
func TestEdgePresentToOthers(t *testing.T) {
	alongside(t)
	for _, where := range []string{"TCP", "a Unix socket"} {
		for _, version := range []string{"v1", "v2"} {
			address := func(t *testing.T) string {
				if where == "TCP" {
					return free(t)
				}
				return "unix:" + backendtest.SocketPath(t)
			}
			ask := func(t *testing.T, addr string) (got, want string) {
				r := start(t, setup{endpoints: []string{addr}, pool: "proxy_protocol: " + version, change: func(c *config.Config) {
					probe := config.DefaultProbe()
					c.Pools[0].Probe = &probe
				}})
				eventually(t, "a probe", func() bool { return sum(r.metrics(t), "weir_probes_total", `result="success"`) > 0 })
				_, port, _ := net.SplitHostPort(r.addr)
				c := r.dial(t)
				_, from, _ := net.SplitHostPort(c.LocalAddr().String())
				for range 3 {
					got = string(c.get("/").body)
				}
				return got, "127.0.0.1 " + from + " 127.0.0.1 " + port
			}
			t.Run("nginx, "+where+", "+version, func(t *testing.T) {
				addr, dir := address(t), filepath.Dir(backendtest.SocketPath(t))
				file := filepath.Join(dir, "nginx.conf")
				if err := os.WriteFile(file, fmt.Appendf(nil, nginxPresented, dir, addr), 0o600); err != nil {
					t.Fatal(err)
				}
				program(t, addr, "nginx", "-c", file, "-p", dir, "-e", "stderr")
				if got, want := ask(t, addr); got != want {
					t.Errorf("nginx was told %q, want %q", got, want)
				}
			})
			t.Run("HAProxy, "+where+", "+version, func(t *testing.T) {
				addr, file := address(t), filepath.Join(t.TempDir(), "haproxy.cfg")
				bind, _ := strings.CutPrefix(addr, "unix:")
				text := "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n" +
					"frontend f\n  bind " + bind + " accept-proxy\n" +
					"  http-request return status 200 content-type text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"\n"
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				program(t, addr, "haproxy", "-db", "-f", file)
				if got, want := ask(t, addr); got != want {
					t.Errorf("HAProxy was told %q, want %q", got, want)
				}
			})
		}
	}
}

// TestEdgeUnixBehindHAProxy: HAProxy in front of a listener on a Unix socket, which introduces its client.
func TestEdgeUnixBehindHAProxy(t *testing.T) {
	ep := newEndpoint(t, forwardedFor)
	path := backendtest.SocketPath(t)
	start(t, setup{endpoints: []string{ep.addr}, address: "unix:" + path, listener: "proxy_protocol: true"})
	addr := haproxy(t, path, "send-proxy-v2")
	var body string
	eventually(t, "an answer", func() bool {
		nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 7)}}).Dial("tcp", addr)
		if err != nil {
			return false // it is starting
		}
		defer nc.Close()
		body = string((&client{newWire(nc), t}).get("/").body)
		return true
	})
	if body != "127.0.0.7 127.0.0.7" {
		t.Errorf("the endpoint was told of %q", body)
	}
}

// TestEdgePresentScrape: metrics are read from a Unix socket behind a header that says that the connection is weir's own,
// which is kept.
func TestEdgePresentScrape(t *testing.T) {
	overUnix = true
	defer func() { overUnix = false }()
	const page = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 5\n"
	ep := newPresented(t, func(s *served) {
		for m := s.request(); m != nil; m = s.request() {
			s.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(page), page))
		}
	})
	start(t, setup{endpoints: []string{ep.addr}, pool: "proxy_protocol: v2\nload: {preset: dcgm, scrape: /metrics, interval: 100ms}\n"})
	eventually(t, "scrapes", func() bool { return len(ep.got()) > 2 })
	if m := ep.last(t); m.target() != "/metrics" || m.get("Host") != "localhost" {
		t.Errorf("the endpoint was asked for %s of %s", m.target(), m.get("Host"))
	}
	if got := ep.said(); got[0] != "20 00" {
		t.Errorf("the endpoint was told %q", got)
	}
}
