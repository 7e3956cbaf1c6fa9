//go:build linux

package takeover

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTakeoversUnderLoad(t *testing.T) {
	takeovers := 5
	if os.Getenv("WEIR_PROVE") != "" {
		takeovers = 50
	}
	o := childOptions{Directory: t.TempDir(), Within: 10 * time.Second}
	running, l := begin(t, o)
	o.Takeover = true
	for range takeovers {
		next := start(t, o)
		next.wait(stepAccepts)
		if status := running.exit(); status != 0 {
			t.Fatalf("the old one ended with status %d", status)
		}
		l.answeredBy(next)
		running = next
	}
	l.wantNone(t)
}

// newSteps are those at which the new one has not said that it serves.
func newSteps() []string { return []string{stepTaken, stepReady, stepYours, stepState} }

func TestNewOneDies(t *testing.T) {
	for _, step := range newSteps() {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			o := childOptions{Directory: t.TempDir(), Within: time.Minute}
			running, l := begin(t, o)
			o.Takeover = true
			stopped := o
			stopped.Stop = step
			next := start(t, stopped)
			next.wait(step)
			if step != stepTaken {
				running.wait(stepReleased)
			}
			next.kill()
			running.wait(stepFailed)
			l.answeredBy(running)
			wantTakeover(t, running, o, l)
			l.wantNone(t)
		})
	}
}

// TestNewOneHangs: it is given up, and when it wakes it finds that out before it accepts a connection.
func TestNewOneHangs(t *testing.T) {
	for _, step := range newSteps() {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			o := childOptions{Directory: t.TempDir(), Within: 300 * time.Millisecond}
			running, l := begin(t, o)
			o.Takeover = true
			stopped := o
			stopped.Stop = step
			next := start(t, stopped)
			next.wait(step)
			if step == stepTaken {
				running.wait(stepFailed)
			} else {
				running.wait(stepReclaims)
			}
			l.answeredBy(running)
			next.goOn()
			reason := "cannot take over: the running weir refuses: it took too long to"
			if step == stepReady || step == stepYours {
				reason = "the state is locked" // the running one has it back
			}
			if status := next.exit(); status != 1 || !strings.Contains(strings.Join(next.said("error:"), ""), reason) {
				t.Errorf("the new one ended with status %d: %q", status, next.said("error:"))
			}
			running.wait(stepFailed)
			l.answeredBy(running)
			l.wantNone(t)
		})
	}
}

// wantTakeover checks that the next attempt succeeds.
func wantTakeover(t *testing.T, running *process, o childOptions, l *load) {
	t.Helper()
	next := start(t, o)
	next.wait(stepAccepts)
	if status := running.exit(); status != 0 {
		t.Errorf("the old one ended with status %d", status)
	}
	l.answeredBy(next)
}

// TestRunningOneDies: what it had accepted is lost, but nobody is refused.
func TestRunningOneDies(t *testing.T) {
	for _, c := range []struct{ name, running, next string }{
		{name: "before ready", next: stepTaken},
		{name: "in release", running: stepReleases},
		{name: "before yours", running: stepReleased},
		{name: "after yours", next: stepYours},
		{name: "before serving", next: stepState},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := childOptions{Directory: t.TempDir(), Stop: c.running, Within: time.Minute}
			running, l := begin(t, o)
			o.Takeover, o.Stop = true, c.next
			next := start(t, o)
			if c.running != "" {
				running.wait(c.running)
			} else {
				next.wait(c.next)
			}
			running.kill()
			running.exit()
			next.goOn()
			next.wait(stepAccepts)
			l.answeredBy(next)
			o.Stop = ""
			wantTakeover(t, next, o, l)
			for _, err := range l.end() {
				if errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatal(err)
				}
			}
		})
	}
}
