package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const nginxHTTP2 = `daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s http2;
		keepalive_requests 10;
		http2_max_concurrent_streams 8;
		location / { root %[1]s; }
		location = /change { add_header X-Length $content_length; return 200 $request_method; }
	}
}
`

// TestHTTP2Nginx: nginx as an endpoint, which takes few streams at one time and few requests on a connection.
func TestHTTP2Nginx(t *testing.T) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("nginx is not there: scripts/setup.sh installs it")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	for name, content := range map[string][]byte{"nginx.conf": fmt.Appendf(nil, nginxHTTP2, dir, addr), "large": large, "small": []byte("small")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	peer(t, addr, path, "-c", filepath.Join(dir, "nginx.conf"), "-p", dir, "-e", "stderr")
	r := overH2(t, &h2c{addr: addr}, setup{route: "retry: off", pool: "connections: {max: 4, connect_timeout: 10s}"})
	var running sync.WaitGroup
	for range 8 {
		c := r.dial(t)
		running.Go(func() {
			for range 20 {
				if m, err := c.post("body"); err != nil || m.status() != 200 || string(m.body) != "POST" || m.get("X-Length") != "4" {
					t.Errorf("POST: %+v, %v", m, err)
					return
				}
				if m := c.get("/small"); m.status() != 200 || string(m.body) != "small" || m.get("Content-Length") != "5" {
					t.Errorf("a file: %+v", m)
					return
				}
			}
			if m := c.get("/large"); m.status() != 200 || !bytes.Equal(m.body, large) {
				t.Errorf("a large file: %s, %d bytes", m.start, len(m.body))
			}
		})
	}
	running.Wait()
	values := r.metrics(t)
	if n := sum(values, "weir_retries_total"); n != 0 {
		t.Errorf("%v retries", n)
	}
	if n := sum(values, "weir_endpoint_http2_goaways_total"); n < 20 {
		t.Errorf("nginx has ended %v connections, each after 10 of %d requests", n, 8*41)
	}
}
