package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests run the real go test on packages that fail at the first run or at every run: what a program leaves in its
// folder tells the runs apart.

const head = `package x

import (
	"os"
	"testing"
)

// runs counts the runs of a test.
func runs(name string) int {
	b, _ := os.ReadFile(name)
	_ = os.WriteFile(name, append(b, '.'), 0o600)
	return len(b) + 1
}

func TestWell(t *testing.T) {}
`

// once is a test that fails the first time.
const once = `
func TestOnce(t *testing.T) {
	t.Run("under", func(t *testing.T) {
		if runs("once") == 1 {
			t.Error("a hiccup")
		}
	})
}
`

// engines runs the tests twice, as proxy/enginetest does.
const engines = `
func TestMain(m *testing.M) { os.Exit(enginetest.Run(m.Run)) }
`

const always = `
func TestAlways(t *testing.T) { runs("always"); t.Error("a fault") }
`

func TestAgain(t *testing.T) {
	const enginetest = "../../proxy/enginetest"
	sources, err := os.ReadDir(enginetest)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		code   string
		flags  []string
		status int
		runs   map[string]int // of tests that count them
		says   []string
	}{
		"all pass":           {"", nil, 0, nil, []string{"ok  \tx/x"}},
		"one fails once":     {once, nil, 0, map[string]int{"once": 2}, []string{"a hiccup", "RUN AGAIN BY THEMSELVES (WHAT THEY SAID IS ABOVE): 1\n    x/x TestOnce\n", "ALL OF THEM HAVE PASSED"}},
		"both":               {once + always, nil, 1, map[string]int{"once": 2, "always": 2}, []string{"TestAlways of x/x failed twice", "THEMSELVES (WHAT THEY SAID IS ABOVE): 2\n"}},
		"four fail":          {once + strings.ReplaceAll(strings.Repeat(always, 3), "func TestAlways", "func TestAlways@"), nil, 1, map[string]int{"once": 1}, []string{"4 tests failed, which is more than 3"}},
		"it does not build":  {"nonsense", nil, 1, nil, []string{"x/x: it does not build", "found nonsense"}},
		"no package":         {"", []string{"./none"}, 1, nil, []string{"nothing is run again"}},
		"a leak":             {"func TestMain(m *testing.M) { m.Run(); os.Exit(runs(\"leak\")) }", nil, 1, map[string]int{"leak": 1}, []string{"x/x: it failed, and none of its tests"}},
		"a panic":            {"func TestX(t *testing.T) { runs(\"x\"); panic(7) }", nil, 1, map[string]int{"x": 1}, []string{"panic: 7", "nothing is run again: x/x: "}},
		"an exit":            {once + "\nfunc TestX(t *testing.T) { runs(\"x\"); os.Exit(1) }", nil, 1, map[string]int{"x": 1, "once": 1}, []string{"TestX has not ended"}},
		"its time is up":     {"func TestX(t *testing.T) { runs(\"x\"); select {} }", []string{"-timeout=1s"}, 1, map[string]int{"x": 1}, []string{"panic: test timed out", "nothing is run again"}},
		"a race that passes": {"func TestX(t *testing.T) { runs(\"x\"); println(\"its program said WARNING: DATA RACE\") }", nil, 1, map[string]int{"x": 1}, []string{"x/x: a data race"}},
		"a race and a hiccup": {once + "\nfunc TestX(t *testing.T) { t.Log(\"its program said WARNING: DATA RACE\") }", nil, 1, map[string]int{"once": 1},
			[]string{"x/x: a data race"}},
		"on one engine, once":          {engines + `func TestX(t *testing.T) { if enginetest.Name() == "loop" && runs("x") == 1 { t.Error("a hiccup") } }`, nil, 0, map[string]int{"x": 2}, []string{"on engine loop: exit status 1", "ALL OF THEM"}},
		"on one engine, twice":         {engines + `func TestX(t *testing.T) { if enginetest.Name() == "goroutine" { runs("x"); t.Error("a fault") } }`, nil, 1, map[string]int{"x": 2}, []string{"TestX of x/x failed twice"}},
		"a hiccup there, a crash here": {engines + `func TestX(t *testing.T) { if enginetest.Name() == "goroutine" { panic(7) } else if runs("x") == 1 { t.Error("a hiccup") } }`, nil, 1, map[string]int{"x": 1}, []string{"on engine goroutine: exit status 2", "nothing is run again"}},
		"a hiccup there, a leak here": {`func TestMain(m *testing.M) { os.Exit(enginetest.Run(func() int { n := m.Run(); if enginetest.Name() == "loop" { return 1 }; return n })) }
func TestX(t *testing.T) { if enginetest.Name() == "goroutine" && runs("x") == 1 { t.Error("a hiccup") } }`, nil, 1, map[string]int{"x": 1}, []string{"x/x: it failed on engine loop, and none of its tests"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			code := head + c.code
			for i := 0; strings.Contains(code, "@"); i++ {
				code = strings.Replace(code, "@", string(rune('A'+i)), 1)
			}
			files := map[string]string{"go.mod": "module x\n\ngo 1.26\n", "x/x_test.go": code}
			if strings.Contains(code, "enginetest.") {
				files["x/x_test.go"] = strings.Replace(code, `"testing"`, "\"testing\"\n\t\"x/enginetest\"", 1)
				for _, f := range sources {
					text, err := os.ReadFile(filepath.Join(enginetest, f.Name()))
					if err != nil {
						t.Fatal(err)
					}
					files["enginetest/"+f.Name()] = strings.ReplaceAll(string(text), `"weir/config"`, `"x/config"`)
				}
				files["config/config.go"] = "package config\n\nconst EngineAuto, EngineLoop, EngineGoroutine = \"auto\", \"loop\", \"goroutine\"\n"
			}
			for path, text := range files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			args := append(c.flags, "./x")
			if len(c.flags) == 0 {
				args = append([]string{"-vet=off"}, args...)
			}
			var out strings.Builder
			if status := run(dir, args, &out); status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("it does not say %q", s)
				}
			}
			for test, want := range c.runs {
				if b, _ := os.ReadFile(filepath.Join(dir, "x", test)); len(b) != want {
					t.Errorf("%s ran %d times, want %d", test, len(b), want)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}
