package proxy

import (
	"bufio"
	"bytes"
	"io"
)

// lookAhead shows look the beginning of the request's body, again and again as more of it comes, until that is enough;
// all: no more will come, because that is the end or as much as anybody looks into. Nothing is taken: the body is read
// as if nobody had looked. A client has to send what is looked into within its listener's timeouts.body.
func (r *request) lookAhead(look func(body []byte, all bool) (enough bool)) kind {
	if r.bodyLeft == 0 {
		look(nil, true)
		return success
	}
	if k := r.invite(); k != success {
		return k
	}
	c, in := r.c, r.in
	c.total.Store(c.listener.clock.after(c.listener.settings.Load().Timeouts.Body))
	defer c.total.Store(0)
	a := ahead{r: r, chunks: chunkScanner{unwrap: true}}
	for n := in.br.Buffered(); ; n = in.br.Buffered() + 1 {
		if n > in.br.Size() {
			in.widen(c)
		}
		raw, err := in.br.Peek(n)
		raw, _ = in.br.Peek(max(len(raw), in.br.Buffered()))
		body, all := a.of(raw)
		if look(body, all) || all {
			c.bodyRead = 0
			return success
		}
		if err != nil {
			return r.aheadFailed()
		}
	}
}

// aheadFailed says why no more of the body came.
func (r *request) aheadFailed() kind {
	switch k := r.bodyFailed(); k {
	case totalTimeout, expired:
		return clientSlow
	default:
		return k
	}
}

// ahead is the part of a body that is looked into.
type ahead struct {
	r      *request
	chunks chunkScanner
	seen   int    // of the raw bytes
	data   []byte // of chunks
}

// of is the body in raw, which begins with it and only grows.
func (a *ahead) of(raw []byte) (body []byte, all bool) {
	if !a.r.chunkedBody {
		body = raw[:min(int64(len(raw)), a.r.bodyLeft, maxInspected)]
		return body, int64(len(body)) == min(a.r.bodyLeft, maxInspected)
	}
	from := len(a.data)
	a.data = append(a.data, raw[a.seen:]...)
	a.seen = len(raw)
	n, done, ok := a.chunks.scan(a.data[from:])
	a.data = a.data[:from+n]
	a.r.c.bodyRead = a.chunks.data // what comes is weighed against it
	return a.data[:min(len(a.data), maxInspected)], done || !ok || len(a.data) >= maxInspected
}

// widen makes room for more than the buffer holds, which is full. What is in it comes first.
func (in *intake) widen(c *conn) {
	held, _ := in.br.Peek(in.br.Buffered())
	wide := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(held)), c), 2*in.br.Size())
	_, _ = wide.Peek(len(held))
	in.br = wide
}

// narrow goes back to the buffer that each connection has, once a wider one is empty: an answer may take long.
func (in *intake) narrow(c *conn) {
	if in.br != in.own && in.br.Buffered() == 0 {
		in.br = in.own
		in.br.Reset(c)
	}
}
