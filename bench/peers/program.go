package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Find looks for a program on the path and where Debian puts servers.
func Find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path := "/usr/sbin/" + name; Executable(path) {
		return path, nil
	}
	return "", fmt.Errorf("%s is not installed: on Debian, apt-get install --no-install-recommends %s; or leave it out of the comparison", name, name)
}

// Executable reports whether there is a program at a path.
func Executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// Version returns the first line that a program says of its version.
func Version(ctx context.Context, path, arg string) (string, error) {
	out, err := exec.CommandContext(ctx, path, arg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, arg, err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return brief(line), nil
}

// brief takes from what a program says of its version the parts that say nothing: its name twice, where it
// comes from, the sum of its module.
func brief(version string) string {
	for _, behind := range []string{" - https://", " h1:"} {
		version, _, _ = strings.Cut(version, behind)
	}
	for _, before := range []string{"nginx version: nginx/", "HAProxy version "} {
		version = strings.TrimPrefix(version, before)
	}
	return strings.TrimSpace(version)
}

// Write puts a peer's configuration into its folder, which it makes, and returns the path of the first file.
func Write(s *Setup, names []string) (string, error) {
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := Render(name, s)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(s.Dir, name), text, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(s.Dir, names[0]), nil
}
