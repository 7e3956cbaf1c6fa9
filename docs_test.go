package weir_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"weir/config"
)

// The documents say only what can be followed: links lead somewhere, make targets exist,
// configurations load.

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)\s]*)?\)`)
	for path, text := range tracked(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
	}
}

func TestMakeTargetsExist(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(makefile), -1) {
		targets[m[1]] = true
	}
	if !targets["run"] || !targets["test"] {
		t.Fatalf("the Makefile's targets were not found: %v", targets)
	}
	said := regexp.MustCompile("(?m)(?:`|^\\$? ?)make ([a-z-]+)")
	for path, text := range tracked(t, ".md") {
		for _, m := range said.FindAllStringSubmatch(text, -1) {
			if !targets[m[1]] {
				t.Errorf("%s says make %s, which the Makefile does not have", path, m[1])
			}
		}
	}
}

func TestConfigurationsInDocumentsLoad(t *testing.T) {
	block := regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```")
	for path, text := range tracked(t, ".md") {
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(m[1], "listeners:") {
				continue // a fragment, or not weir's
			}
			if _, err := config.Parse(path, []byte(m[1])); err != nil {
				t.Errorf("a configuration in %s is not valid:\n%v\n%s", path, err, m[1])
			}
		}
	}
}
