package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tlsConn is the channel of what a TLS connection carries over a file.
//
// crypto/tls does the records; the waiting is done here. It is given ciphertext that is there, one whole record
// for each call, and what it writes is gathered and sent after the call. So none of its locks is held while a
// strand waits, an interrupt leaves it as it was, and what is buffered is known. Only the handshake waits inside,
// while nobody else uses the connection.
//
// While nothing is on its way the connection holds no buffers of its own.
type tlsConn struct {
	file   file
	ops    *SocketOps
	tls    *tls.Conn
	halted atomic.Bool // interrupted
	shaken bool        // the handshake is over
	begun  bool        // the first record was looked at
	// unnamed: the client asks for a name that there is no certificate for.
	unnamed bool

	// What came, the reading strand's: in is not decrypted yet, plain nobody has received.
	in, plain       []byte
	inBuf, plainBuf *[]byte
	allowed         int   // bytes of in that crypto/tls may take
	ended           error // why nothing more comes
	bare, fed       int   // records without data, and bytes of data, that were counted (tls_read.go)
	ready           atomic.Bool
	fillFn          func(fd uintptr) bool
	pullOnce        func(fd uintptr)
	pushFn          func(fd uintptr) bool
	sendOnce        func(fd uintptr)
	askFn           func(fd uintptr) bool
	asked           bool // the request of an exchange was sent
	wentDry         bool
	progress        func() // of the transmit under way
	sendErr         error

	mu      sync.Mutex // guards what is to be sent
	out     []byte
	outBuf  *[]byte
	sent    int  // of out
	sending bool // a strand is sending out
}

// Sizes of buffers, in bytes.
const (
	tlsHeader    = 5
	tlsRecord    = tlsHeader + 16<<10 + 2048 // the largest, of TLS 1.2
	tlsInBuffer  = 64 << 10
	tlsPiece     = 64 << 10 // of plaintext, encrypted before any of it is sent
	tlsSmall     = 8 << 10
	tlsOverhead  = 2 << 10 // of the records of a piece
	tlsAlert     = 21      // types of records
	tlsHandshake = 22
)

var (
	tlsIn    = sync.Pool{New: func() any { b := make([]byte, tlsInBuffer); return &b }}
	tlsPlain = sync.Pool{New: func() any { b := make([]byte, tlsRecord); return &b }}
	tlsOut   = sync.Pool{New: func() any { b := make([]byte, 0, tlsSmall+tlsOverhead); return &b }}
	tlsBulk  = sync.Pool{New: func() any { b := make([]byte, 0, tlsPiece+2*tlsOverhead); return &b }}
)

func newTLSConn(f file, ops *SocketOps) *tlsConn {
	t := &tlsConn{file: f, ops: ops}
	t.askFn = t.askStep
	t.fillFn, t.pullOnce, t.pushFn, t.sendOnce = t.fillStep, t.pullStep, t.pushStep, t.sendStep
	return t
}

