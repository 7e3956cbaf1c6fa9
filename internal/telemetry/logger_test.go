package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"
)

func decodeLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			t.Fatalf("line without an end: %q", line)
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in line %q", err, line)
		}
		lines = append(lines, m)
	}
	return lines
}

func TestLoggerWritesTheGuidesKeys(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger("info", &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Named("proxy").Warn("a\nb", zap.Int("n", 3), Exception(&fs.PathError{Op: "open", Path: "x", Err: errors.New("gone")}))
	got := decodeLines(t, out.String())
	if len(got) != 1 {
		t.Fatalf("got %d lines, want 1: %s", len(got), out.String())
	}
	m := got[0]
	if ts, _ := m["timestamp"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(ts) {
		t.Errorf("timestamp = %q", m["timestamp"])
	}
	for key, want := range map[string]any{
		"level": "warn", "logger": "weir.proxy", "message": "a\nb", "n": 3.0,
		"module": "weir/internal/telemetry", "function": "TestLoggerWritesTheGuidesKeys",
	} {
		if m[key] != want {
			t.Errorf("%s = %v, want %v", key, m[key], want)
		}
	}
	if line, _ := m["line"].(float64); line < 1 {
		t.Errorf("line = %v", m["line"])
	}
	exc, _ := m["exception"].(map[string]any)
	if exc["type"] != "*fs.PathError" || exc["message"] != "open x: gone" {
		t.Errorf("exception = %v", m["exception"])
	}
}

func TestLoggerLevel(t *testing.T) {
	var out bytes.Buffer
	log, level, err := NewLogger("error", &out)
	if err != nil {
		t.Fatal(err)
	}
	child := log.With(zap.String("k", "v"))
	child.Info("hidden")
	if out.Len() != 0 {
		t.Fatalf("info was written at level error: %s", out.String())
	}
	level.SetLevel(zap.InfoLevel)
	child.Info("seen", Exception(nil))
	got := decodeLines(t, out.String())
	if len(got) != 1 || got[0]["message"] != "seen" || got[0]["k"] != "v" {
		t.Fatalf("got %v", got)
	}
	if _, there := got[0]["exception"]; there {
		t.Error("a nil error made an exception")
	}
	if _, _, err := NewLogger("loud", &out); err == nil || !strings.Contains(err.Error(), "debug, info, warn, error") {
		t.Errorf("unknown level: %v", err)
	}
}

func TestLoggerSaysHowManyLinesItLeftOut(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger("info", &out)
	if err != nil {
		t.Fatal(err)
	}
	const n = 10_000
	for range n {
		log.Info("again and again")
	}
	log.Info("something else")
	var suppressed float64
	lines := decodeLines(t, out.String())
	for _, m := range lines {
		s, _ := m["suppressed"].(float64)
		suppressed += s
	}
	if len(lines) > n/10 {
		t.Errorf("%d of %d equal lines were written", len(lines), n)
	}
	if got := suppressed + float64(len(lines)); got != n+1 {
		t.Errorf("written + suppressed = %v, want %d", got, n+1)
	}
}

func TestPanicHasATraceback(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger("info", &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Error("panic", Panic("boom", []byte("goroutine 1")))
	exc, _ := decodeLines(t, out.String())[0]["exception"].(map[string]any)
	if exc["message"] != "boom" || exc["traceback"] != "goroutine 1" {
		t.Errorf("exception = %v", exc)
	}
}

func TestSplitFunction(t *testing.T) {
	for full, want := range map[string][2]string{
		"weir/proxy/admin.(*Server).reload": {"weir/proxy/admin", "(*Server).reload"},
		"main.main.func1":                   {"main", "main.func1"},
		"odd":                               {"", "odd"},
	} {
		if m, f := splitFunction(full); m != want[0] || f != want[1] {
			t.Errorf("splitFunction(%q) = %q, %q, want %q", full, m, f, want)
		}
	}
}
