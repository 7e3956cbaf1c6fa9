package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"weir/backend/backendtest"
)

func TestReloadByFileSignalAndAPI(t *testing.T) {
	for name, ask := range map[string]func(*weir){
		"file":        func(*weir) {},
		"SIGHUP":      func(w *weir) { w.signal(syscall.SIGHUP) },
		"API":         func(w *weir) { w.api("POST", "/api/v1/reload", "", nil) },
		"weir reload": func(w *weir) { w.mustCommand("reload") },
	} {
		t.Run(name, func(t *testing.T) {
			blue, green := endpoint(t, "blue"), endpoint(t, "green")
			w := serve(t, blueGreen(blue, green, "blue: 1, green: 0"))
			writeFile(t, w.file, blueGreen(blue, green, "blue: 0, green: 1"))
			ask(w)
			eventually(t, "generation 2", func() bool { return w.state().Generation == 2 })
			if got := w.variants(20); got["green"] != 20 {
				t.Errorf("after: %v", got)
			}
			line := w.log.find(t, "was reloaded")
			if len(line) != 1 || fmt.Sprint(line[0]["changes"]) != "[routes.predict.split.blue: 1 → 0 routes.predict.split.green: 0 → 1]" {
				t.Errorf("log: %v", line)
			}
		})
	}
}

func TestReloadThatChangesNothing(t *testing.T) {
	text := blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0")
	w := serve(t, text)
	writeFile(t, w.file, "# a remark\n"+text)
	if out := w.mustCommand("reload"); out != "nothing has changed; generation 1 is in force\n" {
		t.Errorf("reload: %q", out)
	}
	if lines := w.log.find(t, "was reloaded"); len(lines) != 0 {
		t.Errorf("log: %v", lines)
	}
}

// Kubernetes updates a mounted ConfigMap by swapping the link ..data; weir.yaml itself never changes.
func TestReloadOfAConfigMap(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	dir := t.TempDir()
	version := func(name, split string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name, "weir.yaml"), blueGreen(blue, green, split))
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2026_01", "blue: 1, green: 0")
	if err := os.Symlink("..data/weir.yaml", filepath.Join(dir, "weir.yaml")); err != nil {
		t.Fatal(err)
	}
	w := serveFile(t, filepath.Join(dir, "weir.yaml"))
	version("..2026_02", "blue: 0, green: 1")
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "generation 2", func() bool { return w.state().Generation == 2 })
	if got := w.variants(20); got["green"] != 20 {
		t.Errorf("after: %v", got)
	}
}

func TestBadFileChangesNothingAndSaysWhy(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	good := blueGreen(blue, green, "blue: 1, green: 0")
	w := serve(t, good)
	bad := strings.Replace(blueGreen(blue, green, "blue: 0, gren: 1"), "version: v1.0.0", "verzion: v1.0.0", 1)
	writeFile(t, w.file, bad)
	eventually(t, "the log has both faults", func() bool { return len(w.log.find(t, "was rejected")) == 2 })
	if text := w.log.text(); !strings.Contains(text, `weir.yaml:6:10: pools.blue.verzion: `) || !strings.Contains(text, `unknown pool \"gren\" (have blue, green)`) {
		t.Errorf("log: %s", text)
	}
	if !strings.Contains(w.metrics(), "weir_config_last_reload_successful 0") {
		t.Error("the metric does not tell")
	}
	var answer struct {
		Error, Code string
		Faults      []string
	}
	if code := w.api("POST", "/api/v1/reload", "", &answer); code != 422 || answer.Code != "config_rejected" || len(answer.Faults) != 2 {
		t.Errorf("reload: %d %+v", code, answer)
	}
	if _, stderr, status := w.command("reload"); status != 1 || strings.Count(stderr, "weir.yaml:") != 2 {
		t.Errorf("weir reload: exit %d, %s", status, stderr)
	}
	if out, _, status := w.command("status"); status != 3 || !strings.Contains(out, "the last reload was rejected") {
		t.Errorf("weir status: exit %d, %s", status, out)
	}
	if got := w.variants(20); got["blue"] != 20 {
		t.Errorf("what was in force changed: %v", got)
	}
	writeFile(t, w.file, good)
	w.mustCommand("reload")
	if !strings.Contains(w.metrics(), "weir_config_last_reload_successful 1") || w.state().Generation != 1 {
		t.Errorf("generation %d after the file is good again, want 1 and the metric 1", w.state().Generation)
	}
}