// shake makes the handshake. It blocks, and what interrupts the file ends it for good.
func (t *tlsConn) shake(c *tls.Conn) error {
	t.tls = c
	err := c.Handshake()
	if err != nil {
		t.sendNow() // an alert
		t.giveBack()
		if t.ended == errCutOff {
			err = errNoHandshake
		}
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	t.shaken = true
	t.note()
	return nil
}

var errNoHandshake = errors.New("the connection was closed during the TLS handshake")

// await, breathe and readBefore pass on what engines ask of descriptors of theirs.
func (t *tlsConn) await(task func(strand)) bool {
	t.shrink()
	return t.file.(idler).await(task)
}

// idlerOf returns d as something that can wait without a strand; nil where its engine has no such thing.
func idlerOf(d descriptor) idler {
	if t, ok := d.(*tlsConn); ok {
		if _, ok := t.file.(idler); !ok {
			return nil
		}
	}
	i, _ := d.(idler)
	return i
}

func (t *tlsConn) breathe() {
	if b, ok := t.file.(breather); ok {
		b.breathe()
	}
}

func (t *tlsConn) readBefore(at time.Time) {
	if d, ok := t.file.(deadliner); ok {
		d.readBefore(at)
	}
}

func (t *tlsConn) announced() bool { return t.ready.Load() || t.file.announced() }
func (t *tlsConn) drained()        {}
func (t *tlsConn) peerGone() bool  { return t.file.peerGone() }
func (t *tlsConn) readable() bool  { return t.ready.Load() || t.file.readable() }

// quiet takes in what concerns TLS alone: tickets that come after the handshake, new keys.
func (t *tlsConn) quiet() bool {
	if !t.ready.Load() && t.file.quiet() {
		return true
	}
	_, err := t.receiveNow(nil)
	return err == errIdle
}

func (t *tlsConn) interrupt() {
	t.halted.Store(true)
	t.file.interrupt()
}

func (t *tlsConn) resume() {
	t.halted.Store(false)
	t.file.resume()
}

func (t *tlsConn) rest()                 { t.file.rest() }
func (t *tlsConn) local() netip.AddrPort { return t.file.local() }

func (t *tlsConn) closeWrite() {
	t.notify()
	t.file.closeWrite()
}

// notify tells the peer that nothing more comes, so that it takes what came for whole. It does not wait, and says
// nothing behind a message of which a part has not left.
func (t *tlsConn) notify() {
	t.mu.Lock()
	whole := t.sent == len(t.out)
	t.mu.Unlock()
	if t.shaken && whole {
		_ = t.tls.CloseWrite()
		t.sendNow()
	}
}

// close may come from anywhere while nobody uses the connection.
func (t *tlsConn) close() {
	if c, ok := t.file.(parter); ok {
		c.closeAfter(t.notify)
		return
	}
	t.notify()
	t.file.close()
}

// parter is a file that has to be where it belongs when it is closed; last is called there before.
type parter interface{ closeAfter(last func()) }

func (t *tlsConn) reset() { t.file.reset() }

// tlsWire is the connection underneath as crypto/tls sees it.
type tlsWire tlsConn

// tlsStarved is what crypto/tls reads when it has had the record that is its. It keeps its state after an error
// that says of itself that it is temporary.
type tlsStarved struct{}

func (tlsStarved) Error() string   { return "the record has not come yet" }
func (tlsStarved) Timeout() bool   { return false }
func (tlsStarved) Temporary() bool { return true }

var errStarved error = tlsStarved{}

func (w *tlsWire) Read(p []byte) (int, error) {
	t := (*tlsConn)(w)
	if t.allowed == 0 {
		if t.shaken {
			return 0, errStarved
		}
		if err := t.nextRecord(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.in[:t.allowed])
	t.in = t.in[n:]
	t.allowed -= n
	return n, nil
}

// nextRecord waits for a record of the handshake, with what was written before it sent.
func (t *tlsConn) nextRecord() error {
	if err := t.flush(); err != nil {
		return err
	}
	for {
		if t.allowed = t.record(); t.allowed > 0 {
			t.begun = true
			return nil
		}
		if t.ended != nil {
			return t.ended
		}
		if err := t.file.Read(t.fillFn); err != nil {
			return err
		}
	}
}

// Write gathers p, and cannot fail.
func (w *tlsWire) Write(p []byte) (int, error) {
	t := (*tlsConn)(w)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.outBuf == nil {
		t.outBuf = tlsOut.Get().(*[]byte)
		t.out = (*t.outBuf)[:0]
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

func (w *tlsWire) Close() error                     { return nil }
func (w *tlsWire) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(w.file.local()) }
func (w *tlsWire) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (w *tlsWire) SetDeadline(time.Time) error      { return nil }
func (w *tlsWire) SetReadDeadline(time.Time) error  { return nil }
func (w *tlsWire) SetWriteDeadline(time.Time) error { return nil }

// stopped is the error of a call after an interrupt.
func (t *tlsConn) stopped() error {
	if t.halted.Load() {
		return os.ErrDeadlineExceeded
	}
	return nil
}
