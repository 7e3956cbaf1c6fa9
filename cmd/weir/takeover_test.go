package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

func TestTakeoverGoesOnWhereTheOldWeirWas(t *testing.T) {
	slow := backendtest.NewServer(t, backendtest.Behaviour{Body: []byte("green"), Latency: 700 * time.Millisecond})
	old := serve(t, blueGreen(endpoint(t, "blue"), slow, "blue: 1, green: 0"))
	old.mustCommand("shift", "predict", "blue=0", "green=1", "--reason", "before")
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+old.addr+"/predict", "", strings.NewReader("x"))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	eventually(t, "a request runs", func() bool { return old.state().Pools[1].Inflight == 1 })

	w := takeOver(t, old)
	if s := w.state(); s.Generation != 2 || s.Routes[0].Variants[1].Weight != 1 || !s.Routes[0].Overlay {
		t.Errorf("the new weir is at generation %d with %+v", s.Generation, s.Routes[0])
	}
	w.mustCommand("shift", "predict", "blue=1", "green=0", "--reason", "after")
	if got := w.variants(5); got["blue"] != 5 {
		t.Errorf("%v", got)
	}
	select {
	case <-old.ended:
		t.Error("the old weir has ended before its request")
	default:
	}
	if got := <-answer; got != "green" {
		t.Errorf("the request that ran at the old weir: %q", got)
	}
	if code := old.exit(); code != 0 {
		t.Errorf("the old weir exits with %d", code)
	}

	third := takeOver(t, w)
	if code := w.exit(); code != 0 {
		t.Errorf("the second weir exits with %d", code)
	}
	if out := third.mustCommand("history"); !strings.Contains(out, "before") || !strings.Contains(out, "after") {
		t.Errorf("history: %s", out)
	}
}

func TestTakeoverThatFailsLeavesTheOldWeirAsItWas(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	good := blueGreen(blue, green, "blue: 1, green: 0")
	old := serve(t, good)
	taken := serve(t, good) // has a port that the new one wants

	refused := func(text, says string) {
		t.Helper()
		writeFile(t, old.file, text)
		w := start(t, "serve", "-c", old.file, "--takeover")
		if code := w.exit(); code != 1 || !strings.Contains(w.log.text(), says) {
			t.Errorf("exit %d, want 1 and %q:\n%s", code, says, w.log.text())
		}
		if got := old.variants(3); got["blue"] != 3 {
			t.Errorf("%v", got)
		}
	}
	refused(strings.Replace(good, "split:", "splitt:", 1), "splitt")
	refused(strings.Replace(good, `listeners: [`, fmt.Sprintf(`listeners: [{address: %q}, `, taken.addr), 1), "address already in use")
	refused(strings.Replace(good, "pools:", "state: off\npools:", 1), "needs a state.file")

	eventually(t, "it can be steered again", func() bool {
		_, _, code := old.command("shift", "predict", "blue=0", "green=1")
		return code == 0
	})
	writeFile(t, old.file, good)
	takeOver(t, old)
	if code := old.exit(); code != 0 {
		t.Errorf("the old weir exits with %d", code)
	}
}

func TestTakeoverOfNobody(t *testing.T) {
	w := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"), "--takeover")
	if got := w.variants(3); got["blue"] != 3 {
		t.Errorf("%v", got)
	}
	second := start(t, "serve", "-c", w.file)
	if code := second.exit(); code != 1 || !strings.Contains(second.log.text(), "another weir uses it") {
		t.Errorf("a second weir with the same state: exit %d\n%s", code, second.log.text())
	}
}

func TestRampGoesOnAfterATakeover(t *testing.T) {
	old := serve(t, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 0"))
	old.mustCommand("shift", "predict", "blue=0", "green=1", "--ramp", "3s")
	w := takeOver(t, old)
	if r := route(t, w); r.Ramp == nil {
		t.Errorf("the new weir has no ramp: %+v", r)
	}
	eventually(t, "the ramp ends", func() bool { r := route(t, w); return r.Ramp == nil && r.Variants[0].Weight == 0 })
}
