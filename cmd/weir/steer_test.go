package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/proxy"
)

func route(t *testing.T, w *weir) (r proxy.RouteStatus) {
	t.Helper()
	if code := w.api("GET", "/api/v1/routes/predict", "", &r); code != 200 {
		t.Fatalf("GET the route: %d", code)
	}
	return r
}

// traffic is a steady stream of requests that are never sent twice, and who answered them.
type traffic struct {
	t       *testing.T
	address string
	stop    chan bool
	workers sync.WaitGroup

	mu      sync.Mutex
	answers []answered
	failed  []string
}

type answered struct {
	begun, ended time.Time
	variant      string
}

// newTraffic sends rate requests a second to weir over many kept-alive connections.
func newTraffic(t *testing.T, w *weir, rate int) *traffic {
	const workers = 20
	tr := &traffic{t: t, address: w.addr, stop: make(chan bool)}
	for range workers {
		tr.workers.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: deadline}
			defer client.CloseIdleConnections()
			tick := time.NewTicker(workers * time.Second / time.Duration(rate))
			defer tick.Stop()
			for {
				select {
				case <-tr.stop:
					return
				case <-tick.C:
					tr.one(client)
				}
			}
		})
	}
	return tr
}

// one makes one request. net/http repeats a POST by itself only where it has sent nothing of it.
func (tr *traffic) one(client *http.Client) {
	begun := time.Now()
	resp, err := client.Post("http://"+tr.address+"/predict", "application/json", strings.NewReader(`{"features":[1,2,3]}`))
	why := ""
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			why = resp.Status + ": " + string(body)
		}
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if err != nil {
		why = err.Error()
	}
	if why != "" {
		tr.failed = append(tr.failed, why)
		return
	}
	tr.answers = append(tr.answers, answered{begun, time.Now(), resp.Header.Get("X-Weir-Variant")})
}

// window is a time in which a variant must get no new request.
type window struct {
	from, to time.Time
	variant  string
}

func (tr *traffic) halt() {
	close(tr.stop)
	tr.workers.Wait()
}

// end stops the traffic and judges it.
func (tr *traffic) end(windows []window) {
	tr.t.Helper()
	tr.halt()
	if len(tr.failed) > 0 {
		tr.t.Errorf("%d of %d requests failed: %q", len(tr.failed), len(tr.failed)+len(tr.answers), tr.failed[:min(3, len(tr.failed))])
	}
	within, wrong := 0, 0
	for _, a := range tr.answers {
		for _, w := range windows {
			if !a.begun.After(w.from) || !a.ended.Before(w.to) {
				continue
			}
			if within++; a.variant == w.variant {
				if wrong++; wrong <= 3 {
					tr.t.Errorf("%s answered a request that began %v after it was to get none", a.variant, a.begun.Sub(w.from))
				}
			}
		}
	}
	tr.t.Logf("%d requests, %d of them while a variant was to get none, %d answered by it", len(tr.answers), within, wrong)
	if within == 0 && len(windows) > 0 {
		tr.t.Error("no request fell into a time in which a variant was to get none")
	}
}

// takeOver starts a weir that takes over from w, and waits until it serves.
func takeOver(t *testing.T, w *weir) *weir {
	t.Helper()
	next := serveFile(t, w.file, "--takeover")
	if next.addr != w.addr || next.admin != w.admin {
		t.Fatalf("the new weir listens on %s and %s, the old one on %s and %s", next.addr, next.admin, w.addr, w.admin)
	}
	return next
}

// TestSteeringLosesNothing shifts, switches, reloads and drains under load, and replaces the program. No
// request fails, and none that begins after a change was acknowledged is answered by a variant that the
// change left without traffic.
func TestSteeringLosesNothing(t *testing.T) {
	blue, green := endpoint(t, "blue"), endpoint(t, "green")
	text := blueGreen(blue, green, "blue: 1, green: 1") + "    timeouts: {total: %ds}\n"
	w := serve(t, fmt.Sprintf(text, 100))
	tr := newTraffic(t, w, 1000)
	var windows []window
	// must makes a change after which variant is to get nothing, until the next one.
	must := func(method, path, body, variant string) {
		t.Helper()
		if n := len(windows); n > 0 && windows[n-1].to.IsZero() {
			windows[n-1].to = time.Now()
		}
		if code := w.api(method, path, body, nil); code != 200 {
			t.Fatalf("%s %s %s: %d", method, path, body, code)
		}
		if variant != "" {
			windows = append(windows, window{from: time.Now(), variant: variant})
			time.Sleep(3 * time.Millisecond)
		}
	}
	shifts, reloads, drains := atLength(60, 500), atLength(24, 200), atLength(10, 50)
	done := map[string]int{}
	for i := range shifts {
		one, other := "blue", "green"
		if i%2 == 1 {
			one, other = other, one
		}
		if i%3 == 0 {
			must("POST", "/api/v1/routes/predict/switch", fmt.Sprintf(`{"to":%q}`, one), other)
		} else {
			must("PUT", "/api/v1/routes/predict/weights", fmt.Sprintf(`{"weights":{%q:7,%q:0}}`, one, other), other)
		}
		if done["reloads"] < reloads && i*reloads/shifts >= done["reloads"] {
			done["reloads"]++
			writeFile(t, w.file, fmt.Sprintf(text, 100+done["reloads"]))
			if code := w.api("POST", "/api/v1/reload", "", nil); code != 200 {
				t.Fatalf("reload: %d", code)
			}
		}
		if done["drains"] < drains && i*drains/shifts >= done["drains"] {
			done["drains"]++
			must("PUT", "/api/v1/routes/predict/weights", `{"weights":{"blue":1,"green":1}}`, "")
			if i%2 == 0 {
				must("POST", "/api/v1/pools/"+one+"/drain", "", one)
				must("POST", "/api/v1/pools/"+one+"/undrain", "", "")
			} else {
				address := map[string]string{"blue": blue.Addr(), "green": green.Addr()}[one]
				must("POST", "/api/v1/pools/"+one+"/endpoints/"+address+"/drain", "", one)
				must("POST", "/api/v1/pools/"+one+"/endpoints/"+address+"/undrain", "", "")
			}
		}
	}
	must("PUT", "/api/v1/routes/predict/weights", `{"weights":{"blue":7,"green":0}}`, "green")
	next := takeOver(t, w)
	if code := w.exit(); code != 0 {
		t.Errorf("the weir that was replaced exits with %d", code)
	}
	w = next
	must("POST", "/api/v1/routes/predict/switch", `{"to":"green"}`, "blue")
	time.Sleep(100 * time.Millisecond)
	windows[len(windows)-1].to = time.Now()
	tr.end(windows)
	t.Logf("%d shifts, %v, and a takeover", shifts, done)
	if g := w.state().Generation; g < uint64(shifts+reloads+2*drains) {
		t.Errorf("generation %d after %d shifts, %v", g, shifts, done)
	}
}
