package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiffIsWhatAReloadDoes: weir diff says beforehand what weir reload says afterwards.
func TestDiffIsWhatAReloadDoes(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	text := blueGreen(blue, green, "blue: 90, green: 10")
	w := serve(t, text+"log: {access: {output: access.log}}\n")
	w.mustCommand("shift", "predict", "blue=40", "green=60")

	if out, stderr, status := w.command("diff", "--exit-code", w.file); out != "" || stderr != "weir: no difference\n" || status != 0 {
		t.Errorf("the file in force: exit %d, %q, %q", status, out, stderr)
	}
	text = strings.Replace(blueGreen(blue, green, "green: 10, blue: 50"), "version: v1.0.0, ", "", 1)
	text = strings.Replace(text, "routes:", "  red: {endpoints: [\"127.0.0.1:1\"]}\nroutes:", 1)
	next := filepath.Join(filepath.Dir(w.file), "next.yaml")
	writeFile(t, next, text+"log: {level: debug, access: {output: access.log}}\n")
	const want = `~ log.level: info → debug
- pools.blue.version: removed (v1.0.0)
+ pools.red: added (1 endpoint)
~ routes.predict.split: order changed
~ routes.predict.split.blue: 90 → 50
! route predict: the new split replaces the weights set through the API (blue=40 green=60)
`
	if out, stderr, status := w.command("diff", next); out != want || stderr != "" || status != 0 {
		t.Errorf("exit %d, %s\n%s", status, stderr, out)
	}
	if out, stderr, status := w.command("diff", "--exit-code", next); out != want || stderr != "" || status != 1 {
		t.Errorf("--exit-code: exit %d, %s\n%s", status, stderr, out)
	}
	if w.state().Generation != 2 {
		t.Errorf("generation %d: a diff changed something", w.state().Generation)
	}

	if err := os.Rename(next, w.file); err != nil {
		t.Fatal(err)
	}
	// The watcher may be first, and the command then find nothing to change: the log has it either way.
	w.mustCommand("reload")
	line := w.log.find(t, "was reloaded")
	if len(line) != 1 {
		t.Fatalf("log: %v", line)
	}
	var differences []string
	for l := range strings.Lines(want) {
		if !strings.HasPrefix(l, "!") {
			differences = append(differences, l[2:len(l)-1])
		}
	}
	changes := line[0]["changes"].([]any)
	if len(changes) != 1+len(differences) || changes[0] != "route predict: the new split of the file replaces the weights set through the API" {
		t.Fatalf("the reload changed %q", changes)
	}
	for i, d := range differences {
		if changes[1+i] != d {
			t.Errorf("the reload says %q, diff %q", changes[1+i], d)
		}
	}
}

func TestDiffSaysWhatTakesARestart(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	text := blueGreen(blue, green, "blue: 1, green: 1")
	w := serve(t, text)
	elsewhere := filepath.Join(t.TempDir(), "next.yaml")
	writeFile(t, elsewhere, text)
	if _, stderr, status := w.command("diff", "--exit-code", "--as", w.file, elsewhere); status != 0 || stderr != "weir: no difference\n" {
		t.Errorf("--as: exit %d, %s", status, stderr)
	}
	var found struct {
		Differences []struct{ Key, Before, After string }
		Replaced    []any `json:"replaced_weights"`
		Restart     []string
	}
	if err := json.Unmarshal([]byte(w.mustCommand("diff", "-o", "json", elsewhere)), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Differences) != 1 || found.Differences[0].Key != "state.file" || len(found.Restart) != 1 || found.Restart[0] != "state.file" || found.Replaced == nil {
		t.Errorf("a file elsewhere: %+v", found)
	}

	writeFile(t, elsewhere, strings.Replace(text, `admin: {address: "127.0.0.1:0"}`, `admin: {address: "127.0.0.2:0", tls: {cert: a, key: b}}`, 1))
	out := w.mustCommand("diff", "--as", w.file, elsewhere)
	for _, key := range []string{"admin.address", "admin.tls"} {
		if !strings.Contains(out, "! "+key+" takes a restart: a reload would be refused\n") {
			t.Errorf("nothing about %s:\n%s", key, out)
		}
	}
}
