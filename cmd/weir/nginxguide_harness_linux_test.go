package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/config"
	"weir/internal/certificate/certificatetest"
	"weir/proxy/enginetest"
)

// The tests of examples/nginx-guide (nginxguide_linux_test.go) send the same requests through nginx, configured as in the guide's
// nginx-advanced.conf, and through weir with the example's file. Each says what both do: the same, or what
// weir does instead.

const (
	guideFile = "../../examples/nginx-guide/weir.yaml"
	guideHost = "ml-api.production.com"
)

// guideNginx has the guide's directives for the endpoints, the two ports and the folder of the certificate given.
const guideNginx = `
daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections 512; }
http {
    access_log %[1]s/access.log;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    upstream ml_api_backend {
        least_conn;
        %[2]s
        keepalive 32;
    }
    limit_req_zone $binary_remote_addr zone=api_limit:10m rate=10r/s;
    limit_conn_zone $binary_remote_addr zone=conn_limit:10m;
    proxy_cache_path %[1]s/cache levels=1:2 keys_zone=ml_cache:10m max_size=1g inactive=60m use_temp_path=off;
    server {
        listen %[3]s;
        server_name ml-api.production.com;
        return 301 https://$server_name$request_uri;
    }
    server {
        listen %[4]s ssl http2;
        server_name ml-api.production.com;
        ssl_certificate %[5]s/tls.crt;
        ssl_certificate_key %[5]s/tls.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ciphers HIGH:!aNULL:!MD5;
        ssl_prefer_server_ciphers on;
        add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;
        add_header X-Frame-Options "SAMEORIGIN" always;
        add_header X-Content-Type-Options "nosniff" always;
        add_header X-XSS-Protection "1; mode=block" always;
        location /predict {
            limit_req zone=api_limit burst=20 nodelay;
            limit_conn conn_limit 10;
            proxy_pass http://ml_api_backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_connect_timeout 60s;
            proxy_send_timeout 300s;
            proxy_read_timeout 300s;
            proxy_buffering on;
            proxy_buffer_size 4k;
            proxy_buffers 8 4k;
            proxy_busy_buffers_size 8k;
            proxy_next_upstream error timeout invalid_header http_500 http_502 http_503;
            proxy_next_upstream_tries 2;
            proxy_next_upstream_timeout 30s;
        }
        location /health {
            access_log off;
            proxy_pass http://ml_api_backend;
            proxy_connect_timeout 5s;
            proxy_read_timeout 5s;
        }
        location /metrics {
            allow 10.0.0.0/8;
            deny all;
            proxy_pass http://ml_api_backend;
        }
        location /static/ {
            proxy_cache ml_cache;
            proxy_cache_valid 200 60m;
            proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
            proxy_cache_lock on;
            proxy_pass http://ml_api_backend;
        }
    }
}
`

// guided is one of the two with its three endpoints.
type guided struct {
	t           *testing.T
	name        string
	plain, addr string // the addresses for http and for https
	ca          *certificatetest.Authority
	certs       string // the folder of the certificate
	endpoints   []*backendtest.Server
	weir        *weir // nil: it is nginx
	accessLog   func() string
	ip          string // that requests come from; "": 127.0.0.1
}

// guides starts both, each with endpoints of its own that behave alike.
func guides(t *testing.T, b backendtest.Behaviour) []*guided {
	t.Helper()
	if enginetest.Name() == config.EngineGoroutine {
		return nil // the example's file lets weir choose its engine, as in the other run
	}
	b.Health.Path = "/health"
	three := func() (servers []*backendtest.Server) {
		for range 3 {
			servers = append(servers, backendtest.NewServer(t, b))
		}
		return servers
	}
	ca, certs := certificatetest.New(t), t.TempDir()
	ca.Issue(t, time.Hour, guideHost).Write(t, certs)
	n := &guided{t: t, name: "nginx", ca: ca, certs: certs, endpoints: three(), plain: freeAddress(t), addr: freeAddress(t)}
	n.startNginx()
	w := &guided{t: t, name: "weir", ca: ca, certs: certs, endpoints: three()}
	w.startWeir()
	return []*guided{n, w}
}

