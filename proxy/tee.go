package proxy

// tee keeps a copy of an answer as it passes to the client: for the cache, and to compare it with a
// mirror's.
type tee struct {
	limit int // of the body, in bytes; what is longer is not kept

	status int
	head   []byte // the header lines that go on, each with its CRLF, without those of framing
	body   []byte // without its framing
	whole  bool   // the answer is complete
	over   bool   // it is longer than limit

	chunks  chunkScanner
	caching *caching // is told when the body is longer than it keeps; nil: nobody is
}

func newTee(limit int) *tee { return &tee{limit: limit, chunks: chunkScanner{unwrap: true}} }

// begin keeps the head b of the answer p.
func (t *tee) begin(p *response, b []byte) {
	if t == nil {
		return
	}
	t.status = p.status
	t.head = p.fields.appendKept(t.head[:0], b, p.at, p.end)
	if t.over = p.fields.length > int64(t.limit); !t.over && p.fields.length > 0 && t.body == nil {
		t.body = make([]byte, 0, p.fields.length)
	}
}

// add keeps a piece of the body.
func (t *tee) add(b []byte) {
	if t == nil || t.over {
		return
	}
	if t.over = len(t.body)+len(b) > t.limit; t.over {
		t.body = nil
	} else {
		t.body = append(t.body, b...)
	}
	t.tell()
}

// tell tells the cache that it has waited in vain.
func (t *tee) tell() {
	if g := t.caching; g != nil && (t.over || len(t.body) > g.of.policy.MaxObject) {
		t.caching = nil
		g.outgrown()
	}
}

// addChunks keeps a piece of a chunked body, which was not scanned yet.
func (t *tee) addChunks(b []byte) {
	if t == nil || t.over {
		return
	}
	from := len(t.body)
	t.body = append(t.body, b...)
	n, _, _ := t.chunks.scan(t.body[from:])
	if t.body = t.body[:from+n]; len(t.body) > t.limit {
		t.over, t.body = true, nil
	}
	t.tell()
}
