package proxy_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// run runs a program with this input and returns what it writes.
func run(t *testing.T, input, name string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; the tests need it", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func TestEdgeTLSCurl(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, fmt.Sprintf("client_ca: %q\nclient_auth: optional\n", k.file("clients.crt", k.PEM())),
		setup{endpoints: []string{ep.addr}, listener: "protocols: [http1, http2]\n", route: "headers: {security: true}\n"})
	cert, key := k.Issue(t, time.Hour).Write(t, t.TempDir())
	base := []string{"-sS", "-i", "--max-time", "10", "--cacert", filepath.Join(k.dir, "clients.crt"), "--noproxy", "*"}
	for name, args := range map[string][]string{
		"1.2":         {"--tls-max", "1.2", "--http1.1"},
		"1.3":         {"--tlsv1.3", "--http1.1"},
		"http2":       {"--http2"},
		"certificate": {"--cert", cert, "--key", key},
		"upload":      {"--data-binary", "@" + k.file("body", bytes.Repeat([]byte("x"), 300_000)), "-H", "Expect:"},
	} {
		out, err := run(t, "", "curl", append(append(base, args...), "https://"+r.addr+"/")...)
		if err != nil || !strings.Contains(out, " 200") || !strings.HasSuffix(out, "ok") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if !strings.Contains(strings.ToLower(out), "strict-transport-security: max-age=") {
			t.Errorf("%s: no HSTS in\n%s", name, out)
		}
	}
	if out, err := run(t, "", "curl", append(base, "--tls-max", "1.1", "--tlsv1.0", "https://"+r.addr+"/")...); err == nil {
		t.Errorf("TLS 1.1: %s", out)
	}
	out, err := run(t, "", "curl", append(base, "http://"+r.addr+"/")...)
	if err != nil || !strings.Contains(out, "400 Bad Request") || strings.Contains(out, "Strict-Transport") {
		t.Errorf("plain HTTP: %v\n%s", err, out)
	}
	clear := start(t, setup{endpoints: []string{ep.addr}, route: "headers: {security: true}\n"})
	if m := clear.dial(t).get("/"); m.get("Strict-Transport-Security") != "" || m.get("X-Frame-Options") == "" {
		t.Errorf("without TLS: %v", m.fields)
	}
}

func TestEdgeTLSOpenSSL(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	request := "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		out, _ := run(t, request, "openssl", "s_client", "-connect", r.addr, "-servername", "localhost", "-ign_eof", version, "-CAfile", k.file("ca.crt", k.PEM()))
		if !strings.Contains(out, "HTTP/1.1 200") || !strings.Contains(out, "Verify return code: 0") {
			t.Errorf("%s:\n%s", version, out)
		}
	}
	// R asks for a renegotiation, which TLS 1.2 knows.
	out, _ := run(t, "R\n", "openssl", "s_client", "-connect", r.addr, "-tls1_2", "-servername", "localhost")
	if !strings.Contains(strings.ToLower(out), "renegotiat") || strings.Contains(out, "HTTP/1.1") {
		t.Errorf("a renegotiation:\n%s", out)
	}
	if m := r.dialTLS(t, k.client()).get("/"); m.status() != 200 {
		t.Errorf("after it: %s", m.start)
	}
}

// TestEdgeTLSSlowHandshakes: what begins a handshake and does not go on is ended after the time of a head, counts for
// limits.connections, and harms nobody else.
func TestEdgeTLSSlowHandshakes(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}, listener: "timeouts: {header: 500ms}\n"})
	var slow []*client
	for i := range 50 {
		cl := r.dial(t)
		cl.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[:i%10])
		slow = append(slow, cl)
	}
	if m := r.dialTLS(t, k.client()).get("/"); m.status() != 200 {
		t.Errorf("beside them: %s", m.start)
	}
	for _, cl := range slow {
		if _, err := io.ReadAll(cl); err != nil {
			t.Errorf("the end of a slow handshake: %v", err)
		}
	}
	eventually(t, "the count", func() bool { return sum(r.metrics(t), "weir_tls_handshakes_failed_total", `"timeout"`) > 0 })
}

// TestEdgeTLSReloadsUnderLoad renews the certificate again and again under requests, of which none fails.
func TestEdgeTLSReloadsUnderLoad(t *testing.T) {
	k := newKeeper(t)
	ep := newEndpoint(t, serveOK)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	var over atomic.Bool
	var requests atomic.Int64
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			for !over.Load() {
				nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.addr, k.client())
				if err != nil {
					t.Error(err)
					return
				}
				w := newWire(nc)
				for range i + 1 {
					if _, err := io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
						t.Error(err)
					}
					if m, _, err := w.readResponse("GET"); err != nil || m.status() != 200 {
						t.Errorf("%v %v", m, err)
					}
					requests.Add(1)
				}
				nc.Close()
			}
		})
	}
	dir := filepath.Join(k.dir, "server")
	for range 5 {
		p := k.Issue(t, time.Hour)
		p.Write(t, dir)
		eventually(t, "the new certificate", func() bool {
			serial, _ := r.serialOf(t, k, "localhost")
			return serial == p.Serial
		})
	}
	over.Store(true)
	running.Wait()
	if requests.Load() == 0 {
		t.Error("no requests")
	}
}
