package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"weir/internal/state"
	"weir/proxy"
	"weir/proxy/enginetest"
)

// hubOf has published n events, each of which holds its number and size bytes.
func hubOf(n, size int) *Controller {
	c := &Controller{hub: newHub()}
	for i := range n {
		c.hub.publish("n", fmt.Sprint(i+1, strings.Repeat("x", size)))
	}
	return c
}

// TestAReaderComesBack: at every event that it may know last, a reader gets exactly those after it, or
// is told that it lost some.
func TestAReaderComesBack(t *testing.T) {
	for _, n := range []int{0, 1, 2, keptEvents - 1, keptEvents, keptEvents + 1, 2*keptEvents - 1, 2 * keptEvents, 3*keptEvents + 7} {
		c := hubOf(n, 0)
		for last := 0; last < n+3; last += enginetest.Scaled(1, 7) {
			missed, _, cancel := c.Subscribe(fmt.Sprintf("%s-%d", c.hub.run, last))
			cancel()
			if last > n || n-last > keptEvents {
				if len(missed) != 1 || missed[0].Type != "lost" || missed[0].ID != fmt.Sprintf("%s-%d", c.hub.run, n) {
					t.Fatalf("%d events, back after %d: %v, want lost", n, last, missed)
				}
				continue
			}
			if len(missed) != n-last {
				t.Fatalf("%d events, back after %d: %d missed", n, last, len(missed))
			}
			for i, e := range missed {
				if want := last + 1 + i; e.ID != fmt.Sprintf("%s-%d", c.hub.run, want) || string(e.Data) != fmt.Sprintf("%q", fmt.Sprint(want)) {
					t.Fatalf("%d events, back after %d: %v is the %d-th", n, last, e, i)
				}
			}
		}
	}
}

func TestWhatIsNoLastEvent(t *testing.T) {
	c := hubOf(5, 0)
	other := newHub().run + "x"
	for _, last := range []string{other + "-3", c.hub.run, c.hub.run + "-", c.hub.run + "--1", c.hub.run + "-18446744073709551615", "3", "-", "x"} {
		missed, _, cancel := c.Subscribe(last)
		cancel()
		if len(missed) != 1 || missed[0].Type != "lost" || !json.Valid(missed[0].Data) {
			t.Errorf("after %q: %v", last, missed)
			continue
		}
		if missed, _, _ = c.Subscribe(missed[0].ID); len(missed) != 0 {
			t.Errorf("after the event that says so: %v", missed)
		}
	}
	if missed, _, cancel := c.Subscribe(""); len(missed) != 0 {
		t.Errorf("a first reader is told of the past: %v", missed)
	} else {
		cancel()
		cancel()
	}
}

func TestLargeEventsAreKeptByTheirBytes(t *testing.T) {
	c := hubOf(20, keptBytes/10)
	missed, _, _ := c.Subscribe(c.hub.run + "-12")
	if len(missed) != 8 {
		t.Errorf("%d kept, want at least 8", len(missed))
	}
	if missed, _, _ = c.Subscribe(c.hub.run + "-10"); missed[0].Type != "lost" {
		t.Error("more than the bound is kept")
	}
	sum := 0
	for _, e := range c.hub.kept {
		sum += len(e.Data)
	}
	if sum > keptBytes || sum != c.hub.bytes {
		t.Errorf("%d bytes kept, %d counted", sum, c.hub.bytes)
	}
	c.hub.publish("n", strings.Repeat("x", 2*keptBytes)) // the last is kept whatever its size
	if missed, _, _ = c.Subscribe(c.hub.run + "-20"); len(missed) != 1 || missed[0].Type != "n" {
		t.Errorf("%d events", len(missed))
	}
	if missed, _, _ = c.Subscribe(c.hub.run + "-19"); missed[0].Type != "lost" {
		t.Error("more than the bound is kept")
	}
}

func TestASlowReaderIsDropped(t *testing.T) {
	c := hubOf(0, 0)
	_, slow, cancel := c.Subscribe("")
	_, quick, cancelQuick := c.Subscribe("")
	defer cancelQuick()
	for i := range waitingAtOne + 1 {
		c.hub.publish("n", i)
		if e := <-quick; string(e.Data) != fmt.Sprint(i) {
			t.Fatal(e)
		}
	}
	n := 0
	for e := range slow { // it ends
		if string(e.Data) != fmt.Sprint(n) {
			t.Fatalf("event %d: %v", n, e)
		}
		n++
	}
	if n != waitingAtOne {
		t.Errorf("it got %d, want %d", n, waitingAtOne)
	}
	cancel()
	c.hub.close()
	if _, ok := <-quick; ok {
		t.Error("a reader is left when the hub closes")
	}
	if _, events, cancel := c.Subscribe(""); events != nil {
		defer cancel()
		if _, ok := <-events; ok {
			t.Error("a reader that comes after the end is left waiting")
		}
	}
}

// TestEventsAreInTheOrderOfTheGenerations: also of what one change brings about, whoever makes them.
func TestEventsAreInTheOrderOfTheGenerations(t *testing.T) {
	x := run(t, newStore(), newSite(t).parse(t))
	_, events, cancel := x.Subscribe("")
	defer cancel()
	done := make(chan bool)
	for g := range 4 {
		go func() {
			for i := range 10 {
				_, _ = x.SetWeights("predict", map[string]float64{"blue": float64(g), "green": float64(i + 1)}, by)
				_, _ = x.Drain("blue", "", i%2 == 0, by)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	last := uint64(1)
	for last < x.Generation() {
		e := <-events
		var c state.Change
		if err := json.Unmarshal(e.Data, &c); err != nil || e.Type != "change" || c.Generation != last+1 {
			t.Fatalf("after generation %d: %s %s, %v", last, e.Type, e.Data, err)
		}
		last = c.Generation
	}
	if last < 20 {
		t.Errorf("only %d generations", last)
	}
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 7, "green": 3}, 1e12, by))
	must[proxy.RouteStatus](t)(x.Ramp("predict", map[string]float64{"blue": 3, "green": 7}, 1e12, by))
	must[proxy.RouteStatus](t)(x.SetWeights("predict", map[string]float64{"blue": 1, "green": 0}, by))
	var told []string
	for len(told) < 7 {
		e := <-events
		var r rampEvent
		_ = json.Unmarshal(e.Data, &r)
		told = append(told, strings.TrimSpace(e.Type+" "+r.State))
	}
	if got, want := strings.Join(told, ", "), "change, ramp started, change, ramp stopped, ramp started, change, ramp stopped"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func BenchmarkPublish(b *testing.B) {
	c := hubOf(keptEvents, 0)
	b.ReportAllocs()
	for b.Loop() {
		c.hub.publish("n", 1)
	}
}
