package proxy

import "sync"

// lending reads from a connection that may be silent for long, into a buffer that it holds only from the moment on at
// which there is something to read. That costs no system call more than to hold one.
type lending struct {
	from       *socket
	pool       *sync.Pool // of the buffer that is next: p.relays or p.pieces
	lead, tail int        // room before and behind what is read, in bytes
	lent       *[]byte    // nil: none
	stepFn     func(fd uintptr) bool
}

func (l *lending) open(from *socket, pool *sync.Pool) {
	l.from, l.pool, l.stepFn = from, pool, l.step
}

// piece is what read has read, of n bytes.
func (l *lending) piece(n int) []byte {
	if l.lent == nil {
		return nil
	}
	return (*l.lent)[l.lead : l.lead+n]
}

// read waits for bytes, and takes a buffer for them when they are there (piece).
func (l *lending) read() (n int, err error) {
	s := l.from
	if s.via != nil {
		if err := s.via.attend(); err != nil {
			return 0, err
		}
		return s.via.receive(l.take())
	}
	s.n, s.err = 0, nil
	err = s.fd.Read(l.stepFn)
	s.rbuf = nil
	if err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (l *lending) step(fd uintptr) bool {
	l.from.rbuf = l.take()
	if l.from.readStep(fd) {
		return true
	}
	l.giveBack()
	return false
}

func (l *lending) take() []byte {
	l.lent = l.pool.Get().(*[]byte)
	b := *l.lent
	return b[l.lead : len(b)-l.tail]
}

// giveBack ends the use of the buffer, if there is one. The connection may be another's by then.
func (l *lending) giveBack() {
	if l.lent != nil {
		l.pool.Put(l.lent)
		l.lent = nil
	}
}
