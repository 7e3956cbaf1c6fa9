package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/bench/compare"
)

// saved writes the JSON of a comparison with one measurement of nginx and returns its path.
func saved(t *testing.T) string {
	t.Helper()
	result := compare.Result{
		Date: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), System: "a machine", Rounds: 1, Seconds: 1,
		Workloads:    []compare.Load{{Name: "a", Title: "64 connections"}},
		Measurements: []compare.Measurement{{Peer: compare.Nginx, Workload: "a", Round: 1, CPU: 33.3, P50: 1}},
	}
	path := filepath.Join(t.TempDir(), "benchmark.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := result.JSON(f); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCompareRendersWhatWasSaved(t *testing.T) {
	path := saved(t)
	for format, want := range map[string]string{
		"text": "33.3", "json": `"cpu_us": 33.3`, "html": "<svg", "markdown": "| 64 connections | 1.00 (33.3 µs) |",
	} {
		stdout, stderr, code := outcome(t, "compare", "--from", path, "-o", format)
		if code != 0 || !strings.Contains(stdout, want) || stderr != "" {
			t.Errorf("-o %s: exit status %d, stderr %q, stdout %q; want %q in it", format, code, stderr, stdout, want)
		}
	}
}

func TestCompareIntoADocument(t *testing.T) {
	path, document := saved(t), filepath.Join(t.TempDir(), "README.md")
	into := func(text string) (string, string, int) {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := outcome(t, "compare", "--from", path, "-o", "markdown", "--into", document)
		after, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		return string(after), stderr, code
	}
	after, stderr, code := into("before\n" + compare.TablesBegin + "\nold\n" + compare.TablesEnd + "\nafter\n")
	if code != 0 || !strings.HasPrefix(after, "before\n") || !strings.HasSuffix(after, "\nafter\n") || strings.Contains(after, "old") || !strings.Contains(after, "33.3 µs") {
		t.Errorf("exit status %d, %q, the document is\n%s", code, stderr, after)
	}
	after, stderr, code = into("no place\n")
	if code != 1 || after != "no place\n" || !strings.Contains(stderr, compare.TablesBegin) {
		t.Errorf("without a place: exit status %d, %q, the document is\n%s", code, stderr, after)
	}
}

func TestCompareRefuses(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"--workloads", "a,z"}, 2, `workload "z": must be one of a, b, c`},
		{[]string{"-o", "pdf"}, 2, `output "pdf": must be one of text, json`},
		{[]string{"--from", "/no/such/file"}, 1, "no such file"},
		{[]string{"--peers", "nginx,apache"}, 1, `peer "apache": must be one of`},
		{[]string{"--quota", "2"}, 1, "quota 2: must be 0 to 1"},
	} {
		_, stderr, code := outcome(t, append([]string{"compare"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stderr, tt.said) {
			t.Errorf("%v: exit status %d, said %q; want %d and %q", tt.args, code, stderr, tt.code, tt.said)
		}
	}
}
