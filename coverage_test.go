package weir_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

var updateCoverage = flag.Bool("update", false, "write docs/guide-coverage.md")

// covered is docs/guide-coverage.yaml: what the production guide that weir replaces has, and where it is here.
type covered struct {
	Sections []struct {
		Title string
		Rows  []struct {
			Guide string   // what the guide has, or what is wrong with it
			Weir  string   // what there is instead
			Files []string // where
			Tests []string // which show it: names of Go tests, or files with tests of their own
		}
	}
	Never []string // what was never started, and why
}

// TestGuideCoverage: every file and every test that the table names is there, and the page is the table.
func TestGuideCoverage(t *testing.T) {
	text, err := os.ReadFile("docs/guide-coverage.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c covered
	if err := yaml.Load(text, &c, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, source := range tracked(t, "_test.go") {
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(source, -1) {
			tests[m[1]] = true
		}
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	b := &strings.Builder{}
	b.WriteString("# What covers the production guide\n\n<!-- Generated from guide-coverage.yaml by go test . -run GuideCoverage -update: edit that. -->\n\n" +
		"weir replaces the nginx, the scripts and the stack of a guide to deploying models in production. For each of its parts: what there is here, in\n" +
		"which file, and which test shows it. A test of its own holds this page to the files and tests that are there.\n")
	rows := 0
	for _, s := range c.Sections {
		fmt.Fprintf(b, "\n## %s\n\n| the guide | weir | files | shown by |\n| --- | --- | --- | --- |\n", s.Title)
		for _, r := range s.Rows {
			rows++
			if r.Guide == "" || r.Weir == "" || len(r.Files)+len(r.Tests) == 0 {
				t.Errorf("a row of %q says too little: %+v", s.Title, r)
			}
			for _, f := range r.Files {
				if !exists(f) {
					t.Errorf("%s (%s): there is no file %s", r.Guide, s.Title, f)
				}
			}
			for _, name := range r.Tests {
				if !tests[name] && !exists(name) {
					t.Errorf("%s (%s): there is no test %s", r.Guide, s.Title, name)
				}
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", cell(r.Guide), cell(r.Weir), linked(r.Files), linked(r.Tests))
		}
	}
	if rows < 80 {
		t.Errorf("%d rows: the guide has more parts", rows)
	}
	b.WriteString("\n## What was never started\n\n")
	for _, n := range c.Never {
		fmt.Fprintf(b, "- %s\n", n)
	}
	if *updateCoverage {
		if err := os.WriteFile("docs/guide-coverage.md", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page, err := os.ReadFile("docs/guide-coverage.md"); err != nil || string(page) != b.String() {
		t.Errorf("docs/guide-coverage.md is not what its YAML says (%v): go test . -run GuideCoverage -update", err)
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// linked names files, with links from docs, and tests.
func linked(names []string) string {
	var all []string
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "Test"):
			all = append(all, "`"+n+"`")
		case strings.HasPrefix(n, "docs/"):
			all = append(all, fmt.Sprintf("[%s](%s)", n, strings.TrimPrefix(n, "docs/")))
		default:
			all = append(all, fmt.Sprintf("[%s](../%s)", n, n))
		}
	}
	return strings.Join(all, ", ")
}
