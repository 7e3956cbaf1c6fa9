// Programs and scripts are run here, as they are built, without the race detector: under it the same would be seen once more.

//go:build !race

package prometheus_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// commandOfWeir is a command in a code span or a block, up to its first argument.
var commandOfWeir = regexp.MustCompile("(?m)(?:^|`)weir ([a-z]+(?: [a-z]+)*)( [^`\n#]*)?")

// commandsExist: whoever follows a runbook at night finds the commands, and their flags, that it names.
func commandsExist(t *testing.T, s *stack) {
	help := map[string]string{}
	found := 0
	for _, path := range pages(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range commandOfWeir.FindAllStringSubmatch(string(text), -1) {
			command := m[1]
			if name, _, ok := strings.Cut(command, " "); ok && name != "rollout" && name != "experiment" && name != "config" {
				command = name // what follows is an argument in small letters
			}
			found++
			if help[command] == "" {
				out, err := exec.CommandContext(t.Context(), filepath.Join(s.dir, "weir"), append(strings.Fields(command), "--help")...).CombinedOutput()
				if err != nil {
					t.Errorf("%s: weir %s: %v\n%s", path, command, err, out)
				}
				help[command] = string(out)
			}
			if !strings.Contains(help[command], "  weir "+command) {
				t.Errorf("%s: there is no command weir %s", path, command)
			}
			for _, flag := range regexp.MustCompile(`--?[a-z]+`).FindAllString(m[2], -1) {
				if !strings.Contains(help[command], flag) {
					t.Errorf("%s: weir %s has no flag %s", path, command, flag)
				}
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d commands were read", found)
	}
}
