package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"weir/proxy"
)

func TestServeFirstSteps(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	if got := w.get(http.DefaultClient, "/predict"); got != "blue" {
		t.Errorf("X-Weir-Variant = %q", got)
	}
	for path, want := range map[string]string{"/health/live": "alive", "/health/ready": "ready", "/health/startup": "started"} {
		var answer struct{ Status string }
		if code := w.api("GET", path, "", &answer); code != 200 || answer.Status != want {
			t.Errorf("%s: %d %s", path, code, answer.Status)
		}
	}
	if out := w.mustCommand("status"); !strings.Contains(out, "healthy") || !strings.Contains(out, "100.00%") {
		t.Errorf("status:\n%s", out)
	}
	if out := w.mustCommand("healthcheck"); out != "ready\n" {
		t.Errorf("healthcheck: %q", out)
	}
	if out := w.mustCommand("config", "show"); !strings.Contains(out, "connect_timeout: 1s") {
		t.Errorf("config show has no defaults:\n%s", out)
	}
	shown := filepath.Join(t.TempDir(), "shown.yaml")
	if err := os.WriteFile(shown, []byte(w.mustCommand("config", "show")), 0o600); err != nil {
		t.Fatal(err)
	}
	w.mustCommand("check", shown)

	eventually(t, "the access log has the request", func() bool { return w.out.count() == 1 })
	line := w.out.find(t, "request")[0]
	for key, want := range map[string]any{
		"logger": "weir.access", "route": "predict", "variant": "blue", "model_version": "v1.0.0", "method": "GET",
		"path": "/predict", "status": 200.0, "attempts": 1.0, "client": "127.0.0.1", "bytes_out": 4.0,
	} {
		if line[key] != want {
			t.Errorf("access log: %s = %v, want %v", key, line[key], want)
		}
	}
	for _, key := range []string{"timestamp", "request_id", "trace_id", "endpoint", "latency_ms", "connect_ms", "first_byte_ms", "bytes_in"} {
		if line[key] == nil {
			t.Errorf("access log: no %s in %v", key, line)
		}
	}
	for _, key := range []string{"timestamp", "level", "logger", "message", "module", "function", "line"} {
		if w.log.find(t, "listening")[0][key] == nil {
			t.Errorf("log: no %s", key)
		}
	}
}

func TestShiftHoldsForTheNextRequest(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	if got := w.variants(20); got["blue"] != 20 {
		t.Fatalf("before: %v", got)
	}
	if out := w.mustCommand("shift", "predict", "blue=0", "green=7.5", "--reason", "all to green"); out != "predict: blue=0 green=7.5 (generation 2)\n" {
		t.Errorf("shift: %q", out)
	}
	if got := w.variants(20); got["green"] != 20 {
		t.Errorf("after: %v", got)
	}
	if line := w.log.find(t, "routing changed"); len(line) != 1 || line[0]["reason"] != "all to green" || line[0]["by"] != "api 127.0.0.1" {
		t.Errorf("log: %v", line)
	}
	var route proxy.RouteStatus
	w.api("GET", "/api/v1/routes/predict", "", &route)
	if route.Generation != 2 || !route.Overlay || route.Variants[1].Weight != 7.5 || route.Variants[1].Share != 1 {
		t.Errorf("route: %+v", route)
	}
	for _, tt := range []struct {
		args   string
		status int
		says   string
	}{
		{"predict blue=1", 1, `no weight for variant "green"`},
		{"predict blue=1 green=1 gold=1", 1, `unknown variant "gold" (have blue, green)`},
		{"predict blue=0 green=0", 1, "at least one must be above 0"},
		{"nope blue=1", 1, `unknown route "nope" (have predict)`},
		{"../pools/blue blue=1", 1, "unknown route"},
		{"predict blue", 2, "VARIANT=WEIGHT"},
		{"predict blue=-1 green=1", 2, "from 0 up"},
		{"predict blue=1 green=1 --if-match 0", 2, "generations begin at 1"},
		{"predict blue=1 blue=2", 2, "named twice"},
	} {
		stdout, stderr, status := w.command(append([]string{"shift"}, strings.Fields(tt.args)...)...)
		if status != tt.status || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("shift %s: exit %d, %q, %q; want %d with %q", tt.args, status, stdout, stderr, tt.status, tt.says)
		}
	}
	if g := w.state().Generation; g != 2 {
		t.Errorf("generation %d after refusals, want 2", g)
	}
}

func TestCompletionKnowsRoutesAndVariants(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	for args, want := range map[string]string{
		"__complete shift ":                "predict\n",
		"__complete shift predict ":        "blue=\ngreen=\n",
		"__complete shift predict blue=1 ": "green=\n",
	} {
		if out := w.mustCommand(strings.Split(args, " ")...); !strings.HasPrefix(out, want) {
			t.Errorf("%s: %q, want %q", args, out, want)
		}
	}
}

func TestCompletionIsForAShell(t *testing.T) {
	for args, says := range map[string]string{
		"completion":     `weir: "weir completion" needs a shell (have bash, fish, powershell, zsh)`,
		"completion foo": `weir: unknown shell "foo" for "weir completion" (have bash, fish, powershell, zsh)`,
	} {
		w := start(t, strings.Fields(args)...)
		if status := w.exit(); status != 2 || w.out.text() != "" || !strings.HasPrefix(w.log.text(), says) {
			t.Errorf("%s: exit %d, %q, %q; want 2 with %q", args, status, w.out.text(), w.log.text(), says)
		}
	}
	w := start(t, "completion", "bash")
	if status := w.exit(); status != 0 || !strings.Contains(w.out.text(), "__start_weir") {
		t.Errorf("bash: exit %d, %q", status, w.log.text())
	}
}

