package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json: go doc test2json.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

// name is a test on the first level; what is under it is run with it.
type name struct{ pkg, test string }

// tests is what a run of go test has come to.
type tests struct {
	w        io.Writer
	packages map[string]*tested // that have begun and not ended
	failed   []name             // each once, in the order of their ends
	ran      map[name]int       // how often each has passed or failed: once on each engine
	why      []string           // failures that no failed test explains
	broken   bool               // a package has failed
}

// tested is a package under test.
type tested struct {
	name  string
	lines []line
	open  map[string]int // tests and what is under them, that have begun and not ended
	fails int            // since the last engine ended; of the package, where it has none
	why   []string       // what no failed test explains, should the package fail
	ended bool           // an engine, so that they explain the package's failure
}

// line is something that a test has written, or, with no test, the package.
type line struct{ test, text string }

func newTests(w io.Writer) *tests {
	return &tests{w: w, packages: map[string]*tested{}, ran: map[name]int{}}
}

// add reads the events of a run.
func (t *tests) add(events io.Reader) error {
	d := json.NewDecoder(events)
	for {
		var e event
		err := d.Decode(&e)
		switch {
		case errors.Is(err, io.EOF):
			for p := range t.packages {
				t.blame(p, "it has not ended")
			}
			return nil
		case err != nil:
			t.blame("go test", "no events: "+err.Error())
			return err
		}
		t.event(e)
	}
}

func (t *tests) blame(pkg, why string) {
	t.broken = true
	if why = pkg + ": " + why; !slices.Contains(t.why, why) {
		t.why = append(t.why, why)
	}
}

func (t *tests) event(e event) {
	if e.Package == "" { // of a build
		fmt.Fprint(t.w, e.Output)
		return
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &tested{name: e.Package, open: map[string]int{}}
		t.packages[e.Package] = p
	}
	root, _, _ := strings.Cut(e.Test, "/")
	switch e.Action {
	case "run":
		p.open[e.Test]++
	case "output":
		p.lines = append(p.lines, line{root, e.Output})
		t.read(p, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.end(p, e)
			return
		}
		p.open[e.Test]--
		if e.Test == root {
			t.ran[name{p.name, root}]++
		}
		if e.Action == "fail" {
			p.fails++
			if n := (name{p.name, root}); !slices.Contains(t.failed, n) {
				t.failed = append(t.failed, n)
			}
		}
	}
}

var (
	// engineEnd is what proxy/enginetest writes behind the output of an engine whose tests have failed.
	engineEnd = regexp.MustCompile(`^on engine (\w+): (.*)\n`)
	// crash is how go test and Go's runtime say that a program has not ended by itself; 1 is the status of failed tests.
	crash = regexp.MustCompile(`^(?:panic: |fatal error: |signal: |\*\*\* Test killed|exit status (?:[02-9]|1\d))`)
)

// read looks in a line for what is worse than a test that failed.
func (t *tests) read(p *tested, text string) {
	if strings.Contains(text, "DATA RACE") {
		t.blame(p.name, "a data race")
	}
	m := engineEnd.FindStringSubmatch(text)
	if crash.MatchString(text) || m != nil && m[2] != "exit status 1" {
		p.why = append(p.why, strings.TrimSpace(text))
	}
	if m != nil {
		p.explain(" on engine " + m[1])
		p.fails, p.ended = 0, true
	}
}

// explain notes it where a failure has no failed test.
func (p *tested) explain(where string) {
	if p.fails == 0 {
		p.why = append(p.why, "it failed"+where+", and none of its tests")
	}
}

// end judges a package, and writes what go test would.
func (t *tests) end(p *tested, e event) {
	delete(t.packages, p.name)
	if e.Action != "fail" {
		if len(p.lines) > 0 {
			fmt.Fprint(t.w, p.lines[len(p.lines)-1].text) // "ok", and how long it took
		}
		return
	}
	t.broken = true
	for test, n := range p.open {
		if n != 0 {
			p.why = append(p.why, test+" has not ended")
		}
	}
	if e.FailedBuild != "" {
		p.why = append(p.why, "it does not build")
	} else if !p.ended {
		p.explain("")
	}
	for _, why := range p.why {
		t.blame(p.name, why)
	}
	for _, l := range p.lines {
		if l.test == "" || t.ran[name{p.name, l.test}] == 0 || slices.Contains(t.failed, name{p.name, l.test}) {
			fmt.Fprint(t.w, l.text)
		}
	}
}

func (t *tests) passed() bool { return !t.broken && len(t.failed) == 0 }

// hopeless says why running the failed tests again would prove nothing; "" where it would.
func (t *tests) hopeless() string {
	switch {
	case len(t.why) > 0:
		return strings.Join(t.why, "; ")
	case len(t.failed) > most:
		return fmt.Sprintf("%d tests failed, which is more than %d", len(t.failed), most)
	case len(t.failed) == 0:
		return "go test failed, and no test"
	}
	return ""
}
