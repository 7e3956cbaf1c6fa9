package backend

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deep JSON may nest; a tensor has a level for each dimension.
const maxDepth = 64

// scanner reads one JSON text from the front. It exists because encoding/json passes over a
// tensor's numbers three times before they are numbers: most of what a request to a small model
// costs. It takes exactly the texts that encoding/json takes, but for three that are refused:
// invalid UTF-8, nesting deeper than maxDepth, and (by the callers) a key given twice.
type scanner struct {
	data  []byte
	pos   int
	depth int
}

// errorf is an error at the scanner's position.
func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf(format+" (byte %d)", append(args, s.pos)...)
}

// wanted says what stands where something else was wanted.
func (s *scanner) wanted(what string) error {
	if s.pos >= len(s.data) {
		return s.errorf("want %s, found the end", what)
	}
	end := min(s.pos+12, len(s.data))
	return s.errorf("want %s, found %q", what, s.data[s.pos:end])
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// take skips white space and takes c if it is next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.pos >= len(s.data) {
		return false
	}
	s.pos++
	return true
}

// end wants nothing but white space to be left.
func (s *scanner) end() error {
	if s.peek(); s.pos < len(s.data) {
		return s.wanted("the end of the JSON text")
	}
	return nil
}

func (s *scanner) enter() error {
	if s.depth++; s.depth > maxDepth {
		return s.errorf("JSON nested deeper than %d levels", maxDepth)
	}
	return nil
}

// object calls member for every member; member must read the value. The key is valid until
// member returns.
func (s *scanner) object(member func(key []byte) error) error {
	if !s.take('{') {
		return s.wanted("an object")
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer func() { s.depth-- }()
	if s.take('}') {
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.wanted(`a key in quotes`)
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.wanted(`":" after a key`)
		}
		if err := member(key); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take('}') {
			return nil
		}
		return s.wanted(`"," or "}"`)
	}
}

// array calls element for every element; element must read it.
func (s *scanner) array(element func(i int) error) error {
	if !s.take('[') {
		return s.wanted("an array")
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer func() { s.depth-- }()
	if s.take(']') {
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take(']') {
			return nil
		}
		return s.wanted(`"," or "]"`)
	}
}

// str reads a string.
func (s *scanner) str() (string, error) {
	if s.peek() != '"' {
		return "", s.wanted("a string")
	}
	text, err := s.text()
	return string(text), err
}

// boolean reads true or false.
func (s *scanner) boolean() (bool, error) {
	switch s.peek() {
	case 't':
		return true, s.literal("true")
	case 'f':
		return false, s.literal("false")
	}
	return false, s.wanted("true or false")
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.wanted(word)
	}
	s.pos += len(word)
	return nil
}

// integer reads a number without fraction and exponent that fits an int64.
func (s *scanner) integer() (int64, error) {
	start := s.pos
	token, err := s.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(token), 10, 64)
	if err != nil {
		s.pos = start
		return 0, s.wanted("a whole number")
	}
	return n, nil
}

// number reads a number's text.
func (s *scanner) number() ([]byte, error) {
	s.peek()
	start := s.pos
	i := s.pos
	if i < len(s.data) && s.data[i] == '-' {
		i++
	}
	switch {
	case i < len(s.data) && s.data[i] == '0':
		i++
	default:
		from := i
		if i = s.digits(i); i == from {
			return nil, s.wanted("a number")
		}
	}
	if i < len(s.data) && s.data[i] == '.' {
		from := i + 1
		if i = s.digits(from); i == from {
			return nil, s.wanted("a number")
		}
	}
	if i < len(s.data) && (s.data[i] == 'e' || s.data[i] == 'E') {
		i++
		if i < len(s.data) && (s.data[i] == '+' || s.data[i] == '-') {
			i++
		}
		from := i
		if i = s.digits(from); i == from {
			return nil, s.wanted("a number")
		}
	}
	s.pos = i
	return s.data[start:i], nil
}

// digits is the position after the digits at i.
func (s *scanner) digits(i int) int {
	for i < len(s.data) && s.data[i]-'0' <= 9 {
		i++
	}
	return i
}

// skip reads any value and checks that it is JSON.
func (s *scanner) skip() error {
	switch c := s.peek(); {
	case c == '{':
		return s.object(func([]byte) error { return s.skip() })
	case c == '[':
		return s.array(func(int) error { return s.skip() })
	case c == '"':
		_, err := s.text()
		return err
	case c == 't' || c == 'f':
		_, err := s.boolean()
		return err
	case c == 'n':
		return s.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		_, err := s.number()
		return err
	}
	return s.wanted("a JSON value")
}

// text reads the string at the position. What it returns may be part of the scanned data.
func (s *scanner) text() ([]byte, error) {
	s.pos++ // the quote
	start := s.pos
	ascii := true
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			if raw := s.data[start:i]; ascii || utf8.Valid(raw) {
				return raw, nil
			}
			s.pos = start
			return nil, s.errorf("a string is not valid UTF-8")
		case c == '\\':
			return s.escaped(start, i)
		case c < ' ':
			s.pos = i
			return nil, s.errorf("a string holds the control character %#x; want it escaped", c)
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	s.pos = len(s.data)
	return nil, errors.New("a string has no end")
}
