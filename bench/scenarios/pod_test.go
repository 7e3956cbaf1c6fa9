package scenarios

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// ends has requests come at those milliseconds and returns when each is done, in milliseconds.
func ends(m Model, arrivals ...int) []int {
	m.Batch = max(m.Batch, 1)
	l := newLine(m, 1)
	var places []*batch
	for _, at := range arrivals {
		places = append(places, l.join(time.Duration(at)*ms))
	}
	var done []int
	for _, b := range places {
		done = append(done, int(l.end(b)/ms))
	}
	return done
}

func TestLine(t *testing.T) {
	one := Model{Servers: 1, Service: 10 * ms, Shape: Constant}
	four := Model{Servers: 4, Service: 10 * ms, Shape: Constant}
	batches := Model{Servers: 1, Service: 20 * ms, Shape: Constant, Batch: 3, Gather: 5 * ms, Each: 0.1}
	noisy := Model{Servers: 1, Service: 10 * ms, Shape: Constant, Slower: 5, Phase: 100 * ms}
	for _, tt := range []struct {
		name     string
		model    Model
		arrivals []int
		want     []int
	}{
		{"one at a time, in turn", one, []int{0, 0, 5, 100}, []int{10, 20, 30, 110}},
		{"four at a time", four, []int{0, 1, 2, 3, 4, 4}, []int{10, 11, 12, 13, 20, 21}},
		{"a batch gathers", batches, []int{0, 4, 60}, []int{27, 27, 85}},
		{"a full batch takes no more", batches, []int{0, 1, 2, 3}, []int{29, 29, 29, 49}},
		{"what waits for a batch is one", batches, []int{0, 10, 20, 24}, []int{25, 49, 49, 49}},
		{"a neighbour comes and goes", noisy, []int{95, 95, 200}, []int{105, 155, 210}},
	} {
		if got := ends(tt.model, tt.arrivals...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: requests at %v are done at %v, want %v", tt.name, tt.arrivals, got, tt.want)
		}
	}
}

// The same seed draws the same times, whose mean is the model's.
func TestDraws(t *testing.T) {
	m := Model{Servers: 1, Service: 10 * ms, Shape: Exponential, Batch: 1}
	a, b, other := newLine(m, 7), newLine(m, 7), newLine(m, 8)
	const n = 20_000
	for i := range n {
		at := time.Duration(i) * time.Second
		x, y, z := a.join(at), b.join(at), other.join(at)
		if *x != *y {
			t.Fatalf("request %d: %+v and %+v of one seed", i, x, y)
		}
		if i == 0 && *x == *z {
			t.Errorf("two seeds draw %+v", x)
		}
	}
	sum := 0.0
	for range n {
		sum += a.draw()
	}
	if mean := sum / n; math.Abs(mean-1) > 0.05 {
		t.Errorf("the mean of %d draws is %v, want about 1", n, mean)
	}
}

func TestParseModelRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "model", `{}`: "a server and a service time",
		`{"Servers":1,"Service":1000,"Shape":"square"}`:                `shape "square" must be`,
		`{"Servers":1,"Service":1000,"Shape":"constant","Phase":1000}`: "factor",
	} {
		if m, err := ParseModel(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want an error with %q", text, m, err, want)
		}
	}
}

// serving starts a pod and returns its URL.
func serving(t *testing.T, m Model) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, ln, m) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return "http://" + ln.Addr().String()
}

func status(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestPodServes(t *testing.T) {
	url := serving(t, Model{Servers: 1, Service: 10 * ms, Shape: Constant, Batch: 1})
	begin := time.Now()
	for range 3 {
		if got := status(t, url+route); got != http.StatusOK {
			t.Errorf("status %d, want 200", got)
		}
	}
	if took := time.Since(begin); took < 30*ms {
		t.Errorf("three requests took %v, want 30ms at least", took)
	}
	if said, err := ask(t.Context(), http.MethodGet, url+pathServed); said != "3" || err != nil {
		t.Errorf("served %q, %v; want 3", said, err)
	}
	if _, err := ask(t.Context(), http.MethodPost, url+pathBegin+"?seed=x"); err == nil || !strings.Contains(err.Error(), "seed") {
		t.Errorf("a seed of x: %v", err)
	}
	failing := serving(t, Model{Servers: 1, Service: time.Hour, Shape: Constant, Batch: 1, Fails: 1})
	if got := status(t, failing+route); got != http.StatusInternalServerError {
		t.Errorf("status %d of a pod that fails at once, want 500", got)
	}
}

// A pod whose queue is full refuses, and begins empty when it is told to.
func TestPodRefusesAndBeginsAnew(t *testing.T) {
	url := serving(t, Model{Servers: 1, Service: time.Hour, Shape: Constant, Batch: 1, Queue: 1})
	statuses := make(chan int)
	for range 2 {
		go func() { statuses <- status(t, url+route) }()
	}
	for said := ""; said != "2"; time.Sleep(ms) {
		var err error
		if said, err = ask(t.Context(), http.MethodGet, url+pathServed); err != nil {
			t.Fatal(err)
		}
	}
	if got := status(t, url+route); got != http.StatusServiceUnavailable {
		t.Errorf("status %d beyond the queue, want 503", got)
	}
	if _, err := ask(t.Context(), http.MethodPost, url+pathBegin+"?seed=1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := <-statuses; got != http.StatusServiceUnavailable {
			t.Errorf("status %d of what waited at the begin, want 503", got)
		}
	}
	if said, err := ask(t.Context(), http.MethodGet, url+pathServed); said != "0" || err != nil {
		t.Errorf("served %q, %v; want 0", said, err)
	}
}
