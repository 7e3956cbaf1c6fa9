package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestEventText(t *testing.T) {
	for _, tt := range []struct{ kind, data, want string }{
		{
			"change", `{"generation":12,"time":"2026-03-04T13:04:00Z","kind":"weights","by":"ops 10.0.0.7","reason":"half","routes":[{"route":"predict","before":[{"pool":"blue","weight":90}],"after":[{"pool":"blue","weight":50}]}]}`,
			"15:04:00  change  generation 12, weights by ops 10.0.0.7: predict: blue 90→50 (why: half)",
		},
		{
			"health", `{"pool":"blue","endpoint":"127.0.0.1:8001","healthy":false,"why":"answered\u001b[2J 500"}`,
			"15:04:05  health  endpoint 127.0.0.1:8001 of pool blue is not healthy: answered·[2J 500",
		},
		{"health", `{"pool":"blue","endpoint":"127.0.0.1:8001","healthy":true,"why":""}`, "15:04:05  health  endpoint 127.0.0.1:8001 of pool blue is healthy"},
		{
			"ejection", `{"pool":"blue","endpoint":"127.0.0.1:8001","ejected":true,"why":"5 failures in a row: reset","until":"2026-03-04T13:04:35Z"}`,
			"15:04:05  ejection  endpoint 127.0.0.1:8001 of pool blue is ejected until 15:04:35: 5 failures in a row: reset",
		},
		{
			"ejection", `{"pool":"blue","endpoint":"127.0.0.1:8001","ejected":false,"why":"its ejection is over"}`,
			"15:04:05  ejection  endpoint 127.0.0.1:8001 of pool blue takes requests again: its ejection is over",
		},
		{"certificate", `{"domain":"a.example.com","outcome":"renewed","expires":"2026-06-02T13:04:00Z"}`, "15:04:05  cert    a.example.com: the certificate was renewed and expires at Jun  2 15:04"},
		{
			"certificate", `{"domain":"a.example.com","outcome":"failed","why":"refused","next":"2026-03-04T13:06:05Z"}`,
			"15:04:05  cert    a.example.com: no certificate: refused; next try at 15:06:05",
		},
		{"circuit_breaker", `{"pool":"blue","open":true,"refused":3}`, "15:04:05  breaker  pool blue refuses requests beyond its limits, 3 refused so far"},
		{"circuit_breaker", `{"pool":"blue","open":false,"refused":7}`, "15:04:05  breaker  pool blue takes all requests again, 7 refused so far"},
		{
			"ramp", `{"route":"predict","state":"started","to":[{"pool":"blue","weight":1},{"pool":"green","weight":9}],"ends":"2026-03-04T13:09:05Z","by":"ops 10.0.0.7"}`,
			"15:04:05  ramp    predict: on its way to blue=1 green=9, there at 15:09:05 (in 5m), by ops 10.0.0.7",
		},
		{"ramp", `{"route":"predict","state":"stopped","by":"ops 10.0.0.7","reason":"p99 grows"}`, "15:04:05  ramp    predict: the ramp was stopped, by ops 10.0.0.7 (why: p99 grows)"},
		{
			"ramp", `{"route":"predict","state":"stopped","by":"ops 10.0.0.7","reason":"v2 fails","why":"the weights were changed: rollback"}`,
			"15:04:05  ramp    predict: the ramp was stopped, by ops 10.0.0.7: the weights were changed: rollback (why: v2 fails)",
		},
		{"ramp", `{"route":"predict","state":"stopped","why":"no usable endpoint"}`, "15:04:05  ramp    predict: the ramp stopped: no usable endpoint"},
		{"ramp", `{"route":"predict","state":"finished","to":[{"pool":"blue","weight":1}]}`, "15:04:05  ramp    predict: the ramp is at its end, blue=1"},
		{"reload_failed", `{"by":"signal","faults":["weir.yaml:1:1: a","weir.yaml:2:1: b"]}`, "15:04:05  reload  a configuration was rejected, by signal: weir.yaml:1:1: a; weir.yaml:2:1: b"},
		{"lost", `{"why":"read the state again"}`, "15:04:05  lost    read the state again"},
		{"experiment", `{"arm":2}`, `15:04:05  experiment  {"arm":2}`},
		{"change", `[]`, "15:04:05  change  []"},
	} {
		e := event{kind: tt.kind, data: tt.data}
		if got := e.text(exampleNow(), false); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	e := event{kind: "lost", data: `{"why":"x"}`}
	if got := e.text(exampleNow(), true); got != "\x1b[33m15:04:05  lost    x\x1b[0m" {
		t.Errorf("in colour: %q", got)
	}
}

func TestEventObjects(t *testing.T) {
	for _, tt := range []struct{ output, data, want string }{
		{"json", `{"b":"a > b",` + "\n" + `"a":1}`, `{"id":"x-1","type":"change","data":{"b":"a > b","a":1}}` + "\n"}, // of two lines of the stream
		{"json", `no "JSON"`, `{"id":"x-1","type":"change","data":"no \"JSON\""}` + "\n"},
		{"yaml", `{"b":"true"}`, "---\nid: x-1\ntype: change\ndata:\n  b: 'true'\n"},
	} {
		var out bytes.Buffer
		f := &follower{cli: &cli{stdout: &out, output: tt.output}}
		if err := f.print(event{id: "x-1", kind: "change", data: tt.data}, exampleNow()); err != nil || out.String() != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.data, out.String(), err, tt.want)
		}
	}
}

// TestEventsGoOn breaks the stream off after some events, and refuses in the end.
func TestEventsGoOn(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Header.Get("Last-Event-ID")+" "+r.URL.Query().Get("types"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch len(asked) {
		case 1: // one without data, one whole, one that is cut off
			fmt.Fprint(w, "retry: 2000\nid: a-1\n\n: still here\n\nid: a-2\r\nevent: x\r\ndata: {\"n\":\r\ndata: 1}\r\n\r\nid: a-3\nevent: x\ndata: {}\n")
		case 2:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"error":"weir is stopping","code":"stopping"}`)
		case 3:
			fmt.Fprint(w, "event: x\nid: b-1\ndata: {\"n\":2}\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"the token is not one of those in force","code":"unauthorized"}`)
		}
	}))
	defer server.Close()
	var stdout, stderr bytes.Buffer
	c := newCLI(&stdout, &stderr, func(string) string { return "" })
	ended := make(chan int)
	go func() {
		ended <- c.run([]string{"events", "--types", "change,ramp", "--since", "a-0", "--admin", server.URL})
	}()
	select {
	case status := <-ended:
		if status != exitFailed {
			t.Errorf("exit %d", status)
		}
	case <-time.After(deadline):
		t.Fatal("it goes on after it was refused")
	}
	if got, want := strings.Join(asked, ", "), "a-0 change,ramp, a-2 change,ramp, a-2 change,ramp, b-1 change,ramp"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	if got := stdout.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `x       {"n":·1}`) || !strings.Contains(got, `x       {"n":2}`) {
		t.Errorf("stdout: %s", got)
	}
	for _, want := range []string{"the stream of events ended, connecting again (EOF)\n", "connected again\n", "the token is not one of those in force\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in %s", want, stderr.String())
		}
	}
}