func (g *guided) startNginx() {
	path, err := exec.LookPath("nginx")
	if err != nil {
		g.t.Fatal("nginx is not there: scripts/setup.sh installs it")
	}
	dir := g.t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // a worker that is not root reads it
		g.t.Fatal(err)
	}
	var servers strings.Builder
	for _, e := range g.endpoints {
		fmt.Fprintf(&servers, "server %s max_fails=3 fail_timeout=30s weight=1;\n", e.Addr())
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(guideNginx, dir, servers.String(), g.plain, g.addr, g.certs)
	if os.Geteuid() == 0 {
		text = "user root;\n" + text // the directories are the test's
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.accessLog = func() string {
		text, err := os.ReadFile(filepath.Join(dir, "access.log"))
		if err != nil {
			g.t.Error(err)
		}
		return string(text)
	}
	cmd := exec.Command(path, "-c", file, "-p", dir, "-e", "stderr")
	out := new(lines)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	go out.read(stderr)
	g.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if g.t.Failed() {
			g.t.Logf("nginx:\n%s", out.text())
		}
	})
	eventually(g.t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

func (g *guided) startWeir() {
	for name, value := range map[string]string{
		"WEIR_LISTEN": "127.0.0.1:0", "WEIR_LISTEN_TLS": "localhost:0", "WEIR_ADMIN_LISTEN": "127.0.0.1:0",
		"TLS_CERT": filepath.Join(g.certs, "tls.crt"), "TLS_KEY": filepath.Join(g.certs, "tls.key"),
		"WEIR_STATE": filepath.Join(g.t.TempDir(), "state.json"),
		"ML_API_1":   g.endpoints[0].Addr(), "ML_API_2": g.endpoints[1].Addr(), "ML_API_3": g.endpoints[2].Addr(),
	} {
		g.t.Setenv(name, value)
	}
	g.weir = serveFile(g.t, guideFile)
	g.plain, g.addr = g.weir.addr, g.weir.log.find(g.t, "listening")[0]["addresses"].([]any)[1].(string)
	g.accessLog = g.weir.out.text
}

// fetched is an answer.
type fetched struct {
	status int
	header http.Header
	body   string
}

// ask sends a request by https.
func (g *guided) ask(method, path, body string, fields ...string) fetched {
	return g.send("https://"+g.addr, method, path, body, fields...)
}

// client trusts the authority of the certificate.
func (g *guided) client() *tls.Config {
	return &tls.Config{RootCAs: g.ca.Pool(), ServerName: guideHost}
}

// from sends the requests of f from another address of this machine.
func (g *guided) from(ip string, f func(g *guided)) {
	other := *g
	other.ip = ip
	f(&other)
}

func (g *guided) send(to, method, path, body string, fields ...string) fetched {
	req, err := http.NewRequest(method, to+path, strings.NewReader(body))
	if err != nil {
		g.t.Error(err)
		return fetched{}
	}
	req.Host = guideHost
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: g.client(),
			DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(g.ip)}}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Errorf("%s: %s %s: %v", g.name, method, path, err)
		return fetched{}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Errorf("%s: %s %s: %v", g.name, method, path, err)
	}
	return fetched{resp.StatusCode, resp.Header, string(b)}
}

// atOnce sends n requests at once and counts the statuses; one has an answer of each.
func (g *guided) atOnce(n int, method, path string) (count map[int]int, one map[int]fetched) {
	answers := make([]fetched, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { answers[i] = g.ask(method, path, "") })
	}
	all.Wait()
	count, one = map[int]int{}, map[int]fetched{}
	for _, a := range answers {
		count[a.status]++
		one[a.status] = a
	}
	return count, one
}

func (g *guided) requests() (n []int64) {
	for _, e := range g.endpoints {
		n = append(n, e.Counts().Requests)
	}
	return n
}

func (g *guided) total() (n int64) {
	for _, c := range g.requests() {
		n += c
	}
	return n
}

func (g *guided) behave(b backendtest.Behaviour) {
	b.Health.Path = "/health"
	for _, e := range g.endpoints {
		e.SetBehaviour(b)
	}
}

func (g *guided) wants(what string, ok bool, got any) {
	g.t.Helper()
	if !ok {
		g.t.Errorf("%s: %s: got %v", g.name, what, got)
	}
}
