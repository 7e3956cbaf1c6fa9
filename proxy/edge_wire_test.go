package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// wire is one end of a raw connection: it sends exact bytes, and what it receives it parses
// strictly, so that whatever weir sends in either direction is also checked for its form.
type wire struct {
	net.Conn
	br *bufio.Reader

	own atomic.Bool // the test itself says how long it waits
}

// patience is how long a test waits for something that should happen at once. A machine with other things to do stalls
// for seconds, several times in a row.
const patience = 20 * time.Second

func newWire(nc net.Conn) *wire {
	w := &wire{Conn: nc, br: bufio.NewReaderSize(nc, 4<<10)}
	w.wait()
	return w
}

// wait has the patience begin anew: it is for what comes next on the connection, of which there may be thousands.
func (w *wire) wait() {
	if !w.own.Load() {
		_ = w.Conn.SetDeadline(time.Now().Add(patience))
	}
}

// SetDeadline says how long the test waits for all that comes, instead.
func (w *wire) SetDeadline(t time.Time) error {
	w.own.Store(true)
	return w.Conn.SetDeadline(t)
}

// send writes s. An error is no news: the peer may have closed early, which its answer tells.
func (w *wire) send(s string) {
	w.wait()
	io.WriteString(w.Conn, s)
}

// message is a request or a response as it came over the wire.
type message struct {
	start    string // the first line
	fields   []field
	body     []byte
	size     int64 // of the body, also when a sink took it
	trailers []field
}

type field struct{ name, value string }

// values returns the values of all lines with this name.
func (m *message) values(name string) []string { return valuesOf(m.fields, name) }

func valuesOf(fields []field, name string) (v []string) {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			v = append(v, f.value)
		}
	}
	return v
}

// get returns the only value of a field; more than one line shows as "a | b", none as "".
func (m *message) get(name string) string { return strings.Join(m.values(name), " | ") }

// status is the code of a response.
func (m *message) status() int {
	code, _ := strconv.Atoi(strings.SplitN(m.start+"  ", " ", 3)[1])
	return code
}

// target is the request target.
func (m *message) target() string { return strings.SplitN(m.start+"  ", " ", 3)[1] }

func (m *message) method() string { return strings.SplitN(m.start, " ", 2)[0] }

// malformedError is a breach of HTTP/1.1's grammar or framing, as opposed to a connection that ended.
type malformedError string

func (e malformedError) Error() string { return "malformed: " + string(e) }

func malformedf(format string, args ...any) error {
	return malformedError(fmt.Sprintf(format, args...))
}

// readHead reads the first line and the fields.
func (w *wire) readHead() (*message, error) {
	start, err := w.readLine()
	if err != nil {
		return nil, err
	}
	m := &message{start: start}
	m.fields, err = w.readFields()
	return m, err
}

func (w *wire) readFields() (fields []field, err error) {
	for {
		line, err := w.readLine()
		if err != nil {
			return nil, unexpected(err)
		}
		if line == "" {
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsFunc(name, notToken) {
			return nil, malformedf("field line %q", line)
		}
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
}

func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// readLine reads a line that ends in CRLF and has neither CR nor NUL before that.
func (w *wire) readLine() (string, error) {
	line, err := w.br.ReadString('\n')
	if err != nil {
		if line != "" {
			err = unexpected(err)
		}
		return "", err
	}
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(line, "\r\x00") {
		return "", malformedf("line %q", line)
	}
	return line, nil
}

// unexpected turns the end of a connection in mid-message into what it is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readRequestBody reads the body that the head announces into sink (nil: m.body).
func (w *wire) readRequestBody(m *message, sink io.Writer) error {
	if !strings.HasSuffix(m.start, " HTTP/1.1") || strings.Count(m.start, " ") != 2 {
		return malformedf("request line %q", m.start)
	}
	for _, f := range m.fields {
		if strings.ContainsFunc(f.value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return malformedf("a control character in %q", f)
		}
	}
	if hosts := m.values("Host"); len(hosts) != 1 {
		return malformedf("%d Host fields in %q", len(hosts), m.start)
	}
	return w.readBody(m, sink, false)
}

// readResponseBody reads the body of the answer to a request with this method.
func (w *wire) readResponseBody(m *message, method string, sink io.Writer) error {
	if !validStatusLine(m.start) {
		return malformedf("status line %q", m.start)
	}
	code := m.status()
	if code < 200 || code == 204 {
		if m.get("Content-Length")+m.get("Transfer-Encoding") != "" {
			return malformedf("framing fields with status %d", code)
		}
		return nil
	}
	if method == "HEAD" || code == 304 {
		return nil
	}
	return w.readBody(m, sink, true)
}

func validStatusLine(s string) bool {
	version, rest, _ := strings.Cut(s, " ")
	code, _, ok := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	return ok && (version == "HTTP/1.1" || version == "HTTP/1.0") && len(code) == 3 && err == nil && n >= 100
}

func (w *wire) readBody(m *message, sink io.Writer, untilClose bool) error {
	var buf bytes.Buffer
	if sink == nil {
		sink = &buf
	}
	var err error
	te, cl := m.values("Transfer-Encoding"), m.values("Content-Length")
	switch {
	case len(te) > 0:
		if len(cl) > 0 || !slices.Equal(te, []string{"chunked"}) || strings.HasPrefix(m.start, "HTTP/1.0") {
			return malformedf("Transfer-Encoding %q with Content-Length %q in %q", te, cl, m.start)
		}
		err = w.readChunks(m, sink)
	case len(cl) > 0:
		n, cerr := strconv.ParseInt(cl[0], 10, 64)
		if len(cl) > 1 || cerr != nil || n < 0 || cl[0] != strconv.FormatInt(n, 10) {
			return malformedf("Content-Length %q", cl)
		}
		m.size, err = io.CopyN(sink, w.br, n)
		err = unexpected(err)
	case untilClose:
		m.size, err = io.Copy(sink, w.br)
	}
	m.body = buf.Bytes()
	return err
}

func (w *wire) readChunks(m *message, sink io.Writer) error {
	for {
		line, err := w.readLine()
		if err != nil {
			return unexpected(err)
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || line[0] == '+' {
			return malformedf("chunk size %q", line)
		}
		if n == 0 {
			m.trailers, err = w.readFields()
			return err
		}
		if _, err := io.CopyN(sink, w.br, int64(n)); err != nil {
			return unexpected(err)
		}
		m.size += int64(n)
		if line, err := w.readLine(); err != nil {
			return unexpected(err)
		} else if line != "" {
			return malformedf("%q after a chunk", line)
		}
	}
}

// readResponse reads the final answer to a request with this method and the statuses of the interim
// ones before it.
func (w *wire) readResponse(method string) (m *message, interim []int, err error) {
	for {
		if m, err = w.readHead(); err != nil {
			return m, interim, err
		}
		if err = w.readResponseBody(m, method, nil); err != nil || m.status() >= 200 {
			return m, interim, err
		}
		interim = append(interim, m.status())
	}
}

// readEnd waits for the peer to close the connection; bytes before that are an error.
func (w *wire) readEnd() error {
	n, err := io.Copy(io.Discard, w.br)
	if n > 0 {
		return fmt.Errorf("%d more bytes instead of the end of the connection", n)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return errors.New("the connection stays open")
	}
	return nil // io.EOF or a reset
}
