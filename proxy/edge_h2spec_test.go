package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/proxy"
)

// TestEdgeH2Spec runs all cases of h2spec, which is pinned in tools/go.mod, against weir before an endpoint.
func TestEdgeH2Spec(t *testing.T) {
	alongside(t)
	addr := newH1(t, func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(w, "an answer that does not fit into the smallest windows")
	})
	for name, c := range map[string]struct {
		r          *running
		args       []string
		exceptions []string
	}{
		"h2c": {start(t, setup{endpoints: []string{addr}}), nil, []string{
			"2: Sends invalid connection preface", // What is not the preface is a request of HTTP/1.1, and gets its 400.
		}},
		"tls": {secured(t, newKeeper(t), "", setup{endpoints: []string{addr}}), []string{"-t", "-k"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, port, err := net.SplitHostPort(c.r.addr)
			if err != nil {
				t.Fatal(err)
			}
			// The first run builds it.
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			args := append([]string{"tool", "-modfile=../tools/go.mod", "h2spec", "-h", "127.0.0.1", "-p", port, "-o", "10"}, c.args...)
			out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
			failed := []string(nil)
			for _, m := range regexp.MustCompile(`(?m)^ *× (.*)$`).FindAllSubmatch(out, -1) {
				failed = append(failed, string(m[1]))
			}
			slices.Sort(failed)
			summary := fmt.Sprintf("145 tests, %d passed, 0 skipped, %d failed\n", 145-len(c.exceptions), len(c.exceptions))
			if !strings.Contains(string(out), summary) || !slices.Equal(slices.Compact(failed), c.exceptions) {
				t.Errorf("h2spec: %v\n%s", err, out)
			}
			eventually(t, "the end of all requests", func() bool {
				values := c.r.metrics(t)
				return sum(values, "weir_http2_streams") == 0 && sum(values, "weir_http2_connections") == 0
			})
			if err := proxy.Leftovers(c.r.Proxy); err != nil {
				t.Error(err)
			}
		})
	}
}
