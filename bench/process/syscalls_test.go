package process

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestSystemCallsOfAServerAreCounted(t *testing.T) {
	address, _, err := FreeAddress(0)
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t)
	defer g.Stop(10 * time.Second)
	p := start(t, g, spec("server", address))
	answers := Answers("http://" + address)
	if err := p.Ready(context.Background(), 10*time.Second, answers); err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	const requests = 50
	work := func() error {
		for range requests {
			if err := answers(context.Background()); err != nil {
				return err
			}
		}
		return nil
	}
	n, by, err := p.CountSystemCalls(work)
	if err != nil {
		t.Fatalf("neither the kernel nor strace counts: %v", err)
	}
	// A request takes a read and a write at least.
	if n < 2*requests || n > 200*requests || by != "tracepoint" && by != "strace" {
		t.Errorf("%d system calls for %d requests, by %q", n, requests, by)
	}
	pids, err := p.Pids()
	if err != nil {
		t.Fatal(err)
	}
	if n, err = straced(pids, work); err != nil || n < 2*requests || n > 200*requests {
		t.Errorf("strace counts %d system calls for %d requests, %v", n, requests, err)
	}
	if err := answers(context.Background()); err != nil {
		t.Errorf("after strace let go: %v", err)
	}
	failed := errors.New("no more")
	if _, _, err := p.CountSystemCalls(func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("error %v, want that of the work", err)
	}
	if _, err := straced(pids, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("strace: error %v, want that of the work", err)
	}
}

func TestStraceTotal(t *testing.T) {
	table := `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 35.15    0.001194        1194         1           execve
------ ----------- ----------- --------- --------- ----------------
100.00    0.003396          31       109%s total
`
	for _, errs := range []string{"          ", "        14"} {
		if n, err := straceTotal(strings.NewReader(strings.Replace(table, "%s", errs, 1))); n != 109 || err != nil {
			t.Errorf("%d, %v; want 109", n, err)
		}
	}
	if n, err := straceTotal(strings.NewReader("strace: Operation not permitted\n")); err == nil {
		t.Errorf("%d calls in no table", n)
	}
}
