package workflows

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

const root = "../../.."

// workflow is a file of a workflow.
type workflow struct {
	path   string
	text   []byte
	parsed *actionlint.Workflow
}

func workflows(t *testing.T) []workflow {
	t.Helper()
	var all []workflow
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Fatalf("only %v were found", files)
	}
	for _, f := range append(files, filepath.Join(root, "docker/pipeline/deploy.yaml")) {
		all = append(all, read(t, f))
	}
	return all
}

func read(t *testing.T, path string) workflow {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parsed, errs := actionlint.Parse(text)
	for _, e := range errs {
		t.Errorf("%s: %v", path, e)
	}
	if parsed == nil {
		t.Fatalf("%s is no workflow", path)
	}
	return workflow{path, text, parsed}
}

// pin is an action at a commit, with its version in the comment.
var pin = regexp.MustCompile(`(?m)uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+)\.\d+\.\d+$`)

// TestActionlint has actionlint find nothing, in the files as they are and with the actions by their major version, of
// which it knows the inputs.
func TestActionlint(t *testing.T) {
	project, err := actionlint.NewProject(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range workflows(t) {
		for _, text := range [][]byte{w.text, pin.ReplaceAll(w.text, []byte("uses: $1@$3"))} {
			for _, e := range lint(t, w.path, text, project) {
				t.Error(e)
			}
		}
	}
}

func lint(t *testing.T, path string, text []byte, project *actionlint.Project) []*actionlint.Error {
	t.Helper()
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Lint(path, text, project)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestActionlintFinds plants a fault, so that the test above says something.
func TestActionlintFinds(t *testing.T) {
	text := strings.Replace(string(workflows(t)[0].text), "needs: [lint, test, race, fuzz]", "needs: [lint, tests]", 1)
	if len(lint(t, "planted.yaml", []byte(text), nil)) == 0 {
		t.Error("a job that needs one that is not there was accepted")
	}
}

// TestActionsArePinned wants the commit of each action, with its version, and the same one everywhere.
func TestActionsArePinned(t *testing.T) {
	commits := map[string]string{}
	for _, w := range workflows(t) {
		for _, line := range strings.Split(string(w.text), "\n") {
			_, uses, found := strings.Cut(line, "uses: ")
			if !found || strings.HasPrefix(uses, "./") {
				continue
			}
			m := pin.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: %q is not pinned to a commit, with its version behind it", w.path, uses)
				continue
			}
			if before, ok := commits[m[1]]; ok && before != m[2] {
				t.Errorf("%s: %s is at %s here, elsewhere at %s", w.path, m[1], m[2], before)
			}
			commits[m[1]] = m[2]
		}
	}
	if len(commits) < 8 {
		t.Errorf("only %d actions were found", len(commits))
	}
}

// TestJobsAreBounded wants a time limit of each job, and permissions that are given one by one.
func TestJobsAreBounded(t *testing.T) {
	for _, w := range workflows(t) {
		if p := w.parsed.Permissions; p == nil || p.All != nil || p.Scopes["contents"] == nil || p.Scopes["contents"].Value.Value != "read" {
			t.Errorf("%s: jobs have to begin with contents: read alone", w.path)
		}
		for name, j := range w.parsed.Jobs {
			if j.WorkflowCall == nil && j.TimeoutMinutes == nil {
				t.Errorf("%s: job %s has no timeout-minutes", w.path, name)
			}
		}
	}
}

// steps are those of all jobs that run something.
func (w *workflow) runs() map[string]string {
	all := map[string]string{}
	for name, j := range w.parsed.Jobs {
		for i, s := range j.Steps {
			if run, ok := s.Exec.(*actionlint.ExecRun); ok {
				all[filepath.Base(w.path)+" "+name+" "+string(rune('a'+i))] = run.Run.Value
			}
		}
	}
	return all
}

var expression = regexp.MustCompile(`\$\{\{.*?\}\}`)

// TestScriptsParse has bash read each run block, with a word in the place of each expression.
func TestScriptsParse(t *testing.T) {
	checked := 0
	for _, w := range workflows(t) {
		for name, script := range w.runs() {
			cmd := exec.CommandContext(t.Context(), "bash", "-n")
			cmd.Stdin = strings.NewReader(expression.ReplaceAllString(script, "x"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", name, err, out, script)
			}
			checked++
		}
	}
	for _, pattern := range []string{"docker/pipeline/*.sh", "docker/kubernetes/*.sh"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", f).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", f, err, out)
			}
			checked++
		}
	}
	if checked < 25 {
		t.Errorf("only %d scripts were checked", checked)
	}
}

