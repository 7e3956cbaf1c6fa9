package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/backend/backendtest"
	"weir/internal/mlflowtest"
	"weir/proxy/enginetest"
)

var update = flag.Bool("update", false, "write what the commands of the pages of docs print into them")

const (
	operations = "../../docs/operations.md"
	deploying  = "../../docs/deploying-models.md"
)

// TestOperations plays docs/operations.md.
func TestOperations(t *testing.T) { newOperator(t, operations).play() }

// play plays a page from top to bottom, as one session in a folder of its own:
//
//	```yaml, ```text   whose first line is "# NAME" is written to that file
//	```diff            whose first line is "--- NAME" edits that file
//	```console         runs each "$ COMMAND" and compares what it prints
//	<!-- test: X -->   makes X happen: see happen
//
// A command has to succeed unless "$ echo $?" behind it says how it ends. A block that ends in ^C is
// interrupted: "weir events" after the next block, another when it has printed what the block shows.
func (o *operator) play() {
	t := o.t
	text, err := os.ReadFile(o.page)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	var written []string
	for len(lines) > 0 {
		head := lines[0]
		written = append(written, head)
		lines = lines[1:]
		if what, ok := strings.CutPrefix(head, "<!-- test: "); ok {
			o.happen(strings.TrimSuffix(what, " -->"))
		}
		kind, ok := strings.CutPrefix(head, "```")
		if !ok {
			continue
		}
		end := slices.Index(lines, "```")
		if end < 0 {
			t.Fatalf("%s: a block has no end: %s", o.page, head)
		}
		block := lines[:end]
		if kind == "console" {
			block = o.console(block)
		} else {
			o.file(kind, block)
		}
		written = append(append(written, block...), "```")
		lines = lines[end+1:]
	}
	o.interrupt()
	if !o.asked {
		t.Errorf("the last command: exit status %d", o.status)
	}
	metrics := o.running[mainFile].metrics()
	for _, name := range regexp.MustCompile(`weir_[a-z_]+_total|weir_(?:config|endpoint|variant)_[a-z_]+`).FindAllString(string(text), -1) {
		if !strings.Contains(metrics, "# TYPE "+name+" ") {
			t.Errorf("%s names a metric %s, which weir does not have", o.page, name)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(o.page, []byte(strings.Join(written, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOperationsHasEveryCommand keeps a new command from being forgotten.
func TestOperationsHasEveryCommand(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	root := newCLI(io.Discard, io.Discard, os.Getenv).root()
	root.InitDefaultCompletionCmd()
	for _, group := range root.Commands() {
		commands := group.Commands()
		if group.Name() == "completion" || len(commands) == 0 {
			commands = append(commands[:0:0], group)
		}
		for _, c := range commands {
			if !regexp.MustCompile(`(?m)^\$ ` + c.CommandPath() + `\b`).Match(text) {
				t.Errorf("docs/operations.md has no console block with %q", c.CommandPath())
			}
		}
	}
}

// operator is who follows the page.
type operator struct {
	t       *testing.T
	page    string
	dir     string
	servers map[string]*backendtest.Server // by the port on the page
	ports   map[string]string              // those of the page to those of this run
	running map[string]*weir               // by the file of its configuration
	status  int                            // of the last command
	asked   bool                           // "$ echo $?" has told it, or it is 0
	printed string                         // by the last command
	read    string                         // what reads said before the last command
	beside  func() string                  // interrupts what runs beside, and returns what it has printed
	wanted  string                         // of it
	slow    chan error                     // one for each long request

	asking                        // while it goes on
	registry *mlflowtest.Registry // nil: the page needs none
}

const mainFile = "weir.yaml"

func newOperator(t *testing.T, page string) *operator {
	page, err := filepath.Abs(page)
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, page: page, dir: t.TempDir(), servers: map[string]*backendtest.Server{}, ports: map[string]string{}, running: map[string]*weir{}, asked: true, slow: make(chan error, 10)}
	for _, port := range []string{"8001", "8002", "8003"} {
		o.servers[port] = endpoint(t, port)
		o.behave(port, 0)
		o.ports[port] = portOf(o.servers[port].Addr())
	}
	for _, port := range []string{"8080", "8090", "9901", "9902"} {
		o.ports[port] = portOf(freeAddress(t))
	}
	t.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("WEIR_ADMIN", o.real("http://127.0.0.1:9901"))
	t.Setenv("NO_COLOR", "1")
	t.Setenv("TERM", "xterm")
	t.Chdir(o.dir)
	return o
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

var port = regexp.MustCompile(`:(\d{4,5})\b`)

// real is a text of the page with the ports of this run; told is the way back, for what was printed.
func (o *operator) real(text string) string {
	return port.ReplaceAllStringFunc(text, func(s string) string {
		if to, ok := o.ports[s[1:]]; ok {
			return ":" + to
		}
		return s
	})
}

func (o *operator) told(text string) string {
	text = port.ReplaceAllStringFunc(text, func(s string) string {
		for on, at := range o.ports {
			if at == s[1:] {
				return ":" + on
			}
		}
		return s
	})
	return strings.NewReplacer("v0.0.0-test", "v0.4.0", o.dir, "/etc/weir", "\r", "").Replace(text)
}

// file writes or edits a file of the page.
func (o *operator) file(kind string, block []string) {
	o.t.Helper()
	mark := map[string]string{"yaml": "# ", "text": "# ", "diff": "--- "}[kind]
	name, ok := strings.CutPrefix(block[0], mark)
	if mark == "" || !ok {
		return
	}
	text := strings.Join(block, "\n") + "\n"
	if kind == "yaml" && os.Getenv(enginetest.Variable) != "" {
		text += "engine: " + enginetest.Name() + "\n" // at the end: faults keep their lines
	}
	if kind == "diff" {
		text = o.edited(name, block[1:])
	}
	o.note()
	writeFile(o.t, filepath.Join(o.dir, name), o.real(text))
	if o.running[name] != nil {
		o.inForce()
	}
}

func (o *operator) edited(name string, block []string) string {
	o.t.Helper()
	var old, now strings.Builder
	for _, line := range block {
		if line[0] != '+' {
			old.WriteString(line[1:] + "\n")
		}
		if line[0] != '-' {
			now.WriteString(line[1:] + "\n")
		}
	}
	text, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	before := o.told(string(text))
	if strings.Count(before, old.String()) != 1 {
		o.t.Fatalf("%s is not there once in %s:\n%s", old.String(), name, before)
	}
	return strings.Replace(before, old.String(), now.String(), 1)
}

// console runs the commands of a block, and returns it with what they printed where that is something else.
func (o *operator) console(block []string) (now []string) {
	o.t.Helper()
	beside := o.beside
	for len(block) > 0 {
		n := 1
		for n < len(block) && !strings.HasPrefix(block[n], "$ ") {
			n++
		}
		command, want := strings.TrimPrefix(block[0], "$ "), block[1:n]
		for now = append(now, block[0]); strings.HasSuffix(command, `\`); want = want[1:] {
			command = strings.TrimSuffix(command, `\`) + strings.TrimPrefix(want[0], "> ")
			now = append(now, want[0])
		}
		block = block[n:]
		wanted := strings.Join(want, "\n")
		got, matched := o.do(o.real(command), wanted)
		if !matched && *update {
			want = strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if got == "" {
				want = nil
			}
		} else if !matched {
			o.t.Fatalf("$ %s\nprinted\n%s\nbut %s has\n%s", command, got, o.page, wanted)
		}
		now = append(now, want...)
	}
	if beside != nil {
		o.interrupt()
	}
	return now
}

// interrupt ends what runs beside, once it has printed what the page shows.
func (o *operator) interrupt() {
	o.t.Helper()
	if o.beside == nil {
		return
	}
	if got := o.beside(); !matches(o.wanted, got) {
		o.t.Errorf("what ran beside printed\n%s\nbut %s has\n%s", got, o.page, o.wanted)
	}
	o.beside = nil
}

// do runs one command.
func (o *operator) do(command, want string) (got string, ok bool) {
	o.t.Helper()
	if command == "echo $?" {
		o.asked = true
		got = fmt.Sprint(o.status)
		return got, matches(want, got)
	}
	if !o.asked {
		o.t.Fatalf("before %q: exit status %d, and it printed\n%s", command, o.status, o.printed)
	}
	o.note()
	o.status = 0
	words := strings.Fields(strings.TrimSuffix(command, " &"))
	switch w := o.running[mainFile]; {
	case strings.HasPrefix(command, "weir serve"):
		got = o.serve(words[1:])
	case command == "kill -9 $(pidof weir)":
		w.signal(syscall.SIGKILL)
		w.exit()
	case command == "kill $(pidof weir)":
		w.signal(syscall.SIGTERM)
		o.status = w.exit()
	case strings.HasSuffix(want, "^C"):
		return o.interrupted(words, strings.TrimSuffix(want, "\n^C"))
	default:
		got = o.shell(command)
	}
	o.asked = o.status == 0
	got = o.told(got)
	o.printed = got
	return got, matches(want, got)
}

func (o *operator) shell(command string) string {
	o.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = o.dir
	out, _ := cmd.CombinedOutput() // the status says it
	o.status = cmd.ProcessState.ExitCode()
	return string(out)
}

// serve runs "weir serve" and returns its log up to the line that it listens, or that of one that ends.
func (o *operator) serve(args []string) string {
	o.t.Helper()
	file := args[slices.Index(args, "-c")+1]
	w := start(o.t, args...)
	eventually(o.t, "weir listens or ends", func() bool {
		select {
		case <-w.ended:
			return true
		default:
			return strings.Contains(w.log.text(), `"message":"listening"`)
		}
	})
	if !strings.Contains(w.log.text(), `"message":"listening"`) {
		o.status = w.exit()
		return w.log.text()
	}
	w.admin, w.file = o.real("http://127.0.0.1:9901"), file
	if old := o.running[file]; slices.Contains(args, "--takeover") && old.exit() != 0 {
		o.t.Errorf("the weir that was taken over exits with %d", old.exit())
	}
	o.running[file] = w
	if file == mainFile { // the first probes have ended
		eventually(o.t, "it is healthy", func() bool { return !w.state().Degraded })
	}
	return w.log.text()
}

// interrupted runs a command on a terminal, until it has printed what is wanted and is interrupted.
func (o *operator) interrupted(words []string, want string) (got string, ok bool) {
	o.t.Helper()
	o.asked = true
	follows := words[1] == "events"
	if follows { // not later, when it is connected
		words = append(words, "--since", o.now())
	}
	term := onTerminal(o.t, 80, 24, words[1:]...)
	printed := func() string {
		if strings.Contains(term.text(), home) {
			return o.told(term.picture())
		}
		return o.told(term.text())
	}
	stop := func() string {
		patience := deadline
		if *update {
			patience = 2 * time.Second
		}
		for end := time.Now().Add(patience); !matches(want, printed()) && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		got := printed()
		term.key('C')
		_ = term.cmd.Wait()
		return got
	}
	if !follows {
		got = stop()
		return got + "\n^C", matches(want, got)
	}
	o.beside, o.wanted = stop, want
	return "", true
}

// matches compares what a page shows with what was printed.
func matches(want, got string) bool {
	pattern := ""
	for line := range strings.SplitSeq(masked(want), "\n") {
		switch line {
		case "":
		case "…":
			pattern += `(?:.*\n)*?`
		default:
			pattern += strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*?") + "\n"
		}
	}
	if got = masked(got); got != "" {
		got += "\n"
	}
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(got)
}

// masks are what is another at each run, as the page says.
var masks = []struct {
	this *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\n {4,}`), " "}, // where a line is broken depends on the ports
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b|\b[A-Z][a-z][a-z] [ 1-3]\d \d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b(in|up|after) (\d+[dhms])+\b`), "$1 SPAN"},
	{regexp.MustCompile(`\b(\d+[dhms])+ ago\b`), "SPAN ago"},
	{regexp.MustCompile(`\b[0-9.]+(ms|µs)`), "MS"},
	{regexp.MustCompile(`\b[0-9.]+/s`), "RATE"},
	{regexp.MustCompile(`\babout [0-9.e+]+`), "about RATE"},
	{regexp.MustCompile(`[█·┃]{10,}`), "BAR"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(` ?\n\n*`), "\n"},
}

func masked(text string) string {
	for _, m := range masks {
		text = m.this.ReplaceAllString(text, m.by)
	}
	return strings.Trim(text, " \n")
}
