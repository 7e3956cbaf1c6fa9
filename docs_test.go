package weir_test

import (
	"fmt"
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

// around makes a whole file of a block of a page of docs, by its first line, which says where it belongs.
var around = map[string]string{
	"# in a listener": "pools: {blue: {endpoints: [\"127.0.0.1:8001\"]}}\nroutes: [{name: predict, split: {blue: 1}}]\n%s",
	"# in a route": "pools: {blue: {endpoints: [\"127.0.0.1:8001\"]}, green: {endpoints: [\"127.0.0.1:8002\"]}, shadow: {endpoints: [\"127.0.0.1:8003\"]}}\n" +
		"routes:\n  - name: predict\n    split: {blue: 90, green: 10}\n%s",
	"# in a pool":  "routes: [{name: predict, split: {blue: 1}}]\npools:\n  blue:\n    endpoints: [\"127.0.0.1:8001\"]\n%s",
	"# a file":     "%s",
	"# at the top": "pools: {blue: {endpoints: [\"127.0.0.1:8001\"]}}\n%s",
}

// TestBlocksOfPagesLoad loads each block of a page where it says that it belongs, and finds each metric that the
// page names.
func TestBlocksOfPagesLoad(t *testing.T) {
	for page, blocks := range map[string]int{
		"docs/traffic.md": 10, "docs/protocols.md": 10, "docs/rollouts.md": 3, "docs/experiments.md": 3, "docs/balancing.md": 1, "docs/kubernetes.md": 0,
		"docs/scaling.md": 2, "docs/monitoring.md": 1, "docs/docker.md": 1,
	} {
		t.Run(page, func(t *testing.T) { blocksLoad(t, page, blocks) })
	}
}

func blocksLoad(t *testing.T, page string, least int) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```ya?ml\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < least {
		t.Fatalf("%d blocks were found", len(blocks))
	}
	for _, m := range blocks {
		place, _, _ := strings.Cut(m[1], "\n")
		frame, ok := around[place]
		if !ok {
			t.Errorf("a block begins with %q, which is no place:\n%s", place, m[1])
			continue
		}
		indented := m[1]
		if place != "# at the top" && place != "# a file" {
			indented = regexp.MustCompile(`(?m)^`).ReplaceAllString(m[1], "    ")
		} else if !strings.Contains(m[1], "routes:") {
			indented += "routes: [{name: predict, split: {blue: 1}}]\n"
		}
		whole := "listeners: [{address: \":8080\"}, {address: \":8443\", tls: {client_ca: ca.crt, certificates: [{cert: a.crt, key: a.key}]}}]\n" + fmt.Sprintf(frame, indented)
		if place == "# in a listener" {
			whole = fmt.Sprintf(frame, "listeners:\n  - address: \":8443\"\n"+indented)
		}
		if _, err := config.Parse(page, []byte(whole)); err != nil {
			t.Errorf("a block of %s is not valid:\n%v\n%s", page, err, whole)
		}
	}
	var code strings.Builder
	for _, source := range tracked(t, ".go") {
		code.WriteString(source)
	}
	for _, name := range regexp.MustCompile(`\bweir_[a-z_]+\b`).FindAllString(string(text), -1) {
		if !strings.Contains(code.String(), `d("`+strings.TrimPrefix(name, "weir_")+`"`) {
			t.Errorf("%s names a metric %s, which weir does not have", page, name)
		}
	}
}
