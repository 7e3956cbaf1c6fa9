package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// haproxyOver runs one that speaks HTTP/2 and passes requests on to a server of HTTP/1.1, and returns its address.
func haproxyOver(t *testing.T, server string) (addr string, process *os.Process) {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatal("haproxy is not there: scripts/setup.sh installs it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = ln.Addr().String()
	_ = ln.Close()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	config := "global\n  maxconn 200\n  tune.h2.max-concurrent-streams 8\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n" +
		"frontend f\n  bind " + addr + " proto h2\n  default_backend b\nbackend b\n  server s " + server + "\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return addr, peer(t, addr, path, "-db", "-f", file)
}

// TestHTTP2HAProxy: HAProxy as an endpoint, bodies both ways, with fewer streams on a connection than there are requests.
func TestHTTP2HAProxy(t *testing.T) {
	addr, _ := haproxyOver(t, newH1(t, func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		w.Header().Set("X-Length", fmt.Sprint(q.ContentLength))
		_, _ = w.Write(body)
	}))
	r := overH2(t, &h2c{addr: addr}, setup{route: "retry: off", pool: "connections: {max: 4, connect_timeout: 10s}"})
	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	var running sync.WaitGroup
	for range 40 {
		c := r.dial(t)
		running.Go(func() {
			for range 5 {
				if m, err := c.post("body"); err != nil || m.status() != 200 || string(m.body) != "body" || m.get("X-Length") != "4" {
					t.Errorf("POST: %+v, %v", m, err)
					return
				}
			}
			go c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 800000\r\n\r\n" + string(large))
			if m, _, err := c.readResponse("POST"); err != nil || m.status() != 200 || !bytes.Equal(m.body, large) {
				t.Errorf("a large body: %+v, %v", m.start, err)
			}
		})
	}
	running.Wait()
	values := r.metrics(t)
	if n := sum(values, "weir_retries_total"); n != 0 {
		t.Errorf("%v retries", n)
	}
	if n := sum(values, "weir_endpoint_http2_connections_total"); n < 1 || n > 4 {
		t.Errorf("%v connections were opened, none has ended and there may be 4", n)
	}
	if n := sum(values, "weir_attempts_total", `outcome="success"`); n != 40*6 {
		t.Errorf("%v attempts succeeded", n)
	}
}

// TestHTTP2StoppedEndpoint: an endpoint whose process stands still, while its system takes connections and bytes, is found
// out by a PING, also on a connection over which it has never said anything, and its requests are served elsewhere.
func TestHTTP2StoppedEndpoint(t *testing.T) {
	alongside(t)
	var there atomic.Int64
	stopped, process := haproxyOver(t, newH1(t, func(w http.ResponseWriter, q *http.Request) {
		there.Add(1)
		_, _ = io.WriteString(w, "ok")
	}))
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) { _, _ = io.WriteString(w, "ok") })
	s := setup{
		endpoints: []string{stopped, e.addr}, options: oneLoop, route: "retry: {attempts: 3, budget_percent: 100}",
		pool: "protocol: http2\noutlier: {consecutive_failures: 3, interval: 1s}\nconnections: {keepalive: 2s, keepalive_timeout: 3s, connect_timeout: 5s}",
	}
	r := start(t, s)
	get := func(c *client) {
		_ = c.SetDeadline(time.Now().Add(6 * patience))
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if m, _, err := c.readResponse("GET"); err != nil || m.status() != 200 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	c := r.dial(t)
	for there.Load() == 0 {
		get(c)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Signal(syscall.SIGCONT) }()
	eventually(t, "the process stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	before := there.Load()
	var running sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		running.Go(func() {
			for range 4 {
				get(c)
			}
		})
	}
	running.Wait()
	values := r.metrics(t)
	if n := sum(values, "weir_endpoint_http2_ping_timeouts_total", stopped); n < 1 {
		t.Errorf("%v connections were given up", n)
	}
	if n := there.Load(); n != before {
		t.Errorf("the endpoint that stands still has served %d requests", n-before)
	}
	if n := e.requests.Load(); n < 8*4 {
		t.Errorf("the other endpoint served %d requests", n)
	}
	if strings.Contains(r.logs.String(), "panicked") {
		t.Error(r.logs)
	}
}

// TestHTTP2SilentEndpoint: one that takes a connection and says nothing at all, not even its SETTINGS, has
// keepalive_timeout for them, however long keepalive is.
func TestHTTP2SilentEndpoint(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := overH2(t, &h2c{addr: ln.Addr().String()}, setup{route: "retry: off\ntimeouts: {attempt: 5m}", pool: "connections: {keepalive: 5m, keepalive_timeout: 1s}"})
	c := r.dial(t)
	_ = c.SetDeadline(time.Now().Add(6 * patience))
	m, err := c.post("x")
	if err != nil {
		t.Fatal(err)
	}
	c.refused(m, 502)
	if n := sum(r.metrics(t), "weir_endpoint_http2_ping_timeouts_total"); n != 1 {
		t.Errorf("%v connections were given up", n)
	}
}
