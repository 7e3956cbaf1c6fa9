package workflows

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
)

// event is what a workflow is started by.
type event struct{ name, ref string }

// runsFor returns the jobs that run when all goes well. As GitHub has it, a job is skipped where one that it needs was,
// unless its condition asks for the status of others itself.
func runsFor(w *actionlint.Workflow, e event) ([]string, error) {
	state := map[string]bool{}
	var decide func(name string) (bool, error)
	decide = func(name string) (bool, error) {
		if runs, ok := state[name]; ok {
			return runs, nil
		}
		j := w.Jobs[name]
		if j == nil {
			return false, fmt.Errorf("there is no job %s", name)
		}
		runs := true
		for _, n := range j.Needs {
			needed, err := decide(n.Value)
			if err != nil {
				return false, err
			}
			runs = runs && needed
		}
		if j.If != nil && runs {
			v, err := condition(j.If.Value, e)
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			runs = v
		}
		state[name] = runs
		return runs, nil
	}
	var all []string
	for name := range w.Jobs {
		runs, err := decide(name)
		if err != nil {
			return nil, err
		}
		if runs {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all, nil
}

// condition evaluates an if of a job: comparisons of github.ref and github.event_name with texts, and, or, not.
func condition(text string, e event) (bool, error) {
	text = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(text), "${{"), "}}")
	node, err := actionlint.NewExprParser().Parse(actionlint.NewExprLexer(text + "}}"))
	if err != nil {
		return false, err
	}
	v, bad := value(node, e)
	if bad != nil {
		return false, bad
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
	return b, nil
}

func value(n actionlint.ExprNode, e event) (any, error) {
	both := func(a, b actionlint.ExprNode) (any, any, error) {
		l, err := value(a, e)
		if err != nil {
			return nil, nil, err
		}
		r, err := value(b, e)
		return l, r, err
	}
	switch n := n.(type) {
	case *actionlint.StringNode:
		return n.Value, nil
	case *actionlint.ObjectDerefNode:
		if v, ok := n.Receiver.(*actionlint.VariableNode); ok && v.Name == "github" {
			switch n.Property {
			case "ref":
				return e.ref, nil
			case "event_name":
				return e.name, nil
			}
		}
	case *actionlint.NotOpNode:
		v, err := value(n.Operand, e)
		b, ok := v.(bool)
		if err == nil && ok {
			return !b, nil
		}
	case *actionlint.CompareOpNode:
		l, r, err := both(n.Left, n.Right)
		switch {
		case err != nil:
			return nil, err
		case n.Kind == actionlint.CompareOpNodeKindEq:
			return l == r, nil
		case n.Kind == actionlint.CompareOpNodeKindNotEq:
			return l != r, nil
		}
	case *actionlint.LogicalOpNode:
		l, r, err := both(n.Left, n.Right)
		if err != nil {
			return nil, err
		}
		a, fine := l.(bool)
		b, also := r.(bool)
		if fine && also && n.Kind == actionlint.LogicalOpNodeKindAnd {
			return a && b, nil
		}
		if fine && also && n.Kind == actionlint.LogicalOpNodeKindOr {
			return a || b, nil
		}
	}
	return nil, fmt.Errorf("the condition has %T, which this test does not know", n)
}

func TestJobsThatRun(t *testing.T) {
	everything := "build deploy-production deploy-staging test"
	ci := "fuzz image lint race test vulnerabilities"
	for _, tt := range []struct {
		file string
		event
		want string
	}{
		{"docker/pipeline/deploy.yaml", event{"push", "refs/heads/main"}, everything},
		{"docker/pipeline/deploy.yaml", event{"push", "refs/heads/develop"}, "build deploy-staging test"},
		{"docker/pipeline/deploy.yaml", event{"push", "refs/tags/v1.2.3"}, "build test"},
		{"docker/pipeline/deploy.yaml", event{"pull_request", "refs/pull/7/merge"}, "build test"},
		{".github/workflows/ci.yaml", event{"pull_request", "refs/pull/7/merge"}, ci},
		{".github/workflows/ci.yaml", event{"push", "refs/heads/main"}, ci},
		{".github/workflows/release.yaml", event{"push", "refs/tags/v1.2.3"}, "ci programs"},
		// The guide's graph, 6.1: on main production waits for a staging that is skipped there, and so never comes.
		{"docker/checks/workflows/testdata/guide.yaml", event{"push", "refs/heads/develop"}, "build deploy-staging test"},
		{"docker/checks/workflows/testdata/guide.yaml", event{"push", "refs/heads/main"}, "build test"},
	} {
		w := read(t, root+"/"+tt.file)
		got, err := runsFor(w.parsed, tt.event)
		if err != nil {
			t.Errorf("%s: %v", tt.file, err)
		} else if strings.Join(got, " ") != tt.want {
			t.Errorf("%s, %s of %s: %v run, want %s", tt.file, tt.name, tt.ref, got, tt.want)
		}
	}
}

// TestNotifyAndUndo wants somebody told of each deployment, however it went, and what failed or was broken off undone.
func TestNotifyAndUndo(t *testing.T) {
	w := read(t, root+"/docker/pipeline/deploy.yaml")
	for _, name := range []string{"deploy-staging", "deploy-production"} {
		undo, told := 0, 0
		steps := w.parsed.Jobs[name].Steps
		for i, s := range steps {
			run, ok := s.Exec.(*actionlint.ExecRun)
			if !ok {
				continue
			}
			if strings.Contains(run.Run.Value, "pipeline.sh undo") {
				undo++
				if s.If == nil || s.If.Value != "(failure() || cancelled()) && steps.look.outcome == 'success'" {
					t.Errorf("%s: it is undone if %v", name, s.If)
				}
			}
			if strings.Contains(run.Run.Value, "notify.sh") {
				told++
				if s.If == nil || s.If.Value != "always()" || i != len(steps)-1 {
					t.Errorf("%s: somebody is told if %v, in step %d of %d", name, s.If, i+1, len(steps))
				}
			}
		}
		if undo != 1 || told != 1 {
			t.Errorf("%s: %d steps undo, %d tell", name, undo, told)
		}
	}
}
