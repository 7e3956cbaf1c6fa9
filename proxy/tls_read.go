package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// record is the length of the record that in begins with; 0 while it is not whole. Where crypto/tls refuses a
// record by its header that is all there is to it.
func (t *tlsConn) record() int {
	if len(t.in) < tlsHeader {
		return 0
	}
	size := tlsHeader + (int(t.in[3])<<8 | int(t.in[4]))
	if size > tlsRecord || !t.begun && t.in[0] != tlsAlert && t.in[0] != tlsHandshake {
		return tlsHeader
	}
	if len(t.in) < size {
		return 0
	}
	return size
}

// decrypt puts what the next record of data has into p, or says errIdle where it has not come. It fails with io.EOF
// only where the peer has said that this is the end.
func (t *tlsConn) decrypt(p []byte) (n int, err error) {
	defer t.note()
	for {
		if len(t.plain) > 0 {
			n = copy(p, t.plain)
			if t.plain = t.plain[n:]; len(t.plain) == 0 {
				tlsPlain.Put(t.plainBuf)
				t.plain, t.plainBuf = nil, nil
			}
			return n, nil
		}
		if t.ended != nil {
			return 0, t.ended
		}
		size := t.record()
		if size == 0 {
			return 0, errIdle
		}
		if n, err = t.decryptRecord(p, size); n > 0 || err != nil {
			return n, err
		}
	}
}

// decryptRecord decrypts a record of this size: into p where that has room for all of it, else into plain.
func (t *tlsConn) decryptRecord(p []byte, size int) (n int, err error) {
	into := p
	if len(p) < size {
		t.plainBuf = tlsPlain.Get().(*[]byte)
		into = *t.plainBuf
	}
	t.allowed = size
	n, err = t.tls.Read(into)
	t.allowed = 0
	t.feed(n)
	if len(t.in) == 0 {
		t.giveBack()
	}
	if len(p) < size {
		if t.plain = into[:n]; n == 0 {
			tlsPlain.Put(t.plainBuf)
			t.plainBuf = nil
		}
		n = 0
	}
	switch {
	case err == nil:
	case err == errStarved: // the record was no data
		t.sendNow() // but may want an answer
		err = nil
		if t.bare++; t.bare > maxBare {
			t.ended = errBare
		}
	default:
		t.ended = err
		t.sendNow()
		err = nil // what was decrypted comes first
	}
	return n, err
}

// A peer may ask for new keys with every record. Making them takes as much time as dozens of kilobytes of data, and an
// answer of 27 bytes waits for it: so it may send this many records without data, and one more for so many bytes of data.
const (
	maxBare  = 256
	bareEach = 64 << 10
)

var errBare = errors.New("the peer asks for new keys all the time")

// feed counts data.
func (t *tlsConn) feed(n int) {
	if t.fed += n; t.fed >= bareEach {
		t.bare = max(t.bare-t.fed/bareEach, 0)
		t.fed %= bareEach
	}
}

// note keeps ready right for who asks from elsewhere.
func (t *tlsConn) note() {
	t.ready.Store(len(t.plain) > 0 || t.ended != nil || t.record() > 0)
}

// giveBack lets go of the buffer for ciphertext, which is empty.
func (t *tlsConn) giveBack() {
	if t.inBuf != nil {
		tlsIn.Put(t.inBuf)
	}
	t.in, t.inBuf = nil, nil
}

// fillStep reads ciphertext behind what there is. It holds a buffer only when there is something.
func (t *tlsConn) fillStep(fd uintptr) bool {
	t.makeRoom()
	room := (*t.inBuf)[:cap(*t.inBuf)]
	at := cap(room) - cap(t.in) + len(t.in) // in is a part of it
	for {
		if t.ops != nil {
			t.ops.Reads.Add(1)
		}
		n, err := sysRead(fd, room[at:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if len(t.in) == 0 {
				t.giveBack()
			}
			return false
		case err != nil:
			t.ended = err
		case n == 0:
			t.ended = errCutOff
		default:
			t.in = t.in[:len(t.in)+n]
			if at+n < len(room) {
				t.file.drained()
			}
		}
		return true
	}
}

// errCutOff: the connection has ended and the peer has not said so over TLS, so that somebody else may have cut
// it off.
var errCutOff = fmt.Errorf("%w: the connection ended without a close_notify", io.ErrUnexpectedEOF)

// makeRoom has inBuf hold the rest of the record that in begins with, and more.
func (t *tlsConn) makeRoom() {
	if t.inBuf == nil {
		rest := t.in
		t.inBuf = tlsIn.Get().(*[]byte)
		t.in = (*t.inBuf)[:copy(*t.inBuf, rest)]
		return
	}
	if cap(t.in) < tlsRecord {
		t.in = (*t.inBuf)[:copy(*t.inBuf, t.in)]
	}
}

// shrink lets go of the buffer for the sake of a part of a record that may be long in coming.
func (t *tlsConn) shrink() {
	if t.inBuf != nil && len(t.in) < tlsInBuffer/4 {
		rest := bytes.Clone(t.in)
		t.giveBack()
		t.in = rest
	}
}

// pullStep is fillStep for a strand that does not wait.
func (t *tlsConn) pullStep(fd uintptr) {
	if t.wentDry = !t.fillStep(fd); t.wentDry {
		t.file.drained()
	}
}

func (t *tlsConn) receive(p []byte) (int, error) {
	for {
		if err := t.stopped(); err != nil {
			return 0, err
		}
		n, err := t.decrypt(p)
		if err != errIdle {
			return n, err
		}
		if err := t.file.Read(t.fillFn); err != nil {
			return 0, err
		}
	}
}

func (t *tlsConn) receiveNow(p []byte) (int, error) {
	for {
		n, err := t.decrypt(p)
		if err != errIdle {
			return n, err
		}
		if !t.file.announced() {
			t.shrink()
			return 0, errIdle
		}
		if err := t.file.Control(t.pullOnce); err != nil {
			return 0, err
		}
		if t.wentDry {
			t.shrink()
			return 0, errIdle
		}
	}
}

func (t *tlsConn) attend() error {
	for {
		if err := t.stopped(); err != nil {
			return err
		}
		if _, err := t.decrypt(nil); err != errIdle {
			return nil
		}
		if err := t.file.Read(t.fillFn); err != nil {
			return err
		}
	}
}
