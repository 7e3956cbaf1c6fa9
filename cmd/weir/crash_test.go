package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atLength is n, or many where the long versions of the tests were asked for (make prove).
func atLength(n, many int) int {
	if os.Getenv("WEIR_PROVE") != "" {
		return many
	}
	return n
}

// TestKillLosesNoChange kills weir while it writes, again and again: what was acknowledged is in force after
// the restart, or the change that was being written, and nothing else. Both variants get weights of which
// one follows from the other, so that a mixture would show.
func TestKillLosesNoChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	writeFile(t, file, blueGreen(endpoint(t, "blue"), endpoint(t, "green"), "blue: 1, green: 2"))
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	acknowledged, generation, changes := 0, uint64(1), 0
	for range atLength(15, 200) {
		w := serveFile(t, file)
		r := route(t, w)
		n := int(r.Variants[0].Weight)
		if acknowledged > 0 && (n != acknowledged && n != acknowledged+1 || r.Variants[1].Weight != float64(2*n)) {
			t.Fatalf("after a kill the weights are %v and %v; %d was acknowledged", r.Variants[0].Weight, r.Variants[1].Weight, acknowledged)
		}
		if g := w.state().Generation; g != generation && g != generation+1 {
			t.Fatalf("after a kill generation %d is in force; %d was acknowledged", g, generation)
		} else {
			generation = g
		}
		acknowledged = max(n, acknowledged)
		killed := make(chan bool)
		go func() {
			time.Sleep(time.Duration(random.IntN(int(30 * time.Millisecond))))
			_ = w.cmd.Process.Signal(syscall.SIGKILL)
			close(killed)
		}()
		for {
			next := acknowledged + 1
			if !put(t, w, fmt.Sprintf(`{"weights":{"blue":%d,"green":%d}}`, next, 2*next)) {
				break
			}
			acknowledged, generation, changes = next, generation+1, changes+1
		}
		<-killed
		<-w.ended
		http.DefaultClient.CloseIdleConnections()
	}
	t.Logf("%d changes were acknowledged", changes)
	if changes == 0 {
		t.Error("weir was killed before it could change anything")
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*broken*")); err != nil || len(left) > 0 {
		t.Errorf("weir found its own state torn: %v", left)
	}
}

// put sets weights of the route predict and reports whether that was acknowledged.
func put(t *testing.T, w *weir, body string) bool {
	t.Helper()
	req, err := http.NewRequest("PUT", w.admin+"/api/v1/routes/predict/weights", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false // killed
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("PUT %s: %s", body, resp.Status)
	}
	return true
}
