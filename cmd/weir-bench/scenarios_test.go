package main

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
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
		{[]string{"--from", document}, 1, "no result of scenarios"},
	} {
		_, stderr, code := outcome(t, append([]string{"scenarios"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.said) {
			t.Errorf("%v: exit status %d, said %q; want %d and %q", tt.args, code, stderr, tt.code, tt.said)
		}
	}
}

// What was measured before is shown again, with drawings.
func TestScenariosFromAFile(t *testing.T) {
	dir := t.TempDir()
	document, from := filepath.Join(dir, "docs", "page.md"), filepath.Join(dir, "result.json")
	result := `{"date": "2026-11-27T00:00:00Z", "system": "a machine", "rounds": 1, "warmup_seconds": 1, "seconds": 2, "versions": {},
		"scenarios": [{"name": "slow", "title": "one pod slower", "detail": "pods", "rate": 9}],
		"summary": [` + strings.Join([]string{summaryOf("nginx", 200), summaryOf("weir", 80), summaryOf("weir-round_robin", 9999)}, ",") + `],
		"measurements": [{"scenario": "slow", "policy": "weir", "round": 1, "requests": 9, "errors": 0, "p50": 1, "p99": 120, "p999": 3, "generator_lag_p99": 0, "served": [1]}]}`
	for path, text := range map[string]string{document: scenarios.TablesBegin + "\n" + scenarios.TablesEnd + "\n", from: result} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if _, stderr, code := outcome(t, "scenarios", "--from", from, "-o", "markdown", "--into", document, "--plots", filepath.Join(dir, "docs", "plots")); code != 0 {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	text, err := os.ReadFile(document)
	if err != nil || !strings.Contains(string(text), "![p99 by policy: one pod slower](plots/scenario-slow.svg)") {
		t.Errorf("the document: %s, %v", text, err)
	}
	drawing, err := os.ReadFile(filepath.Join(dir, "docs", "plots", "scenario-slow.svg"))
	for _, want := range []string{`<svg xmlns="http://www.w3.org/2000/svg"`, "weir 80 (80 – 120)", "Off the scale: weir-round_robin: 10.00s"} {
		if !strings.Contains(string(drawing), want) {
			t.Errorf("the drawing lacks %s: %s, %v", want, drawing, err)
		}
	}
	if err := xml.Unmarshal(drawing, new(struct{})); err != nil {
		t.Error(err)
	}
}

func summaryOf(policy string, p99 float64) string {
	return fmt.Sprintf(`{"scenario": "slow", "policy": %q, "title": %q, "requests": 9, "errors": 0, "p50": 1, "p99": %g, "p999": 3, "generator_lag_p99": 0, "last_pod_share": 0.1, "p99_to_nginx": null, "p99_to_haproxy_better": null}`, policy, policy, p99)
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
