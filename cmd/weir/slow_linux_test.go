package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/internal/certificate/certificatetest"
)

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestSlowClients lets slowhttptest at weir, over plain HTTP and TLS: 100 connections that send heads or bodies by the
// byte, or read answers by the byte. Each is ended, and meanwhile everybody else is served.
func TestSlowClients(t *testing.T) {
	program, err := exec.LookPath("slowhttptest")
	if err != nil {
		t.Fatal("slowhttptest is not there: scripts/setup.sh peers installs it")
	}
	small := endpoint(t, "small")
	large := backendtest.NewServer(t, backendtest.Behaviour{BodySize: 10 << 20})
	dir := t.TempDir()
	authority := certificatetest.New(t)
	cert, key := authority.Issue(t, time.Hour, "127.0.0.1").Write(t, dir)
	secure := freeAddress(t)
	const listener = "timeouts: {header: 2s, body: 2s, keep_alive: 2s}"
	w := serve(t, fmt.Sprintf(`
engine: "${WEIR_TEST_ENGINE:-auto}"
listeners:
  - {address: "127.0.0.1:0", %s}
  - {address: %q, %s, tls: {certificates: [{cert: %q, key: %q}]}}
admin: {address: "127.0.0.1:0"}
pools:
  small: {endpoints: [%q], probe: off}
  large: {endpoints: [%q], probe: off}
routes:
  - {name: large, match: {path_prefix: /large}, split: {large: 1}, timeouts: {total: 4s}}
  - {name: small, split: {small: 1}, timeouts: {total: 4s}}
`, listener, secure, listener, filepath.ToSlash(cert), filepath.ToSlash(key), small.Addr(), large.Addr()))
	plain := w.addr
	if plain == secure {
		plain = w.log.find(t, "listening")[0]["addresses"].([]any)[1].(string)
	}

	t.Run("attacks", func(t *testing.T) {
		for name, args := range map[string][]string{
			"heads":  {"-H", "-i", "1", "-t", "GET"},
			"bodies": {"-B", "-i", "1", "-t", "POST", "-s", "8192"},
		} {
			for scheme, address := range map[string]string{"http": plain, "https": secure} {
				t.Run(name+" by "+scheme, func(t *testing.T) {
					t.Parallel()
					args := append(args, "-c", "100", "-r", "100", "-l", "60", "-p", "10", "-u", scheme+"://"+address+"/predict")
					out, err := exec.Command(program, args...).CombinedOutput()
					text := escapes.ReplaceAllString(string(out), "")
					if !strings.Contains(text, "No open connections left") || !strings.Contains(text, "service available:   YES") || strings.Contains(text, "service available:   NO") {
						t.Errorf("slowhttptest %s: %v\n%s", strings.Join(args, " "), err, text)
					}
				})
			}
		}
		for scheme, address := range map[string]string{"http": plain, "https": secure} {
			t.Run("answers by "+scheme, func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command(program, "-X", "-t", "GET", "-w", "512", "-y", "1024", "-n", "1", "-z", "16", "-c", "100", "-r", "100", "-l", "60", "-u", scheme+"://"+address+"/large/"+scheme)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
				// The tool does not notice. On a busy machine not all of its connections become requests, since a handshake
				// has its time, too; of those that do, none may go on, as the end of this test finds out.
				eventually(t, "the end of answers that are read slowly", func() bool {
					return strings.Count(w.out.text(), `"path":"/large/`+scheme+`"`) >= 50
				})
			})
		}
		t.Run("others", func(t *testing.T) {
			t.Parallel()
			for _, url := range []string{"http://" + plain, "https://" + secure} {
				c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}}}
				for range 100 {
					resp, err := c.Get(url + "/predict")
					if err != nil {
						t.Fatalf("others are not served: %v", err)
					}
					_ = resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("others get %s", resp.Status)
					}
				}
			}
		})
	})
	eventually(t, "no request is under way any more", func() bool {
		for _, p := range w.state().Pools {
			for _, e := range p.Endpoints {
				if e.Inflight > 0 {
					return false
				}
			}
		}
		return true
	})
}
