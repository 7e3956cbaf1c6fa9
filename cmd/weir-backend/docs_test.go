package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestBlocksOfThePageLoad loads each block of settings of the page about this program, and finds each metric that it names.
func TestBlocksOfThePageLoad(t *testing.T) {
	page, err := os.ReadFile("../../docs/backend.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 5 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	for _, b := range blocks {
		if _, err := gather(t, nil, b[1], nil); err != nil {
			t.Errorf("%v:\n%s", err, b[1])
		}
	}
	p := start(t, nil, "--model", "iris="+iris, "--model-control")
	base := p.base()
	for range 2 {
		if status, _, answer := ask(t, "POST", base+"/v2/repository/models/iris/load", ""); status != 200 {
			t.Fatalf("%d %v", status, answer)
		}
	}
	metrics := text(t, base+"/metrics")
	for _, name := range regexp.MustCompile(`\bml_[a-z_]+[a-z]`).FindAllString(string(page), -1) {
		family := strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")
		if !strings.Contains(metrics, "# HELP "+family+" ") {
			t.Errorf("the page names %s, which the metrics do not have", name)
		}
	}
}
