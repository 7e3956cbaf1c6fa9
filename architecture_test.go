// Package weir_test holds the tests of the repository as a whole: which room may import which,
// and that what the documents say can be followed.
package weir_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is the hard limit of a source file; 400 is where to think.
const maxLines = 500

// room says which other rooms the packages under a folder may import. A nested room is not part
// of the one around it. Tests are free: anybody's test may use backendtest.
type room struct {
	folder string
	may    []string // rooms, with those nested in them
	never  []string // packages it must not even reach through others
}

// rooms in the order of the imports, which point downward only. The longest folder decides.
func rooms() []room {
	network := []string{"net/http", "github.com/valyala/fasthttp"}
	return []room{
		{folder: "cmd", may: []string{""}},
		{folder: "proxy/admin", may: []string{"proxy/control", "proxy", "balancer", "config", "internal"}},
		{folder: "proxy/control", may: []string{"proxy", "balancer", "config", "internal"}},
		{folder: "proxy", may: []string{"proxy/auth", "proxy/limit", "proxy/queue", "proxy/gradient", "proxy/aside", "proxy/cache", "proxy/compare", "proxy/h2", "proxy/grpc", "balancer", "config", "backend/load", "internal"}},
		{folder: "proxy/auth", may: []string{"config", "internal"}}, // follows its files as config follows its own
		{folder: "proxy/limit", never: network},
		{folder: "proxy/cache", never: network},
		{folder: "proxy/queue", never: network},
		{folder: "proxy/gradient", never: network},
		{folder: "proxy/aside", may: []string{"balancer", "config", "proxy/h2"}},
		{folder: "proxy/h2", never: network},
		{folder: "proxy/grpc", never: network},
		{folder: "proxy/compare", may: []string{"config", "backend/tensor"}, never: network},
		{folder: "balancer", may: []string{"config", "backend/load", "internal"}, never: network},
		{folder: "config", never: network},
		{folder: "bench"},
		{folder: "backend", may: []string{"backend/inference", "backend/load", "backend/tensor", "internal"}},
		{folder: "backend/inference"},
		{folder: "backend/onnx", may: []string{"backend/tensor"}},
		{folder: "backend/gpu"},
		{folder: "backend/tensor"},
		{folder: "backend/load"},
		{folder: "backend/models"},
		{folder: "backend/backendtest"},
		{folder: "scripts"},
		{folder: "docker"}, // tests alone; docker/checks is a module of its own
		{folder: "internal"},
		{folder: "internal/certificate", may: []string{"config", "internal"}}, // follows its files as config follows its own
	}
}

// pkg is what go list tells about a package.
type pkg struct {
	ImportPath, Name string
	Standard         bool
	Imports, Deps    []string
	CgoFiles         []string
}

// folder is the package's place in the repository, "." for the root.
func (p pkg) folder() string {
	if folder, ok := strings.CutPrefix(p.ImportPath, "weir/"); ok {
		return folder
	}
	return "."
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Name,Standard,Imports,Deps,CgoFiles"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var packages []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func within(folder, of string) bool {
	return of == "" || folder == of || strings.HasPrefix(folder, of+"/")
}

func roomOf(folder string) (room, bool) {
	var best room
	found := false
	for _, r := range rooms() {
		if within(folder, r.folder) && len(r.folder) > len(best.folder) {
			best, found = r, true
		}
	}
	return best, found
}

func TestImportsPointDownward(t *testing.T) {
	checked := 0
	for _, p := range list(t, "./...") {
		if p.folder() == "." {
			continue
		}
		r, ok := roomOf(p.folder())
		if !ok {
			t.Errorf("%s is in no room: give it a place in rooms(), or move it", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			folder, own := strings.CutPrefix(i, "weir/")
			other, _ := roomOf(folder)
			if !own || other.folder == r.folder {
				continue
			}
			if !slices.ContainsFunc(r.may, func(m string) bool { return within(other.folder, m) }) {
				t.Errorf("%s imports %s: %s may import %q only", p.ImportPath, i, r.folder, r.may)
			}
		}
		for _, never := range r.never {
			if slices.Contains(p.Deps, never) {
				t.Errorf("%s depends on %s, which %s must not even reach through others", p.ImportPath, never, r.folder)
			}
		}
		checked++
	}
	if checked < 10 {
		t.Errorf("only %d packages were checked", checked)
	}
}

func TestCgoIsInTwoLeaves(t *testing.T) {
	leaves := map[string]string{
		"github.com/yalue/onnxruntime_go":         "backend/onnx",
		"github.com/NVIDIA/go-nvml/pkg/nvml":      "backend/gpu",
		"github.com/NVIDIA/go-nvml/pkg/nvml/mock": "backend/gpu",
		"github.com/NVIDIA/go-nvml/pkg/dl":        "backend/gpu",
		"C":                                       "no package of weir",
	}
	for _, p := range list(t, "./...") {
		for _, i := range p.Imports {
			if leaf, ok := leaves[i]; ok && !within(p.folder(), leaf) {
				t.Errorf("%s imports %s, which belongs in %s", p.ImportPath, i, leaf)
			}
		}
	}
	for _, p := range list(t, "-deps", "./cmd/weir", "./cmd/weir-bench") {
		if len(p.CgoFiles) > 0 && !p.Standard {
			t.Errorf("weir or weir-bench links %s, which needs cgo; both are static programs", p.ImportPath)
		}
	}
}

// TestProxyLinksNoGRPC: what speaks gRPC in weir is its own HTTP/2, which passes messages on and
// does not read them. The library is weir-backend's, weir-bench's and the tests'.
func TestProxyLinksNoGRPC(t *testing.T) {
	seen := false
	for _, p := range list(t, "-deps", "./cmd/weir") {
		seen = seen || p.ImportPath == "weir/proxy"
		if within(p.ImportPath, "google.golang.org/grpc") {
			t.Errorf("weir links %s", p.ImportPath)
		}
	}
	if !seen {
		t.Error("weir's packages were not listed")
	}
}

func TestSourceFiles(t *testing.T) {
	files := 0
	for path, text := range tracked(t, ".go") {
		files++
		for _, word := range []string{"TO" + "DO", "FIX" + "ME"} {
			if strings.Contains(text, word) {
				t.Errorf("%s contains %s: finish it, or leave it out and say so", path, word)
			}
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if ast.IsGenerated(f) {
			continue // its form is its generator's
		}
		if n := strings.Count(text, "\n"); n > maxLines {
			t.Errorf("%s has %d lines, at most %d: which part of it has a name of its own?", path, n, maxLines)
		}
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "misc"}, f.Name.Name) {
			t.Errorf("%s: package %s says nothing about what is in it", path, f.Name.Name)
		}
		if slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` }) {
			checkNoSkip(t, path, f)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function: let main wire things", path)
			}
		}
	}
	if files < 50 {
		t.Errorf("only %d Go files were read", files)
	}
}

// checkNoSkip refuses a test that is left out by itself, however it says so: it would pass without having looked.
func checkNoSkip(t *testing.T, path string, f *ast.File) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, s.Sel.Name) {
			t.Errorf("%s calls %s: a test runs, or is not there", path, s.Sel.Name)
		}
		return true
	})
}

// tracked yields the repository's files with that ending, by path. Folders that begin with a
// dot and bin are not the repository's.
func tracked(t *testing.T, ending string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "bin") {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(path, ending) {
			return nil
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
