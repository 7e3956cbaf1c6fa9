package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"weir/backend/backendtest"
)

// TestScripts runs the scripts of testdata/script: the texts and exit statuses of the command line.
// Each has weir on its PATH, and besides the commands of testscript
//
//	status N weir ARG...  run it, and want that exit status
//	serve FILE            run "weir serve", with the addresses of model servers for $BLUE and $GREEN in
//	                      the file; weir's commands find it
//	request N             make N requests through it
//	change FILE           give the pool of version v1.0.0 another one
//	hold, release         make a request that stays under way at $BLUE until released
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Values[scriptKey{}] = &script{t: t, release: make(chan bool)}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":  wantStatus,
			"serve":   scripted((*script).serve),
			"request": scripted((*script).request),
			"change":  scripted((*script).change),
			"hold":    scripted((*script).hold),
			"release": scripted((*script).let),
		},
	})
}

func wantStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args...]")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = exitStatus(err)
	}
	if got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}

func exitStatus(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err.Error()
	}
	return strconv.Itoa(exit.ExitCode())
}

type scriptKey struct{}

// script is the weir of a script, and what is behind it.
type script struct {
	t           *testing.T // of all scripts: what a script starts is stopped when all have ended
	w           *weir
	blue, green *backendtest.Server
	release     chan bool // closed when what is held may end
}

// scripted is a command of a script with at most one argument.
func scripted(do func(s *script, ts *testscript.TestScript, arg string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 1 {
			ts.Fatalf("want at most one argument, and no !")
		}
		do(ts.Value(scriptKey{}).(*script), ts, strings.Join(args, ""))
	}
}

func (s *script) serve(ts *testscript.TestScript, file string) {
	s.blue, s.green = endpoint(s.t, "blue"), endpoint(s.t, "green")
	s.blue.SetBehaviour(backendtest.Behaviour{Respond: func(r *backendtest.Request) backendtest.Behaviour {
		if r.Target == "/held" {
			<-s.release
		}
		return backendtest.Behaviour{Body: []byte("blue")}
	}})
	text := strings.NewReplacer("$BLUE", s.blue.Addr(), "$GREEN", s.green.Addr()).Replace(ts.ReadFile(file))
	file = ts.MkAbs(file)
	ts.Check(os.WriteFile(file, []byte(text), 0o600))
	s.w = serveFile(s.t, file)
	ts.Defer(func() {
		s.let(nil, "") // weir would wait for it
		s.w.signal(syscall.SIGTERM)
		s.w.exit() // before its folder goes
	})
	ts.Setenv("WEIR_ADMIN", s.w.admin)
	ts.Setenv("BLUE", s.blue.Addr())
	ts.Setenv("GREEN", s.green.Addr())
}

func (s *script) request(ts *testscript.TestScript, n string) {
	count, err := strconv.Atoi(n)
	ts.Check(err)
	for range count {
		resp, err := http.Get("http://" + s.w.addr + "/")
		ts.Check(err)
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		ts.Check(err)
	}
}

func (s *script) change(ts *testscript.TestScript, file string) {
	text := strings.Replace(ts.ReadFile(file), "v1.0.0", "v1.0.1", 1)
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
}

func (s *script) hold(ts *testscript.TestScript, _ string) {
	go func() {
		resp, err := http.Get("http://" + s.w.addr + "/held")
		if err != nil {
			s.t.Errorf("the request that was held: %v", err)
			return
		}
		_ = resp.Body.Close()
	}()
	eventually(s.t, "the held request arrives", func() bool {
		return s.w.state().Pools[0].Inflight > 0
	})
}

func (s *script) let(*testscript.TestScript, string) {
	select {
	case <-s.release:
	default:
		close(s.release)
	}
}
