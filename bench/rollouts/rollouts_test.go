package rollouts

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRun makes a few rollouts as make rollouts makes thousands: with the real weir, and real requests.
func TestRun(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+"/", "weir/cmd/weir")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	r, err := Run(context.Background(), Options{Programs: dir, Good: 3, Bad: 1, AtOnce: 8, Clients: 24, Look: 150 * time.Millisecond, Say: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	ends := 0
	for _, s := range r.Summary {
		if s.Rollouts != 1 || s.Aborted+s.Succeeded+s.Waited != 1 {
			t.Errorf("%+v", s)
		}
		ends += s.Rollouts
		if s.Name == "none" && s.Aborted > 0 {
			t.Errorf("a version without an error was aborted: %+v", s)
		}
	}
	if ends != len(Cases()) {
		t.Errorf("%d rollouts, want one of each of %d cases", ends, len(Cases()))
	}
	for _, e := range r.ended {
		if len(e.looks) == 0 || e.requests == 0 {
			t.Errorf("%s: nothing was seen of it: %+v", e.of.Name, e)
		}
	}
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	var text bytes.Buffer
	if err := r.Write(&text, "json"); err != nil {
		t.Fatal(err)
	}
	again, err := Read(&text)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Write(&text, "markdown"); err != nil || strings.Count(text.String(), "\n| ") < len(Cases()) {
		t.Errorf("markdown: %v\n%s", err, &text)
	}
}

func TestResult(t *testing.T) {
	look := func(seconds, ratio, high float64) Look {
		return Look{Seconds: seconds, Weight: 10, Canary: 100, Bad: 2, Ratio: &ratio, High: &high}
	}
	r := &Result{Look: 1, Looks: 10, Weir: "test"}
	cases := map[string]Case{}
	for _, c := range Cases() {
		cases[c.Name] = c
	}
	r.add(
		ended{of: cases["1%"], phase: "succeeded", requests: 900, looks: []Look{look(1, 0.9, 9), look(2, 1.1, 1.4)}},
		ended{of: cases["1%"], phase: "aborted", requests: 100, back: 3 * time.Millisecond, thumb: true},
		ended{of: cases["2x"], phase: "aborted", requests: 300, back: 2 * time.Millisecond, looks: []Look{look(1, 2, 5)}},
		ended{of: cases["2x"], phase: "aborted", requests: 500, back: time.Millisecond},
		ended{of: cases["2x"], phase: waited},
	)
	r.summarize()
	if n, aborted := r.Good(); n != 2 || aborted != 1 {
		t.Errorf("%d as good, %d of them aborted", n, aborted)
	}
	if want := (Back{3, 2, 3, 3}); r.Back != want {
		t.Errorf("back after %+v, want %+v", r.Back, want)
	}
	dir := filepath.Join(t.TempDir(), "plots")
	if err := r.WritePlots(dir, "plots"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rollout-succeeded.svg", "rollout-aborted.svg"} {
		drawing, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.Contains(string(drawing), "max_ratio") {
			t.Errorf("%s: %v\n%s", name, err, drawing)
		}
		if err := xml.Unmarshal(drawing, new(struct{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var text bytes.Buffer
	if err := r.Write(&text, "markdown"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 2 times the errors (2 %) | 3 | 2 (66.7 %) | 0 (0 %) | 1 (33.3 %) | 300 | 0 (0 %) |", "(plots/rollout-aborted.svg)",
		"Of 2 versions that are as good 1 were aborted (50 %)", "2 ms after the verdict in the median",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("markdown lacks %q:\n%s", want, &text)
		}
	}
	if _, err := Read(strings.NewReader(`{"summary": []}`)); err == nil {
		t.Error("an empty result was read")
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}
