package h2

import (
	"io"
	"strconv"
)

// incoming is what has come on a stream and nobody has read yet, a request or an answer, as text: heads, framing and
// trailers are text, data is kept without framing. What it holds is bounded by the stream's window.
type incoming struct {
	stream   *Stream
	text     []byte
	textAt   int
	chunk    int  // of data that is to be read before more text; -1: all of it
	data     ring // as it came
	trailers []byte
	chunked  bool
	ended    bool // nothing more comes
	last     bool // the end of the chunks is in text
	err      error
}

// again is in for the next stream, with its memory.
func (in *incoming) again(s *Stream) incoming {
	return incoming{stream: s, text: in.text[:0], data: in.data, trailers: in.trailers[:0]}
}

// end gives the stream back, and resets it where it has not ended.
func (in *incoming) end() {
	if in.stream != nil {
		in.stream.Release()
		in.stream = nil
	}
	in.data.clear()
	if cap(in.text) > smallRing {
		in.text = nil
	}
}

// frame says how the body behind the head is framed.
func (in *incoming) frame(body Body) {
	if in.chunked, in.chunk = body == Chunked, -1; in.chunked {
		in.chunk = 0
	}
}

// Readable reports whether Read would say something.
func (in *incoming) Readable() bool {
	return in.textAt < len(in.text) || in.data.n > 0 || in.ended
}

// Read reads text. 0 and nil: nothing has come since. io.EOF follows what is whole, another error what has come of
// what is not.
func (in *incoming) Read(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case in.textAt < len(in.text):
			k := copy(p[n:], in.text[in.textAt:])
			n += k
			if in.textAt += k; in.textAt == len(in.text) {
				in.text, in.textAt = in.text[:0], 0
			}
		case in.data.n > 0 && in.chunk != 0:
			n += in.readData(p[n:])
		case in.data.n > 0:
			in.chunk = in.data.n
			in.text = append(strconv.AppendUint(in.text, uint64(in.chunk), 16), "\r\n"...)
		case !in.ended:
			return n, nil
		case in.err != nil && n > 0:
			return n, nil
		case in.err != nil:
			return 0, in.err
		case in.chunked && !in.last:
			in.last = true
			in.text = append(append(append(in.text, "0\r\n"...), in.trailers...), "\r\n"...)
		case n > 0:
			return n, nil
		default:
			return 0, io.EOF
		}
	}
	return n, nil
}

// readData reads data up to the end of the chunk.
func (in *incoming) readData(p []byte) int {
	if in.chunk > 0 {
		p = p[:min(len(p), in.chunk)]
	}
	k := in.data.read(p)
	if in.chunk > 0 {
		if in.chunk -= k; in.chunk == 0 {
			in.text = append(in.text, "\r\n"...)
		}
	}
	in.stream.Consumed(k)
	return k
}