// TestInjection wants nothing that others may choose in a script by ${{ }}: a branch or a title would be run as code.
func TestInjection(t *testing.T) {
	safe := regexp.MustCompile(`^\$\{\{ contains\(github\.ref_name, '-'\) && '--prerelease' \|\| '' \}\}$`)
	for _, w := range workflows(t) {
		for name, script := range w.runs() {
			for _, e := range expression.FindAllString(script, -1) {
				if !safe.MatchString(e) {
					t.Errorf("%s: %s in a script; give it by env", name, e)
				}
			}
		}
	}
}

// TestWhatStepsNameIsThere looks for the targets of make, the scripts, programs and Dockerfiles.
func TestWhatStepsNameIsThere(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	there := func(of, path string, executable bool) {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Errorf("%s: %s: %v", of, path, err)
		} else if executable && info.Mode()&0o111 == 0 {
			t.Errorf("%s: %s cannot be executed", of, path)
		}
	}
	named := 0
	for _, w := range workflows(t) {
		for name, script := range w.runs() {
			for _, m := range regexp.MustCompile(`(?m)(?:^|[;&|(]\s*)\s*make ([^\n;&|]+)`).FindAllStringSubmatch(script, -1) {
				for _, target := range strings.Fields(m[1]) {
					if named++; !strings.Contains(target, "=") && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(target)+`:`).Match(makefile) {
						t.Errorf("%s: make %s: there is no such target", name, target)
					}
				}
			}
			for _, m := range regexp.MustCompile(`\b(?:docker|scripts)/[\w./-]+\.sh\b`).FindAllString(script, -1) {
				named++
				there(name, m, true)
			}
			for _, m := range regexp.MustCompile(`pipeline\.sh (\w+)`).FindAllStringSubmatch(script, -1) {
				steps, err := os.ReadFile(filepath.Join(root, "docker/pipeline/pipeline.sh"))
				if err != nil {
					t.Fatal(err)
				}
				if !regexp.MustCompile(`#   pipeline\.sh ` + m[1] + `\s`).Match(steps) {
					t.Errorf("%s: pipeline.sh has no step %s", name, m[1])
				}
			}
		}
		for name, j := range w.parsed.Jobs {
			for _, file := range dockerfiles(j) {
				named++
				there(w.path+" "+name, file, false)
			}
			if c := j.WorkflowCall; c != nil {
				there(name, c.Uses.Value, false)
			}
		}
	}
	if named < 20 {
		t.Errorf("only %d names were looked for", named)
	}
}

// dockerfiles are the files of a job's builds, with what the matrix puts into their names.
func dockerfiles(j *actionlint.Job) (files []string) {
	for _, s := range j.Steps {
		a, ok := s.Exec.(*actionlint.ExecAction)
		if !ok || a.Inputs["file"] == nil {
			continue
		}
		file := a.Inputs["file"].Value.Value
		if !strings.Contains(file, "${{") {
			files = append(files, file)
			continue
		}
		for _, c := range j.Strategy.Matrix.Include.Combinations {
			one := file
			for key, value := range c.Assigns {
				if text, ok := value.Value.(*actionlint.RawYAMLString); ok {
					one = strings.ReplaceAll(one, "${{ matrix."+key+" }}", text.Value)
				}
			}
			files = append(files, one)
		}
	}
	return files
}

// TestWhatIsScannedIsBuilt wants the image of each scan to be one that a step before it in the same job has built and
// loaded under that name. (The guide scans a tag that nothing pushes.) And nothing is pushed before it was scanned.
func TestWhatIsScannedIsBuilt(t *testing.T) {
	scans := 0
	for _, w := range workflows(t) {
		for name, j := range w.parsed.Jobs {
			built, scanned := map[string]bool{}, false
			for _, s := range j.Steps {
				a, ok := s.Exec.(*actionlint.ExecAction)
				if !ok {
					continue
				}
				input := func(key string) string {
					if i := a.Inputs[key]; i != nil {
						return i.Value.Value
					}
					return ""
				}
				switch uses := a.Uses.Value; {
				case strings.HasPrefix(uses, "docker/build-push-action@") && input("load") == "true":
					built[input("tags")] = true
				case strings.HasPrefix(uses, "docker/build-push-action@"):
					if !scanned {
						t.Errorf("%s: job %s pushes what was not scanned", w.path, name)
					}
				case strings.HasPrefix(uses, "aquasecurity/trivy-action@"):
					scans++
					scanned = scanned || input("exit-code") == "1"
					if !built[input("image-ref")] {
						t.Errorf("%s: job %s scans %q, which it has not built", w.path, name, input("image-ref"))
					}
				}
			}
		}
	}
	if scans < 4 {
		t.Errorf("only %d scans were found", scans)
	}
}
