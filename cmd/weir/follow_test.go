package main

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestCommandsThatGoOn interrupts those commands that go on until interrupted; stdout is no terminal.
func TestCommandsThatGoOn(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 90, green: 10"))
	events := start(t, "events", "--admin", w.admin)
	data := start(t, "events", "--types", "change", "-o", "json", "--admin", w.admin)
	status := start(t, "status", "-w", "--interval", "100ms", "--admin", w.admin)
	yaml := start(t, "status", "-w", "--interval", "100ms", "-o", "yaml", "--admin", w.admin)
	eventually(t, "all have begun, and show a change", func() bool {
		w.mustCommand("shift", "predict", fmt.Sprintf("blue=%v", 100+w.state().Generation), "green=1", "--reason", "to be seen")
		return events.out.count() > 0 && data.out.count() > 0 && status.out.count() > 0 && yaml.out.count() > 0
	})
	w.mustCommand("shift", "predict", "blue=1", "green=3", "--reason", "the last")
	g := w.state().Generation
	eventually(t, "all show the last change", func() bool {
		return strings.Contains(events.out.text(), fmt.Sprintf("change  generation %d, ", g)) &&
			strings.Contains(data.out.text(), fmt.Sprintf(`"data":{"generation":%d,`, g)) &&
			strings.Contains(status.out.text(), fmt.Sprintf("generation %d  ", g)) &&
			strings.Contains(yaml.out.text(), fmt.Sprintf("generation: %d\n", g))
	})
	for _, c := range []*weir{events, data, status, yaml} {
		c.signal(syscall.SIGINT)
		if code := c.exit(); code != 0 {
			t.Errorf("%v: exit %d", c.cmd.Args, code)
		}
	}
	wantMatch(t, events.out.text(), `(?m)^\d\d:\d\d:\d\d  change  generation \d+, weights by api 127.0.0.1: predict: blue \d+→1, green 1→3 \(why: the last\)$`)
	wantMatch(t, events.log.text(), `^weir: to go on from here: weir events --since \S+$`)
	wantMatch(t, data.out.text(), `(?m)^\{"id":"\S+-\d+","type":"change","data":\{"generation":\d+,.*"kind":"weights",.*"reason":"the last".*\}\}$`)
	wantMatch(t, status.out.text(), `(?m)^--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$`)
	wantMatch(t, status.out.text(), `(?m)^  blue  ·+┃·+ +0.0%  25.0%     0/s      -      -      -      -$`)
	wantMatch(t, yaml.out.text(), `(?m)^---\nversion: v0.0.0-test$`)
	if text := status.out.text(); strings.Contains(text, "\x1b") {
		t.Errorf("paint where there is no terminal: %q", text)
	}

	// The event that was printed last is known by its id, and what came after it.
	since := events.log.text()[strings.LastIndexByte(events.log.text(), ' ')+1:]
	w.mustCommand("switch", "predict", "green")
	again := start(t, "events", "--since", since, "--admin", w.admin)
	eventually(t, "the event that was missed", func() bool { return again.out.count() > 0 })
	again.signal(syscall.SIGINT)
	again.exit()
	wantMatch(t, again.out.text(), `^\S+  change  generation \d+, switch by api 127.0.0.1: predict: blue 1→0, green 3→100$`)
}

// TestWhoStoppedARamp is told on the stream and in the log, with the reason.
func TestWhoStoppedARamp(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 90, green: 10"))
	w.mustCommand("shift", "predict", "blue=0", "green=1", "--ramp", "1h", "--reason", "v2")
	events := start(t, "events", "--types", "ramp", "-o", "json", "--admin", w.admin)
	eventually(t, "an event is seen", func() bool { // the first may come before it listens
		w.mustCommand("shift", "predict", "--stop", "--reason", "p99 grows")
		w.mustCommand("shift", "predict", "blue=0", "green=1", "--ramp", "1h")
		return events.out.count() > 0
	})
	w.mustCommand("shift", "predict", "--stop", "--reason", "p99 grows")
	eventually(t, "it stopped", func() bool {
		return strings.HasSuffix(events.out.text(), `"data":{"route":"predict","state":"stopped","by":"api 127.0.0.1","reason":"p99 grows"}}`)
	})
	logged := w.log.find(t, "a ramp was stopped")
	if len(logged) == 0 || logged[0]["by"] != "api 127.0.0.1" || logged[0]["reason"] != "p99 grows" || logged[0]["route"] != "predict" {
		t.Errorf("the log: %v", logged)
	}
}

func wantMatch(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(text) {
		t.Errorf("no %s in\n%s", pattern, text)
	}
}
