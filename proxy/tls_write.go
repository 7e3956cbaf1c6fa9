package proxy

import (
	"errors"
	"os"
	"syscall"
)

// transmit counts what is encrypted as sent: after an interrupt the next one sends what has not left.
func (t *tlsConn) transmit(p []byte, progress func()) (n int, err error) {
	if err := t.stopped(); err != nil {
		return 0, err
	}
	t.progress = progress
	if err := t.flush(); err != nil { // what an interrupt has left
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		piece := p[n:min(len(p), n+tlsPiece)]
		t.bring(len(piece))
		if _, err := t.tls.Write(piece); err != nil {
			return n, err
		}
		n += len(piece) // it is on its way, whatever happens
		if err := t.flush(); err != nil || n == len(p) {
			return n, err
		}
		if progress != nil {
			progress()
		}
	}
}

// exchange is socket's, in one step where the file is fused.
func (t *tlsConn) exchange(w, r []byte, check bool) (n int, sent bool, err error) {
	if check && !t.quiet() {
		return 0, false, errStale
	}
	if err := t.stopped(); err != nil {
		return 0, false, err
	}
	t.progress = nil
	t.bring(len(w))
	if _, err := t.tls.Write(w); err != nil {
		return 0, false, err
	}
	t.asked, t.sendErr = false, nil
	if err := t.file.Read(t.askFn); err != nil {
		return 0, t.asked, err
	}
	if errors.Is(t.sendErr, os.ErrDeadlineExceeded) {
		return 0, true, t.sendErr
	}
	// An endpoint that answers early and closes makes the write fail: what it said still counts.
	sendErr := t.sendErr
	if n, err = t.receive(r); err != nil && sendErr != nil {
		err = sendErr
	}
	return n, true, err
}

// askStep is exchangeStep.
func (t *tlsConn) askStep(fd uintptr) bool {
	if t.asked {
		return t.fillStep(fd)
	}
	t.asked = true
	t.mu.Lock()
	t.sendStep(fd)
	all := len(t.out) == 0
	t.mu.Unlock()
	if all {
		return false
	}
	if t.sendErr = t.flush(); errors.Is(t.sendErr, os.ErrDeadlineExceeded) {
		return true
	}
	return t.fillStep(fd)
}

// unsent reports whether some of what transmit has taken has not left.
func (t *tlsConn) unsent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.out) > 0
}

// bring has out hold the records of so much plaintext without growing.
func (t *tlsConn) bring(size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outBuf == nil && size > tlsSmall {
		t.outBuf = tlsBulk.Get().(*[]byte)
		t.out = (*t.outBuf)[:0]
	}
}

// flush sends what is gathered, and waits for it.
func (t *tlsConn) flush() error {
	t.mu.Lock()
	if len(t.out) == 0 {
		t.mu.Unlock()
		return nil
	}
	t.sending = true
	t.mu.Unlock()
	t.sendErr = nil
	err := t.file.Write(t.pushFn)
	if err == nil {
		err = t.sendErr
	}
	t.mu.Lock()
	t.sending = false
	t.mu.Unlock()
	return err
}

func (t *tlsConn) pushStep(fd uintptr) bool {
	for {
		t.mu.Lock()
		rest := t.out[t.sent:]
		t.mu.Unlock()
		n, err := t.send(fd, rest)
		if n > 0 {
			if t.leave(n) {
				return true
			}
			if t.progress != nil {
				t.progress()
			}
			continue
		}
		if err == syscall.EAGAIN {
			return false
		}
		t.sendErr = err
		return true
	}
}

// leave notes that n more bytes of out were sent; all: nothing is left.
func (t *tlsConn) leave(n int) (all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent += n
	if t.sent < len(t.out) {
		return false
	}
	t.letOut()
	return true
}

// letOut gives the buffer of out back. Called with mu held.
func (t *tlsConn) letOut() {
	if b := t.outBuf; cap(*b) > tlsSmall+tlsOverhead {
		tlsBulk.Put(b)
	} else {
		tlsOut.Put(b)
	}
	t.out, t.outBuf, t.sent = nil, nil, 0
}

// sendNow sends of out what can be sent without waiting. The rest waits for the next transmit, as all of it does
// where a strand is sending.
func (t *tlsConn) sendNow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sending && len(t.out) > 0 {
		_ = t.file.Control(t.sendOnce)
	}
}

func (t *tlsConn) sendStep(fd uintptr) {
	n, _ := t.send(fd, t.out[t.sent:])
	if t.sent += max(n, 0); t.sent == len(t.out) {
		t.letOut()
	}
}

func (t *tlsConn) send(fd uintptr, p []byte) (int, error) {
	for {
		if t.ops != nil {
			t.ops.Writes.Add(1)
		}
		n, err := sysWrite(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