func TestReloadRefusesAnotherAdminAddress(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	w := serve(t, blueGreen(blue, green, "blue: 1, green: 0"))
	writeFile(t, w.file, strings.Replace(blueGreen(blue, green, "blue: 0, green: 1"), `admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.2:0"}`, 1))
	_, stderr, status := w.command("reload")
	if status != 1 || !strings.Contains(stderr, "admin.address: cannot change by a reload") {
		t.Errorf("exit %d, %s", status, stderr)
	}
	if got := w.variants(10); got["blue"] != 10 {
		t.Errorf("half of the file came into force: %v", got)
	}
}

func TestReloadMovesListeners(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	text := blueGreen(blue, green, "blue: 1, green: 0")
	w := serve(t, text)
	second := freeAddress(t)
	writeFile(t, w.file, strings.Replace(text, `listeners: [`, `listeners: [{address: "`+second+`"}, `, 1))
	w.mustCommand("reload")
	w.variants(3) // the first goes on
	w.addr = second
	w.variants(3)

	taken := backendtest.NewServer(t, backendtest.Behaviour{})
	writeFile(t, w.file, strings.Replace(text, `"127.0.0.1:0"`, `"`+taken.Addr()+`"`, 1))
	if _, stderr, status := w.command("reload"); status != 1 || !strings.Contains(stderr, "cannot listen on "+taken.Addr()) {
		t.Errorf("a taken address: exit %d, %s", status, stderr)
	}
	w.variants(3)
}

// The overlay rule: weights set through the API outlive a reload that leaves the route's split alone,
// and end with one that changes it, which the log says.
func TestWeightsOfTheAPIAndReloads(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	w := serve(t, blueGreen(blue, green, "blue: 1, green: 0"))
	w.mustCommand("shift", "predict", "blue=0", "green=1")

	writeFile(t, w.file, strings.Replace(blueGreen(blue, green, "blue: 1, green: 0"), "path: /predict", "path_prefix: /predict", 1))
	w.mustCommand("reload")
	if got := w.variants(20); got["green"] != 20 || !w.state().Routes[0].Overlay {
		t.Errorf("a reload that leaves the split alone: %v, overlay %v", got, w.state().Routes[0].Overlay)
	}
	writeFile(t, w.file, blueGreen(blue, green, "blue: 3, green: 0"))
	w.mustCommand("reload")
	if got := w.variants(20); got["blue"] != 20 || w.state().Routes[0].Overlay {
		t.Errorf("a reload that changes the split: %v, overlay %v", got, w.state().Routes[0].Overlay)
	}
	if !strings.Contains(w.log.text(), "replaces the weights set through the API") {
		t.Errorf("the log does not say that the weights were replaced:\n%s", w.log.text())
	}
}

// 200 reloads that change split, policy, endpoints, routes and listener settings, while clients send.
func TestReloadsUnderLoad(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	third := endpoint(t, "third")
	form := func(i int) string {
		text := blueGreen(blue, green, fmt.Sprintf("blue: %d, green: 50", 1+i%7))
		switch i % 4 {
		case 1:
			text = strings.Replace(text, "probe: off", "policy: two_choices, probe: off", 1)
		case 2:
			text = strings.Replace(text, `endpoints: ["`, `endpoints: ["`+third.Addr()+`", "`, 1)
		case 3:
			text += "  - {name: other, match: {path_prefix: /other}, split: {green: 1}}\n"
		}
		return text
	}
	w := serve(t, form(0)+"log: {access: {output: off}}\n")
	var requests atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Post("http://"+w.addr+"/predict", "text/plain", strings.NewReader("features"))
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || len(body) < 4 {
					t.Errorf("%s %v %q", resp.Status, err, body)
					return
				}
				requests.Add(1)
			}
		})
	}
	const reloads = 200
	for i := 1; i <= reloads; i++ {
		writeFile(t, w.file, form(i)+"log: {access: {output: off}}\n")
		before := requests.Load()
		if code := w.api("POST", "/api/v1/reload", "", nil); code != 200 {
			t.Errorf("reload %d: %d", i, code)
			break
		}
		eventually(t, "requests between two reloads", func() bool { return t.Failed() || requests.Load() > before })
	}
	close(stop)
	clients.Wait()
	// The watcher may have been first with some of them: every file was put in force once all the same.
	if g := w.state().Generation; g != reloads+1 {
		t.Errorf("generation %d after %d reloads, want %d", g, reloads, reloads+1)
	}
	var errors uint64
	for _, v := range w.state().Routes[0].Variants {
		errors += v.Errors
	}
	if errors != 0 {
		t.Errorf("%d errors counted", errors)
	}
	t.Logf("%d requests during %d reloads", requests.Load(), reloads)
}
