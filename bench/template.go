package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Template is a target that makes the body of each request from a text with placeholders, and
// has no opinion on the answer. The values are a function of the seed and of the request's number.
//
//	{{seq}}          the number of the request, from 0
//	{{user}}         the user that X-User-ID names: user-000000
//	{{int A B}}      a whole number from A to B, both included
//	{{float A B}}    a number from A to B, with six digits after the point
//	{{floats N A B}} N of them, with commas between: the inside of a JSON array
//	{{pick W…}}      one of the words
//	{{uuid}}         a random UUID (version 4)
type Template struct {
	head   head
	pieces []piece
}

// piece is a stretch of text and the placeholder after it, if any.
type piece struct {
	text string
	fill func(b []byte, v values) []byte // nil after the last
}

// values is where a placeholder takes its value from: a stream of its own, and the request.
type values struct {
	seed, n uint64
	user    int
	stream  uint64
}

// MaxFloats is the largest N of {{floats N A B}}.
const MaxFloats = 100_000

// NewTemplate returns the target that sends text, filled in, with r's head.
func NewTemplate(r Request, text string) (*Template, error) {
	if r.Method == "" {
		r.Method = "POST"
	}
	h, err := newHead(r)
	if err != nil {
		return nil, err
	}
	t := &Template{head: h}
	for {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			t.pieces = append(t.pieces, piece{text: before})
			return t, nil
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return nil, fmt.Errorf("template: {{%.40s is not closed by }}", rest)
		}
		fill, err := placeholder(strings.Fields(inside), r.Users > 0)
		if err != nil {
			return nil, fmt.Errorf("template: {{%s}}: %w", inside, err)
		}
		t.pieces = append(t.pieces, piece{before, fill})
		text = after
	}
}

// placeholder returns what fills in the placeholder of these words.
func placeholder(words []string, users bool) (func([]byte, values) []byte, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("is empty")
	}
	name, words := words[0], words[1:]
	switch {
	case name == "seq" && len(words) == 0:
		return func(b []byte, v values) []byte { return strconv.AppendUint(b, v.n, 10) }, nil
	case name == "user" && len(words) == 0:
		if !users {
			return nil, fmt.Errorf("needs users")
		}
		return func(b []byte, v values) []byte { return appendUser(b, v.user) }, nil
	case name == "uuid" && len(words) == 0:
		return appendUUID, nil
	case name == "int" && len(words) == 2:
		return randomInt(words)
	case name == "float" && len(words) == 2:
		return randomFloats(1, words)
	case name == "floats" && len(words) == 3:
		n, err := strconv.Atoi(words[0])
		if err != nil || n < 1 || n > MaxFloats {
			return nil, fmt.Errorf("how many: must be 1 to %d", MaxFloats)
		}
		return randomFloats(n, words[1:])
	case name == "pick" && len(words) > 0:
		return func(b []byte, v values) []byte {
			return append(b, words[draw(v.seed, v.stream, v.n, len(words))]...)
		}, nil
	}
	return nil, fmt.Errorf("must be seq, user, uuid, int A B, float A B, floats N A B or pick WORD…")
}

func randomInt(words []string) (func([]byte, values) []byte, error) {
	low, err := strconv.ParseInt(words[0], 10, 32)
	high, err2 := strconv.ParseInt(words[1], 10, 32)
	if err != nil || err2 != nil || low > high {
		return nil, fmt.Errorf("must be two whole numbers of 32 bits, the lower one first")
	}
	return func(b []byte, v values) []byte {
		return strconv.AppendInt(b, low+int64(draw(v.seed, v.stream, v.n, int(high-low)+1)), 10)
	}, nil
}

func randomFloats(n int, words []string) (func([]byte, values) []byte, error) {
	low, err := strconv.ParseFloat(words[0], 64)
	high, err2 := strconv.ParseFloat(words[1], 64)
	if err != nil || err2 != nil || !(high-low >= 0 && high-low < 1e15) {
		return nil, fmt.Errorf("must be two numbers, the lower one first")
	}
	const resolution = 1 << 30
	return func(b []byte, v values) []byte {
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			part := float64(draw(v.seed, v.stream+uint64(i)*streamImages, v.n, resolution+1)) / resolution
			b = strconv.AppendFloat(b, low+part*(high-low), 'f', 6, 64)
		}
		return b
	}, nil
}

func appendUUID(b []byte, v values) []byte {
	const digits = "0123456789abcdef"
	for part := range 8 {
		bits := draw(v.seed, v.stream+uint64(part)*streamImages, v.n, 1<<16)
		for i := range 4 {
			at, digit := 4*part+i, bits>>(12-4*i)&0xf
			switch at {
			case 8, 20:
				b = append(b, '-')
			case 12:
				b = append(b, '-')
				digit = 4 // the version
			case 16:
				b = append(b, '-')
				digit = digit&3 | 8 // the variant of RFC 9562
			}
			b = append(b, digits[digit])
		}
	}
	return b
}

// Address returns the HOST:PORT that an attack on this target connects to.
func (t *Template) Address() string { return t.head.address }

// Append implements [Target].
func (t *Template) Append(b []byte, n uint64) ([]byte, Hit) {
	start := len(b)
	v := values{seed: t.head.seed, n: n, user: t.head.user(n)}
	for i := range t.pieces {
		p := &t.pieces[i]
		b = append(b, p.text...)
		if p.fill != nil {
			v.stream = streamBodies * uint64(i+1)
			b = p.fill(b, v)
		}
	}
	// The head tells the length, which is known only now; so the body is moved behind it.
	body := len(b) - start
	b, user := t.head.append(b, n, body)
	b = append(b, b[start:start+body]...)
	b = slices.Delete(b, start, start+body)
	return b, Hit{User: user, Label: -1}
}

// Judge implements [Target].
func (t *Template) Judge(Hit, *Response) Verdict { return Unjudged }
