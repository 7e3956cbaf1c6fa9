package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// modelAddress, in the environment, makes the test binary a model server there.
const modelAddress = "WEIR_TEST_MODEL"

// serveModel answers every request after a moment, as a model does.
func serveModel(address string) int {
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(5 * time.Millisecond)
		_, _ = io.WriteString(w, `{"prediction":1}`)
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// modelServer is a model server in a process of its own.
type modelServer struct {
	t       *testing.T
	address string
	cmd     *exec.Cmd
}

func newModel(t *testing.T) *modelServer {
	m := &modelServer{t: t, address: freeAddress(t)}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *modelServer) start() {
	m.t.Helper()
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), modelAddress+"="+m.address)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "the model serves", func() bool {
		resp, err := http.Get("http://" + m.address + "/health/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return true
	})
}

func (m *modelServer) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // it was killed
}

// TestEndpointsThatDieCostNoRequest kills one of three model servers each second, and starts it again, under
// POST requests, with the retries and the outlier detection that are there without a word in the file.
func TestEndpointsThatDieCostNoRequest(t *testing.T) {
	var models []*modelServer
	var addresses []string
	for range 3 {
		m := newModel(t)
		models, addresses = append(models, m), append(addresses, fmt.Sprintf("%q", m.address))
	}
	w := serve(t, fmt.Sprintf(`
engine: "${WEIR_TEST_ENGINE:-auto}"
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
pools: {blue: {endpoints: [%s], probe: {path: /health/ready, interval: 300ms, timeout: 200ms, rise: 1, fall: 2}}}
routes: [{name: predict, match: {path: /predict}, split: {blue: 1}}]
`, strings.Join(addresses, ", ")))
	tr := newTraffic(t, w, 500)
	time.Sleep(time.Second) // the budget of retries is a share of the requests of the last seconds, ten at first
	end := time.Now().Add(time.Duration(atLength(4, 120)) * time.Second)
	kills := 0
	for ; time.Now().Before(end); kills++ {
		next := time.Now().Add(time.Second)
		m := models[kills%len(models)]
		m.kill()
		time.Sleep(300 * time.Millisecond) // so that some requests meet a closed port
		m.start()
		time.Sleep(time.Until(next))
	}
	tr.end(nil)
	t.Logf("%d kills", kills)
	retried := false
	for line := range strings.Lines(w.metrics()) {
		if strings.HasPrefix(line, "weir_retries_total") || strings.HasPrefix(line, "weir_retry_budget") {
			t.Log(strings.TrimSpace(line))
			retried = retried || !strings.HasSuffix(line, " 0\n")
		}
	}
	if !retried {
		t.Error("nothing was sent again: the kills met no request")
	}
}

// TestASickEndpointGetsAlmostNothing: of three endpoints one fails six of ten requests. Five seconds later it gets
// less than two percent of them.
func TestASickEndpointGetsAlmostNothing(t *testing.T) {
	sick, one, two := endpoint(t, "sick"), endpoint(t, "one"), endpoint(t, "two")
	sick.SetBehaviour(backendtest.Behaviour{ErrorRate: 0.6})
	w := serve(t, fmt.Sprintf(`
engine: "${WEIR_TEST_ENGINE:-auto}"
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
pools: {blue: {endpoints: [%q, %q, %q], probe: off, policy: round_robin}}
routes: [{name: predict, match: {path: /predict}, split: {blue: 1}}]
`, sick.Addr(), one.Addr(), two.Addr()))
	tr := newTraffic(t, w, 400)
	defer tr.halt()
	time.Sleep(5 * time.Second)
	total := func() int64 { return sick.Counts().Requests + one.Counts().Requests + two.Counts().Requests }
	ill, all := sick.Counts().Requests, total()
	time.Sleep(2 * time.Second)
	ill, all = sick.Counts().Requests-ill, total()-all
	t.Logf("%d of %d requests", ill, all)
	if all == 0 || float64(ill) >= 0.02*float64(all) {
		t.Errorf("the sick endpoint gets %d of %d requests", ill, all)
	}
	if e := w.state().Pools[0].Endpoints[0]; !e.Ejected || e.Ejection == "" || e.Ejections != 1 || !e.Healthy {
		t.Errorf("%+v", e)
	}
	if out, _, code := w.command("status"); code != 3 || !strings.Contains(out, "ejected") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
}
