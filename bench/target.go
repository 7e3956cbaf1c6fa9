package bench

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A Target says what to send and judges what came back. Both methods are called from many
// goroutines at once.
type Target interface {
	// Append appends the n-th request (from 0), head and body as HTTP/1.1 writes them, to b, and says what must be
	// known of it when its answer is there. It is a function of n alone.
	Append(b []byte, n uint64) ([]byte, Hit)
	// Judge says whether an answer with a status below 400 holds what the hit should get.
	Judge(hit Hit, r *Response) Verdict
}

// Hit is what is known of a request beside its bytes.
type Hit struct {
	User  int // the user it is sent for, from 0; -1 when it names none
	Label int // the label its answer should carry; -1 when unknown
	// NoBody means that the answer ends with its head, because the method is HEAD.
	NoBody bool
}

// Request describes the requests of an attack, which differ only by user and body.
type Request struct {
	URL    string // http://HOST[:PORT]/PATH, or https
	Method string // default GET, or POST with a body
	Header []Field
	// Users is how many users the requests are spread over, evenly and at random: each request
	// carries X-User-ID: user-NNNNNN. 0 sends no such field.
	Users int
	Seed  uint64
}

// Field is a header field.
type Field struct{ Name, Value string }

// UserHeader is the field that names the user of a request.
const UserHeader = "X-User-ID"

// MaxUsers is the largest number of users a request may be spread over.
const MaxUsers = 1_000_000

// ParseField parses "Name: value", as flags give it.
func ParseField(s string) (Field, error) {
	name, value, found := strings.Cut(s, ":")
	value = strings.TrimSpace(value)
	if !found || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
		return Field{}, fmt.Errorf("header %q: must be NAME: VALUE", s)
	}
	return Field{Name: name, Value: value}, nil
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// Fixed is a target that sends the same body every time and has no opinion on the answer.
type Fixed struct {
	head head
	body []byte
}

// NewFixed returns the target that sends body, which may be empty, with r's head.
func NewFixed(r Request, body []byte) (*Fixed, error) {
	if r.Method == "" && len(body) > 0 {
		r.Method = "POST"
	}
	h, err := newHead(r)
	if err != nil {
		return nil, err
	}
	return &Fixed{head: h, body: body}, nil
}

// Append implements [Target].
func (f *Fixed) Append(b []byte, n uint64) ([]byte, Hit) {
	b, user := f.head.append(b, n, len(f.body))
	return append(b, f.body...), Hit{User: user, Label: -1, NoBody: f.head.method == "HEAD"}
}

// Judge implements [Target].
func (f *Fixed) Judge(Hit, *Response) Verdict { return Unjudged }

// Address returns the HOST:PORT that an attack on this target connects to.
func (f *Fixed) Address() string { return f.head.address }

// head renders the heads of requests from a prefix that is the same for all.
type head struct {
	address, method string
	prefix          []byte
	users           int
	seed            uint64
	noLength        bool // the body ends with the stream, as gRPC has it
}

func newHead(r Request) (head, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return head{}, fmt.Errorf("target: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return head{}, fmt.Errorf("target %q: must be http://HOST[:PORT]/PATH, or https", r.URL)
	}
	if r.Users < 0 || r.Users > MaxUsers {
		return head{}, fmt.Errorf("users %d: must be 0 to %d", r.Users, MaxUsers)
	}
	h := head{address: u.Host, method: r.Method, users: r.Users, seed: r.Seed}
	if u.Port() == "" {
		port := "80"
		if u.Scheme == "https" {
			port = "443"
		}
		h.address = net.JoinHostPort(u.Hostname(), port)
	}
	if h.method == "" {
		h.method = "GET"
	}
	if !isToken(h.method) {
		return head{}, fmt.Errorf("method %q: must be a word like GET or POST", h.method)
	}
	h.prefix = fmt.Appendf(nil, "%s %s HTTP/1.1\r\n", h.method, u.RequestURI())
	if !has(r.Header, "Host") {
		h.prefix = fmt.Appendf(h.prefix, "Host: %s\r\n", u.Host)
	}
	if !has(r.Header, "User-Agent") {
		h.prefix = append(h.prefix, "User-Agent: weir-bench\r\n"...)
	}
	for _, f := range r.Header {
		if strings.EqualFold(f.Name, "Content-Length") || strings.EqualFold(f.Name, "Transfer-Encoding") {
			return head{}, fmt.Errorf("header %s: is set from the body and cannot be given", f.Name)
		}
		h.prefix = fmt.Appendf(h.prefix, "%s: %s\r\n", f.Name, f.Value)
	}
	return h, nil
}

func has(fields []Field, name string) bool {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

// append appends the head of the n-th request, for a body of the given length, and returns its user.
func (h *head) append(b []byte, n uint64, body int) ([]byte, int) {
	b = append(b, h.prefix...)
	user := h.user(n)
	if h.users > 0 {
		b = append(b, UserHeader...)
		b = append(b, ": "...)
		b = appendUser(b, user)
		b = append(b, crlf...)
	}
	if h.noLength {
		return append(b, crlf...), user
	}
	if body > 0 || h.method == "POST" || h.method == "PUT" || h.method == "PATCH" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(body), 10)
		b = append(b, crlf...)
	}
	return append(b, crlf...), user
}

// user is the user of the n-th request; -1 when it names none.
func (h *head) user(n uint64) int {
	if h.users == 0 {
		return -1
	}
	return draw(h.seed, streamUsers, n, h.users)
}

// appendUser appends the name of a user: user-000000 and so on.
func appendUser(b []byte, user int) []byte {
	b = append(b, "user-"...)
	for unit := 100_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+user/unit%10))
	}
	return b
}
