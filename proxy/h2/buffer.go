package h2

import "sync"

// buffer holds bytes on their way. A Conn has one only while there are any, so that an idle one is small.
type buffer struct {
	b    []byte
	from int // b[:from] is done with
}

// maxKept is the largest buffer that is kept for others, in bytes.
const maxKept = 128 << 10

// buffers are the buffers that no Conn uses at present.
var buffers = sync.Pool{New: func() any { return &buffer{b: make([]byte, 0, 2<<10)} }}

func newBuffer() *buffer { return buffers.Get().(*buffer) }

// free gives the buffer back; free(nil) does nothing.
func (b *buffer) free() {
	if b != nil && cap(b.b) <= maxKept {
		b.b, b.from = b.b[:0], 0
		buffers.Put(b)
	}
}
