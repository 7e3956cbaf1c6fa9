package backendtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
)

const (
	maxHead  = 1 << 20  // a longer request head is malformed
	keptBody = 64 << 10 // how much of each request's body a record keeps
)

// Request is the record of one request as it arrived, byte for byte where that matters.
type Request struct {
	Method, Target, Proto string
	// RawHead is the request line and the header fields with the empty line at their end.
	RawHead []byte
	// Header fields in order, names as sent, values without surrounding blanks.
	Header  []Field
	Trailer []Field

	// Length is Content-Length, -1 when absent.
	Length  int64
	Chunked bool

	// Body is the beginning of the body (64 KiB at most), BodyBytes its whole size and
	// BodySum its SHA-256 in hexadecimal, all of what had arrived when it was recorded.
	Body      []byte
	BodyBytes int64
	BodySum   string
	// Complete says that the body arrived to its end. It is false for a request that was
	// answered early or that broke off.
	Complete bool

	// Conn is the number of the connection it came on, from 1; Nth its place on it, from 1.
	Conn, Nth int
	// Remote is the client's address.
	Remote string

	sum hash.Hash
}

// Get returns the value of the first header field of that name, letter case ignored, or "".
func (r *Request) Get(name string) string {
	for _, f := range r.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Values returns the values of all header fields of that name, letter case ignored.
func (r *Request) Values(name string) []string {
	var v []string
	for _, f := range r.Header {
		if strings.EqualFold(f.Name, name) {
			v = append(v, f.Value)
		}
	}
	return v
}

// Path is the target without its query.
func (r *Request) Path() string {
	path, _, _ := strings.Cut(r.Target, "?")
	return path
}

// wantsClose says whether the client asked for the connection to end after the response.
func (r *Request) wantsClose() bool {
	if r.Proto == "HTTP/1.0" {
		return !strings.EqualFold(r.Get("Connection"), "keep-alive")
	}
	return strings.EqualFold(r.Get("Connection"), "close")
}

// hasBody says whether body bytes may follow the head.
func (r *Request) hasBody() bool { return r.Chunked || r.Length > 0 }

// took accounts for bytes of the body.
func (r *Request) took(p []byte) {
	r.BodyBytes += int64(len(p))
	if room := keptBody - len(r.Body); room > 0 {
		r.Body = append(r.Body, p[:min(room, len(p))]...)
	}
	r.sum.Write(p)
}

// malformed is a request that breaks the grammar of HTTP/1.1. The Server is strict on
// purpose: what a proxy sends must be beyond reproach.
type malformed string

func (m malformed) Error() string { return string(m) }

func readHead(br *bufio.Reader) (*Request, error) {
	r := &Request{Length: -1, sum: sha256.New()}
	line, err := r.readLine(br)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || (parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0") {
		return nil, malformed(fmt.Sprintf("request line %q", line))
	}
	r.Method, r.Target, r.Proto = parts[0], parts[1], parts[2]
	for {
		line, err := r.readLine(br)
		if err != nil {
			return nil, err
		}
		if line == "" {
			return r, r.frame()
		}
		f, err := parseField(line)
		if err != nil {
			return nil, err
		}
		r.Header = append(r.Header, f)
	}
}

// readLine reads a line that ends in CRLF, adds it to RawHead and returns it without the end.
func (r *Request) readLine(br *bufio.Reader) (string, error) {
	line, err := readCRLF(br, maxHead-len(r.RawHead))
	if err != nil {
		return "", err
	}
	r.RawHead = append(append(r.RawHead, line...), '\r', '\n')
	return line, nil
}

func readCRLF(br *bufio.Reader, limit int) (string, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return "", malformed(fmt.Sprintf("a line or head longer than %d bytes", maxHead))
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || bytes.ContainsAny(text, "\r\x00") {
		return "", malformed(fmt.Sprintf("line %q with a bare CR, a bare LF or a NUL", line))
	}
	return string(text), nil
}

func parseField(line string) (Field, error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || strings.ContainsFunc(name, notToken) {
		return Field{}, malformed(fmt.Sprintf("header field %q", line))
	}
	return Field{name, strings.Trim(value, " \t")}, nil
}

func notToken(c rune) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// frame finds out where the body ends and refuses every doubtful framing.
func (r *Request) frame() error {
	lengths, codings, hosts := r.Values("Content-Length"), r.Values("Transfer-Encoding"), r.Values("Host")
	switch {
	case len(hosts) > 1 || (len(hosts) == 0 && r.Proto == "HTTP/1.1"):
		return malformed(fmt.Sprintf("%d Host fields", len(hosts)))
	case len(codings) > 0 && len(lengths) > 0:
		return malformed("both Transfer-Encoding and Content-Length")
	case len(codings) > 0 && r.Proto == "HTTP/1.0":
		return malformed("Transfer-Encoding in HTTP/1.0")
	case len(codings) > 1 || (len(codings) == 1 && !strings.EqualFold(codings[0], "chunked")):
		return malformed(fmt.Sprintf("Transfer-Encoding %q", codings))
	case len(lengths) > 1:
		return malformed(fmt.Sprintf("Content-Length %q", lengths))
	}
	r.Chunked = len(codings) == 1
	if len(lengths) == 1 {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil {
			return malformed(fmt.Sprintf("Content-Length %q", lengths[0]))
		}
		r.Length = int64(n)
	}
	return nil
}

// body reads a request's body. Read returns io.EOF only at its true end, and
// io.ErrUnexpectedEOF when the connection ends before it.
type body struct {
	br   *bufio.Reader
	req  *Request
	left int64 // bytes left of the body, or of the chunk
	done bool
}

func newBody(br *bufio.Reader, r *Request) *body {
	return &body{br: br, req: r, left: max(r.Length, 0), done: !r.hasBody()}
}

func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 && b.req.Chunked && !b.done {
		if err := b.nextChunk(); err != nil {
			return 0, cutShort(err)
		}
	}
	if b.done {
		b.req.Complete = true
		return 0, io.EOF
	}
	n, err := b.br.Read(p[:min(int64(len(p)), b.left)])
	b.req.took(p[:n])
	b.left -= int64(n)
	if err == nil && b.left == 0 {
		err = b.endOfRun()
	}
	return n, cutShort(err)
}

// endOfRun is at the end of a sized body, which is then complete, or of a chunk.
func (b *body) endOfRun() error {
	if !b.req.Chunked {
		b.done = true
		b.req.Complete = true
		return nil
	}
	line, err := readCRLF(b.br, 2)
	if err == nil && line != "" {
		err = malformed("a chunk that is longer than its size")
	}
	return err
}

func (b *body) nextChunk() error {
	line, err := readCRLF(b.br, 4<<10)
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(digits, 16, 63)
	if err != nil {
		return malformed(fmt.Sprintf("chunk size %q", line))
	}
	b.left = int64(size)
	for size == 0 {
		line, err := readCRLF(b.br, maxHead)
		if err != nil {
			return err
		}
		if line == "" {
			b.done = true
			return nil
		}
		f, err := parseField(line)
		if err != nil {
			return err
		}
		b.req.Trailer = append(b.req.Trailer, f)
	}
	return nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// seal makes the record of what has arrived so far. The result shares nothing that changes.
func (r *Request) seal() Request {
	sealed := *r
	sealed.Body = bytes.Clone(r.Body)
	sealed.Trailer = append([]Field(nil), r.Trailer...)
	sealed.BodySum = hex.EncodeToString(r.sum.Sum(nil))
	sealed.sum = nil
	return sealed
}
