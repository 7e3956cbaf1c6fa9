package config

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse wants of any input that nothing panics, that every fault has a place and a
// message on one line, and that a configuration survives being rendered and read again.
// What the loader accepts the schema has to accept too.
func FuzzParse(f *testing.F) {
	f.Add(readSeed(f, "reference.yaml"))
	for _, folder := range []string{"good", "bad"} {
		paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			f.Add(readSeed(f, path))
		}
	}
	compiled := compileSchema(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("weir.yaml", data, testEnvironment)
		if err != nil {
			checkFaults(t, err)
			return
		}
		if value, err := plainValue(data); err == nil {
			if err := compiled.Validate(value); err != nil {
				t.Fatalf("the schema refuses what the loader accepts: %v", err)
			}
		}
		for form, render := range map[string]func(*Config) ([]byte, error){"YAML": Render, "JSON": RenderJSON} {
			text, err := render(c)
			if err != nil {
				t.Fatalf("%s: %v", form, err)
			}
			again, err := parse("weir.yaml", text, noEnvironment)
			if err != nil {
				t.Fatalf("the rendered %s has faults:\n%v\n%s", form, err, text)
			}
			if diff := cmp.Diff(c, again, byText); diff != "" {
				t.Fatalf("rendered as %s and read again (-before +after):\n%s", form, diff)
			}
			if diff := Diff(c, again); diff != nil {
				t.Fatalf("rendered as %s and read again: %v", form, diff)
			}
		}
	})
}

func readSeed(f *testing.F, path string) []byte {
	f.Helper()
	return []byte(readTest(f, path))
}

func checkFaults(t *testing.T, err error) {
	t.Helper()
	faults, ok := err.(Faults)
	if !ok || len(faults) == 0 {
		t.Fatalf("the error is a %T: %v", err, err)
	}
	for _, fault := range faults {
		if fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
			t.Errorf("a fault without place or message: %+v", fault)
		}
		if one := len(lines(fault)); one != 1 {
			t.Errorf("a fault of %d lines: %q", one, fault)
		}
	}
}
