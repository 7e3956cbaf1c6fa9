package dockerfile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// Context returns the files that a build in folder gets to see, sorted: those that git has or would take, without what
// .dockerignore leaves out. git's own view keeps out what lies about in a checkout and is in no clone.
func Context(folder string) ([]string, error) {
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = folder
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files in %s: %w", folder, err)
	}
	ignore, err := ignored(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		out, err := ignore.MatchesOrParentMatches(path)
		if err != nil {
			return nil, err
		}
		if info, err := os.Lstat(filepath.Join(folder, path)); out || err != nil || !info.Mode().IsRegular() {
			continue // also what git has and the checkout has not
		}
		files = append(files, path)
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// ignored reads folder's .dockerignore with the engine's own matcher; without the file nothing is left out.
func ignored(folder string) (*patternmatcher.PatternMatcher, error) {
	f, err := os.Open(filepath.Join(folder, ".dockerignore"))
	if os.IsNotExist(err) {
		return patternmatcher.New(nil)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return patternmatcher.New(patterns)
}

// Matching returns the files of a context that a source of COPY names: a file, a folder with all in it, or a pattern.
// Paths in the result are those below the folder, or the file's name.
func Matching(context []string, source string) map[string]string {
	source = strings.TrimPrefix(filepath.ToSlash(filepath.Clean(source)), "/")
	files := map[string]string{}
	for _, path := range context {
		if match, err := filepath.Match(source, path); err == nil && match {
			files[path] = filepath.Base(path)
		} else if source == "." {
			files[path] = path
		} else if below, ok := strings.CutPrefix(path, source+"/"); ok {
			files[path] = below
		}
	}
	return files
}
