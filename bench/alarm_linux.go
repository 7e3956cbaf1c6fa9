package bench

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// wakeLead is how long before the due moment an alarm rings, because waking takes the kernel
// and the scheduler 20 to 80 µs on a virtual machine. The rest is not waited out: spinning
// would take the CPU from the answers that arrive meanwhile.
const wakeLead = 50 * time.Microsecond

// alarm waits for a moment more exactly than the runtime's timers, which an idle process waits
// for in steps of a millisecond. It is a kernel timer watched by the runtime's poller, so waiting
// costs no thread.
type alarm struct {
	fd    int // the timer's; valid until close
	timer *os.File
	buf   [8]byte
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a timer: %w (is the limit of open files too low?)", err)
	}
	return &alarm{fd: fd, timer: os.NewFile(uintptr(fd), "timerfd")}, nil
}

// wait returns true near the moment due, at most wakeLead before it, or false when the alarm was
// canceled.
func (a *alarm) wait(due time.Time) bool {
	d := time.Until(due) - wakeLead
	if d <= 0 {
		return true
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		return false
	}
	_, err := a.timer.Read(a.buf[:])
	return err == nil
}

// cancel wakes a goroutine in wait, and every later one. It may be called from any goroutine.
func (a *alarm) cancel() { _ = a.timer.SetReadDeadline(time.Unix(1, 0)) }

// close ends the alarm; nothing may be waiting.
func (a *alarm) close() { _ = a.timer.Close() }
