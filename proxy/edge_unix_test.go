package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"weir/backend/backendtest"
	"weir/config"
	"weir/proxy"
)

// TestEdgeUnixListenerFile: what a listener finds at its path, the file that it makes, and what becomes of it.
func TestEdgeUnixListenerFile(t *testing.T) {
	listen := func(path string) (proxy.Sockets, error) {
		return proxy.OpenSockets([]config.Listener{{Address: "unix:" + path}}, nil)
	}
	t.Run("a socket that nobody listens on", func(t *testing.T) {
		path := backendtest.SocketPath(t)
		abandon(t, path)
		s, err := listen(path)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		if a := s["unix:"+path].Addr(); a.Network() != "unix" || a.String() != "unix:"+path {
			t.Errorf("the address is %s %s", a.Network(), a)
		}
		s.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the end the file is there: %v", err)
		}
	})
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"one that somebody listens on": {func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, "another process listens on PATH; end that, or write another path"},
		"one of datagrams": {func(path string) error {
			l, err := net.ListenPacket("unixgram", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, "PATH is a socket of another kind; remove it"},
		"a file":          {func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) }, "PATH exists and is no socket, but a file; remove it, or write another path"},
		"a directory":     {func(path string) error { return os.Mkdir(path, 0o700) }, "PATH exists and is no socket, but a directory"},
		"a symbolic link": {func(path string) error { return os.Symlink("elsewhere", path) }, "PATH exists and is no socket, but a symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			path := backendtest.SocketPath(t)
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			_, err := listen(path)
			if want := "cannot listen on unix:" + path + ": " + strings.ReplaceAll(c.want, "PATH", path); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
	t.Run("no directory", func(t *testing.T) {
		if _, err := listen(backendtest.SocketPath(t) + "/none/s"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

// abandon leaves a socket at a path that nobody listens on.
func abandon(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	f, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return f.Mode()
}

// TestEdgeUnixListenerReload: a reload changes the mode of a socket and goes on with its connections; one that has left
// the configuration is gone, and those whom it accepted are still served. The end removes the file.
func TestEdgeUnixListenerReload(t *testing.T) {
	ep := newEndpoint(t, serveOK)
	path, second := backendtest.SocketPath(t), backendtest.SocketPath(t)
	s := setup{endpoints: []string{ep.addr}, address: "unix:" + path}
	r := start(t, s)
	if m := modeOf(t, path); m != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, want 0660", m)
	}
	c := r.dial(t)
	c.get("/1")
	s.listener = `mode: "0600"`
	if _, _, err := r.Apply(parse(t, s.render())); err != nil {
		t.Fatal(err)
	}
	if m := modeOf(t, path); m != fs.ModeSocket|0o600 {
		t.Errorf("mode %v after a reload, want 0600", m)
	}
	if m := c.get("/2"); m.status() != 200 {
		t.Error(m.start)
	}
	s.address, s.listener = "unix:"+second, ""
	if _, _, err := r.Apply(parse(t, s.render())); err != nil {
		t.Fatal(err)
	}
	if m := c.get("/3"); m.status() != 200 {
		t.Error(m.start)
	}
	eventually(t, "the end of the first socket", func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
	r.addr = s.address
	if m := r.dial(t).get("/4"); m.status() != 200 {
		t.Error(m.start)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end the file is there: %v", err)
	}
}

// TestEdgeUnixFileOfAnother: what somebody has put in the socket's place is not weir's to remove.
func TestEdgeUnixFileOfAnother(t *testing.T) {
	path := backendtest.SocketPath(t)
	r := start(t, setup{endpoints: []string{newEndpoint(t, serveOK).addr}, address: "unix:" + path})
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestEdgeUnixClients: a client on a Unix socket has the address unix:, which networks may name.
func TestEdgeUnixClients(t *testing.T) {
	var access lockedBuffer
	ep := newEndpoint(t, forwardedFor)
	with := func(top, route string) *running {
		return start(t, setup{endpoints: []string{ep.addr}, address: "unix:" + backendtest.SocketPath(t), top: top, route: route, log: &access})
	}
	ask := func(r *running, fields string) *message {
		c := r.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n")
		return c.answer("GET")
	}
	const forwarded = "X-Forwarded-For: 5.5.5.5\r\n"
	for _, c := range []struct {
		name, top, route, fields string
		status                   int
		body                     string // X-Forwarded-For and X-Real-IP
	}{
		{"nobody is trusted", "", "", forwarded, 200, "unix: unix:"},
		{"others are", "trusted_proxies: [127.0.0.0/8]", "", forwarded, 200, "unix: unix:"},
		{"they are", `trusted_proxies: ["unix:"]`, "", forwarded, 200, "5.5.5.5, unix: 5.5.5.5"},
		{"a chain of sockets", `trusted_proxies: ["unix:"]`, "", "X-Forwarded-For: 5.5.5.5, unix:\r\n", 200, "5.5.5.5, unix:, unix: 5.5.5.5"},
		{"they say nothing", `trusted_proxies: ["unix:"]`, "", "", 200, "unix: unix:"},
		{"allowed", "", `allow: ["unix:"]`, "", 200, "unix: unix:"},
		{"not allowed", "", `allow: [0.0.0.0/0, "::/0"]`, "", 403, ""},
		{"denied", "", `deny: ["unix:"]`, "", 403, ""},
		{"not denied", "", `deny: [0.0.0.0/0, "::/0"]`, "", 200, "unix: unix:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := ask(with(c.top, c.route), c.fields)
			if m.status() != c.status || c.status == 200 && string(m.body) != c.body {
				t.Errorf("%s %q, want %d %q", m.start, m.body, c.status, c.body)
			}
		})
	}
	t.Run("rate limit", func(t *testing.T) {
		r := with("", `rate_limit: {key: client_ip, rate: 1/h, burst: 1, tiers: {local: {rate: 2/h, burst: 2, keys: ["unix:"]}}}`)
		for i, want := range []int{200, 200, 429} {
			if m := ask(r, ""); m.status() != want {
				t.Errorf("request %d: %s, want %d", i, m.start, want)
			}
		}
	})
	t.Run("from a trusted proxy of TCP", func(t *testing.T) {
		r := start(t, setup{endpoints: []string{ep.addr}, top: "trusted_proxies: [127.0.0.0/8]"})
		if m := ask(r, "X-Forwarded-For: 5.5.5.5, unix:\r\n"); string(m.body) != "5.5.5.5, unix:, 127.0.0.1 unix:" {
			t.Errorf("%s %q", m.start, m.body)
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := with("", "").dial(t)
		c.send("GET / HTTP/1.0\r\n\r\n")
		c.answer("GET")
		if h := ep.last(t).get("Host"); h != "localhost" {
			t.Errorf("Host: %s", h)
		}
	})
	eventually(t, "the access log", func() bool { return strings.Contains(access.String(), `"client":"unix:"`) })
}

// TestEdgeUnixEndpoints: requests, retries, hedges, probes and copies go to Unix sockets, and figures name them.
func TestEdgeUnixEndpoints(t *testing.T) {
	listen := func(script func(*served)) *endpoint {
		ep := &endpoint{}
		ep.addr = backendtest.RawUnix(t, func(nc net.Conn) {
			ep.mu.Lock()
			ep.conns++
			s := &served{wire: newWire(nc), ep: ep, n: ep.conns}
			ep.mu.Unlock()
			script(s)
		})
		return ep
	}
	ep, shadow := listen(serveOK), listen(serveOK)
	gone := "unix:" + backendtest.SocketPath(t)
	stale := backendtest.SocketPath(t)
	abandon(t, stale)
	r := start(t, setup{endpoints: []string{ep.addr, gone, "unix:" + stale}, pool: "outlier: off\n", change: func(c *config.Config) {
		copied := c.Pools[0]
		copied.Name, copied.Endpoints = "shadow", []config.Endpoint{{Address: shadow.addr, Weight: 1}}
		probe := config.DefaultProbe()
		copied.Probe = &probe
		c.Pools = append(c.Pools, copied)
		mirror := config.DefaultMirror()
		mirror.Pool, mirror.Percent = "shadow", 100
		c.Routes[0].Mirror = &mirror
		c.Routes[0].Retry.Attempts = 3
	}})
	cl := r.dial(t)
	for range 6 { // each endpoint's turn comes
		if m := cl.get("/"); m.status() != 200 || string(m.body) != "ok" {
			t.Fatalf("%s %q", m.start, m.body)
		}
	}
	if h := ep.last(t).get("Host"); h != "h" {
		t.Errorf("Host: %s, want the client's", h)
	}
	eventually(t, "a probe", func() bool {
		shadow.mu.Lock()
		defer shadow.mu.Unlock()
		for _, m := range shadow.requests {
			if m.target() == "/health/ready" {
				return m.get("Host") == "localhost"
			}
		}
		return false
	})
	eventually(t, "a copy", func() bool { return slices.Contains(shadow.got(), "GET /") })
	figures := r.metrics(t)
	if n := sum(figures, "weir_attempts_total", `endpoint="`+ep.addr+`"`, `outcome="success"`); n != 6 {
		t.Errorf("%v attempts at %s succeeded, want 6", n, ep.addr)
	}
	for _, a := range []string{gone, "unix:" + stale} {
		if n := sum(figures, "weir_attempts_total", `endpoint="`+a+`"`, `outcome="connect"`); n == 0 {
			t.Errorf("no attempt at %s has failed to connect", a)
		}
	}
}

// TestEdgeUnixHedge: a hedge goes from a slow socket to another.
func TestEdgeUnixHedge(t *testing.T) {
	overUnix = true
	defer func() { overUnix = false }()
	answer := func(name string, wait time.Duration) *endpoint {
		return newEndpoint(t, func(s *served) {
			for m := s.request(); m != nil; m = s.request() {
				time.Sleep(wait)
				s.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + name)
			}
		})
	}
	slow, fast := answer("slow", time.Second), answer("fast", 0)
	r := start(t, setup{endpoints: []string{slow.addr, fast.addr}, change: hedge(config.Hedge{Delay: 20 * time.Millisecond, BudgetPercent: 100}), pool: "outlier: off\n"})
	c := r.dial(t)
	for range 2 { // one of them begins at the slow one
		if m := c.get("/"); m.status() != 200 {
			t.Error(m.start)
		}
	}
	if n := sum(r.metrics(t), "weir_hedges_total"); n == 0 {
		t.Error("no hedge")
	}
}

// TestEdgeUnixFullBacklog: where a Unix socket's backlog is full, connections wait for room, as those of TCP do.
func TestEdgeUnixFullBacklog(t *testing.T) {
	path := backendtest.SocketPath(t)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if c, err := net.Dial("unix", path); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the backlog is not full: %v, %v", c, err)
	}
	r := start(t, setup{endpoints: []string{"unix:" + path}, pool: "connections: {connect_timeout: 30s}\noutlier: off\n", route: "retry: off\n"})
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	time.Sleep(50 * time.Millisecond) // so that weir, most likely, meets the full backlog
	backendtest.RawOn(t, l, func(nc net.Conn) {
		ep := &endpoint{}
		serveOK(&served{wire: newWire(nc), ep: ep, n: 1})
	})
	if m := c.answer("GET"); m.status() != 200 {
		t.Errorf("%s %s", m.start, m.body)
	}
}

// TestEdgeUnixHTTP2: HTTP/2 over Unix sockets on both sides, in clear and over TLS, and gRPC's health checking.
func TestEdgeUnixHTTP2(t *testing.T) {
	k := newKeeper(t)
	for name, secure := range map[string]bool{"in clear": false, "over TLS": true} {
		t.Run(name, func(t *testing.T) {
			path := backendtest.SocketPath(t)
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			var p http.Protocols
			p.SetHTTP2(secure)
			p.SetUnencryptedHTTP2(!secure)
			server := &http.Server{Protocols: &p, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				fmt.Fprintf(w, "%s %s %s", req.Proto, req.Host, req.Header.Get("X-Forwarded-For"))
			})}
			s := setup{endpoints: []string{"unix:" + path}, address: "unix:" + backendtest.SocketPath(t), pool: "protocol: http2\n"}
			scheme := "http"
			if secure {
				c := k.server()
				c.NextProtos = []string{"h2"}
				server.TLSConfig = c
				s.pool += k.trusting("")
				s.listener = fmt.Sprintf("tls:\n  certificates: [%s]\n", k.pair("server"))
				scheme = "https"
				go server.ServeTLS(l, "", "")
			} else {
				go server.Serve(l)
			}
			t.Cleanup(func() { server.Close() })
			r := start(t, s)
			client := &http.Client{Timeout: patience, Transport: &http.Transport{Protocols: &p, TLSClientConfig: clientTLS(k, secure), DialContext: func(context.Context, string, string) (net.Conn, error) { return connect(r.addr) }}}
			defer client.CloseIdleConnections()
			for range 3 {
				res, err := client.Get(scheme + "://localhost/")
				if err != nil {
					t.Fatal(err)
				}
				body := make([]byte, 100)
				n, _ := res.Body.Read(body)
				res.Body.Close()
				if res.ProtoMajor != 2 || string(body[:n]) != "HTTP/2.0 localhost unix:" {
					t.Errorf("%s: %s %q", res.Proto, res.Status, body[:n])
				}
			}
		})
	}
	t.Run("health of gRPC", func(t *testing.T) {
		path := backendtest.SocketPath(t)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		g, h := grpc.NewServer(), health.NewServer()
		healthpb.RegisterHealthServer(g, h)
		go g.Serve(l)
		t.Cleanup(g.Stop)
		r := start(t, setup{endpoints: []string{"unix:" + path}, pool: "protocol: http2\n", change: func(c *config.Config) {
			p := config.DefaultProbe()
			p.Path, p.GRPC, p.Interval, p.Timeout, p.Fall, p.Rise = "", &config.HealthService{}, 50*time.Millisecond, 50*time.Millisecond, 1, 1
			c.Pools[0].Probe = &p
		}})
		state := func(want bool) func() bool {
			return func() bool {
				p, _ := r.Pool("blue")
				return p.Endpoints[0].Healthy == want && sum(r.metrics(t), "weir_probes_total", `result="success"`) > 0
			}
		}
		eventually(t, "serving", state(true))
		h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		eventually(t, "not serving", state(false))
	})
}

func clientTLS(k *keeper, secure bool) *tls.Config {
	if !secure {
		return nil
	}
	return k.client()
}

// TestEdgeUnixPathIsExact: a path may have blanks and quotes; it shows as it is.
func TestEdgeUnixPathIsExact(t *testing.T) {
	dir := filepath.Dir(backendtest.SocketPath(t))
	path := filepath.Join(dir, `a "b" 100% ü`)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	backendtest.RawOn(t, l, func(nc net.Conn) {
		serveOK(&served{wire: newWire(nc), ep: &endpoint{}, n: 1})
	})
	r := start(t, setup{endpoints: []string{newEndpoint(t, serveOK).addr}, change: func(c *config.Config) {
		c.Pools[0].Endpoints[0].Address = "unix:" + path
	}})
	if m := r.dial(t).get("/"); m.status() != 200 {
		t.Error(m.start)
	}
	if p, _ := r.Pool("blue"); p.Endpoints[0].Address != "unix:"+path {
		t.Errorf("the status says %s", p.Endpoints[0].Address)
	}
}
