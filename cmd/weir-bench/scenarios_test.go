package main

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/bench/scenarios"
)

func TestScenariosRefuses(t *testing.T) {
	document := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(document, []byte("no place\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"--scenarios", "slow,fast"}, 2, `scenario "fast": must be one of slow, noisy`},
		{[]string{"--policies", "nginx,apache"}, 2, `policy "apache": must be one of nginx, haproxy`},
		{[]string{"-o", "pdf"}, 2, `output "pdf": must be one of text, json, markdown`},
		{[]string{"--rounds", "0"}, 1, "at least one round"},
		{[]string{"--into", document}, 1, scenarios.TablesBegin},
		{[]string{"--into", "/no/such/file"}, 1, "no such file"},
	} {
		_, stderr, code := outcome(t, append([]string{"scenarios"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.said) {
			t.Errorf("%v: exit status %d, said %q; want %d and %q", tt.args, code, stderr, tt.code, tt.said)
		}
	}
}

// The page has a place for the tables.
func TestBalancingHasAPlaceForScenarios(t *testing.T) {
	if err := place(filepath.Join("..", "..", "docs", "balancing.md")); err != nil {
		t.Error(err)
	}
}

func TestPodAnswersAndStops(t *testing.T) {
	cmd := weirBench(t, "pod", "--listen", "127.0.0.1:0", "--model", `{"Servers":1,"Service":1000000,"Shape":"constant"}`)
	messages, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(messages)
	if !lines.Scan() {
		t.Fatal("the pod does not say where it is")
	}
	resp, err := http.Post(strings.TrimPrefix(lines.Text(), "pod on "), "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d, want 200", resp.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the pod ended with %v", err)
	}
	if _, stderr, code := outcome(t, "pod"); code != 2 || !strings.Contains(stderr, "model") {
		t.Errorf("without a model: exit status %d, said %q; want 2 and what is missing", code, stderr)
	}
}