func TestAPlainAdminAPIIsToldFromTLS(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	_, stderr, status := w.command("status", "--admin", strings.Replace(w.admin, "http:", "https:", 1))
	if status != 1 || !strings.Contains(stderr, "it speaks plain HTTP, not TLS\nweir: Write http:// in --admin or WEIR_ADMIN") {
		t.Errorf("exit %d, %s", status, stderr)
	}
}

func TestStatusIsDegraded(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	green.Stop()
	w := serve(t, strings.ReplaceAll(blueGreen(blue, green, "blue: 1, green: 1"), "probe: off", "probe: {interval: 100ms, timeout: 100ms}"))
	eventually(t, "the probe has failed", func() bool { return w.state().Degraded })
	out, _, status := w.command("status")
	if status != 3 || !strings.Contains(out, "degraded") || !strings.Contains(out, "variant green has no usable endpoint") {
		t.Errorf("exit %d\n%s", status, out)
	}
	blue.Stop()
	eventually(t, "weir is not ready", func() bool { return w.api("GET", "/health/ready", "", nil) == 503 })
	if _, stderr, status := w.command("healthcheck"); status != 1 || !strings.Contains(stderr, "not ready") || !strings.Contains(stderr, "no usable endpoint") {
		t.Errorf("healthcheck: exit %d, %s", status, stderr)
	}
}

func TestServeRefusesToStart(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	address := strings.TrimPrefix(taken.URL, "http://")
	good := blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1")
	const anyPort = `"127.0.0.1:0"`
	for _, tt := range []struct{ name, text, says string }{
		{"listener taken", strings.Replace(good, anyPort, `"`+address+`"`, 1), address},
		{"admin taken", strings.Replace(good, "admin: {address: "+anyPort, `admin: {address: "`+address+`"`, 1), "admin.address"},
		{"faults", strings.Replace(good, "blue: 1", "blau: 1", 1), `unknown pool "blau"`},
		{"access log", good + "log: {access: {output: /no/such/folder/access.log}}\n", "log.access.output"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "weir.yaml")
			writeFile(t, file, tt.text)
			w := start(t, "serve", "-c", file)
			if status := w.exit(); status != 1 || !strings.Contains(w.log.text(), tt.says) {
				t.Errorf("exit %d, %s", status, w.log.text())
			}
		})
	}
}

func TestServeOutlivesTheReaderOfItsLogs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	writeFile(t, file, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1"))
	cmd := exec.Command(program, "serve", "-c", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	var line struct {
		Addresses []string `json:"addresses"`
		Admin     string   `json:"admin"`
	}
	for lines := json.NewDecoder(stderr); len(line.Addresses) == 0; { // a warning may come first
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(stderr.Close(), stdout.Close()); err != nil {
		t.Fatal(err)
	}
	w := &weir{t: t, addr: line.Addresses[0], admin: "http://" + line.Admin}
	w.variants(3)
	eventually(t, "lines that nobody takes are counted", func() bool {
		return strings.Contains(w.metrics(), "weir_access_log_dropped_total 3")
	})
	w.mustCommand("shift", "predict", "blue=2") // writes to the log
	w.variants(3)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("weir did not stop in order: %v", err)
	}
}

func TestLogSettingsFollowAReload(t *testing.T) {
	text := blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1")
	access := filepath.Join(t.TempDir(), "access.log")
	w := serve(t, text+"log: {access: {output: off}}\n")
	w.variants(1)
	writeFile(t, w.file, text+"log: {level: debug, access: {output: "+access+"}}\n")
	w.mustCommand("reload")
	w.variants(2)
	logged := func(n int) func() bool {
		return func() bool {
			text, err := os.ReadFile(access)
			return err == nil && strings.Count(string(text), "\n") == n
		}
	}
	eventually(t, "two lines in the access log", logged(2))
	if line := w.log.find(t, "was reloaded"); len(line) != 1 || !strings.Contains(fmt.Sprint(line[0]["changes"]), "log.level: info → debug") {
		t.Errorf("log: %s", w.log.text())
	}
	w.mustCommand("reload")
	if line := w.log.find(t, "nothing has changed"); len(line) == 0 || line[0]["level"] != "debug" {
		t.Errorf("the level debug is not in force: %s", w.log.text())
	}
	// Rotation: the file is moved away, SIGHUP makes weir open it anew.
	if err := os.Rename(access, access+".1"); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	eventually(t, "the access log is there again", logged(0))
	eventually(t, "a line in the new access log", func() bool { // the first may still go to the old one
		w.variants(1)
		return !logged(0)()
	})
	if w.out.count() != 0 {
		t.Errorf("stdout: %s", w.out.text())
	}
}

func TestStatusKeepsWatching(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	watch := start(t, "status", "--watch", "--interval", "100ms", "--admin", w.admin)
	eventually(t, "two looks", func() bool { return strings.Count(watch.out.text(), "generation 1") >= 2 })
	w.mustCommand("shift", "predict", "blue=0", "green=1")
	eventually(t, "the shift is seen", func() bool { return strings.Contains(watch.out.text(), "generation 2") })
	if strings.Contains(watch.out.text(), "\x1b") {
		t.Error("escape sequences without a terminal")
	}
	watch.signal(os.Interrupt)
	if status := watch.exit(); status != 0 {
		t.Errorf("exit %d, %s", status, watch.log.text())
	}
}
