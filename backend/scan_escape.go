package backend

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// escaped reads the rest of a string that began at start and has its first escape at i.
func (s *scanner) escaped(start, i int) ([]byte, error) {
	text := append(make([]byte, 0, 2*(i-start)+16), s.data[start:i]...)
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			s.pos = i + 1
			if !utf8.Valid(text) {
				return nil, s.errorf("a string is not valid UTF-8")
			}
			return text, nil
		case c < ' ':
			s.pos = i
			return nil, s.errorf("a string holds the control character %#x; want it escaped", c)
		case c != '\\':
			text = append(text, c)
			i++
			continue
		}
		if i+1 >= len(s.data) {
			break
		}
		if s.data[i+1] == 'u' {
			r, size, ok := s.unicode(i)
			if !ok {
				s.pos = i
				return nil, s.wanted(`\u and four hexadecimal digits`)
			}
			text = utf8.AppendRune(text, r)
			i += size
			continue
		}
		plain, ok := unescape(s.data[i+1])
		if !ok {
			s.pos = i
			return nil, s.wanted("an escape of JSON")
		}
		text = append(text, plain)
		i += 2
	}
	s.pos = len(s.data)
	return nil, errors.New("a string has no end")
}

func unescape(c byte) (byte, bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	}
	return 0, false
}

// unicode reads the \u escape at i, or the two of a surrogate pair. A half without its other
// half is U+FFFD, as in encoding/json.
func (s *scanner) unicode(i int) (r rune, size int, ok bool) {
	r, ok = s.hex(i)
	if !ok || !utf16.IsSurrogate(r) {
		return r, 6, ok
	}
	if second, ok := s.hex(i + 6); ok {
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return pair, 12, true
		}
	}
	return utf8.RuneError, 6, true
}

// hex reads the \uXXXX at i.
func (s *scanner) hex(i int) (rune, bool) {
	if i+6 > len(s.data) || s.data[i] != '\\' || s.data[i+1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.data[i+2:i+6]), 16, 32)
	return rune(n), err == nil
}
