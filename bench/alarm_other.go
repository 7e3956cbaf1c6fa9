//go:build !linux

package bench

import (
	"sync"
	"time"
)

// alarm waits for a moment with the runtime's timers.
type alarm struct {
	canceled chan struct{}
	once     sync.Once
}

func newAlarm() (*alarm, error) { return &alarm{canceled: make(chan struct{})}, nil }

// wait returns true at the moment due, or false when the alarm was canceled.
func (a *alarm) wait(due time.Time) bool {
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.canceled:
		return false
	}
}

// cancel wakes a goroutine in wait, and every later one. It may be called from any goroutine.
func (a *alarm) cancel() { a.once.Do(func() { close(a.canceled) }) }

// close ends the alarm; nothing may be waiting.
func (a *alarm) close() {}
