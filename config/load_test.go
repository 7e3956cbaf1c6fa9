package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the expected faults, the golden files and reference.yaml anew")

// testEnvironment is what the files of testdata find in the environment.
func testEnvironment(name string) (string, bool) {
	value, ok := map[string]string{
		"PORT": "8080", "WEIGHT": "12.5", "MODEL_PORT": "8001", "EMPTY": "", "WORD": "many",
	}[name]
	return value, ok
}

func parseTest(t *testing.T, data string) (*Config, error) {
	t.Helper()
	return parse("weir.yaml", []byte(data), testEnvironment)
}

// files returns the files of a folder of testdata.
func files(t *testing.T, folder string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s (%v)", folder, err)
	}
	return paths
}

func readTest(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestBadFiles compares the faults of each file with the comments it begins with, to the letter.
func TestBadFiles(t *testing.T) {
	for _, path := range files(t, "bad") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data := readTest(t, path)
			if *update {
				data = withFaults(t, path, data)
			}
			_, err := parseTest(t, data)
			var want []string
			for line := range strings.Lines(data) {
				if fault, ok := strings.CutPrefix(line, wantMark); ok {
					want = append(want, strings.TrimSuffix(fault, "\n"))
				}
			}
			if diff := cmp.Diff(want, lines(err)); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

const wantMark = "# want: "

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// withFaults writes the faults of a file into it. They stand in front, so the file is
// parsed with as many lines before it as there are faults.
func withFaults(t *testing.T, path, data string) string {
	for strings.HasPrefix(data, wantMark) {
		_, data, _ = strings.Cut(data, "\n")
	}
	_, err := parseTest(t, data)
	_, err = parseTest(t, strings.Repeat("#\n", len(lines(err)))+data)
	var out strings.Builder
	for _, line := range lines(err) {
		out.WriteString(wantMark + line + "\n")
	}
	out.WriteString(data)
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// byText compares values that have no exported fields.
var byText = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b *Regexp) bool {
		return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
	}),
}
