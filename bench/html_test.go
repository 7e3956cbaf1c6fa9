package bench

import (
	"bytes"
	"strings"
	"testing"
)

func rendered(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHTMLHoldsTheFigures(t *testing.T) {
	r := fullReport()
	r.Target = `http://127.0.0.1/<script>alert(1)</script>`
	html := rendered(t, r)
	for _, want := range []string{
		"100.2", "1.88%", "891ms", "≤50ms/s", "90.00%", "80.00%", // figures
		"DEVIATES from the weights", "3 of them on more than one variant",
		"100/s is the highest rate that keeps", "no: nothing was answered",
		"Beware: the machine was 97% busy", "after 2.5 s of warm-up",
		"Latency by percentile", "Latency over time", "Share of the users, and weight", "Errors by kind", "Lag of the generator", "p99 latency by rate",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(html, "<script>alert") || strings.Contains(html, "NaN") || strings.Contains(html, "ZgotmplZ") {
		t.Error("the page holds what it should not: foreign script, a position that is no number, or a refused value")
	}
	for _, word := range []string{"src=", "href=", "@import"} {
		if strings.Contains(html, word) {
			t.Errorf("%s: the page fetches something", word)
		}
	}
}

// A report of nothing, and one without anything optional, are pages too.
func TestHTMLOfLittle(t *testing.T) {
	empty := Summarize(NewTally(0), 0)
	empty.Interrupted = true
	if html := rendered(t, empty); !strings.Contains(html, "no values") || !strings.Contains(html, "Interrupted") || !strings.Contains(html, "No request failed") {
		t.Errorf("an empty report: %s", html)
	}
	if html := rendered(t, sampleReport()); strings.Contains(html, "Highest rate") || strings.Contains(html, "Beware") {
		t.Error("a plain report speaks of a search or of limits")
	}
}
