package proxy

import (
	"bytes"
	"strings"
)

// What is rarely asked of header lines. What each request needs of its own, fields.read has found in its pass.

// lookup returns the value of the first field called name (in any case) among the lines of head;
// nil when there is none.
func lookup(head []byte, name string) []byte {
	for len(head) > 0 {
		line := head
		if nl := bytes.IndexByte(head, '\n'); nl >= 0 {
			line, head = head[:nl], head[nl+1:]
		} else {
			head = nil
		}
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(unsafeString(line[:len(name)]), name) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}

// eachField calls yield with the name and the value of each line.
func eachField(lines []byte) func(yield func(name, value []byte) bool) {
	return func(yield func(name, value []byte) bool) {
		for len(lines) > 0 {
			line := lines
			if nl := bytes.IndexByte(lines, '\n'); nl >= 0 {
				line, lines = lines[:nl], lines[nl+1:]
			} else {
				lines = nil
			}
			colon := bytes.IndexByte(line, ':')
			if colon > 0 && !yield(line[:colon], bytes.TrimSpace(line[colon+1:])) {
				return
			}
		}
	}
}

// hasToken reports whether a list has this element, in any case; token is lower case.
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		one, rest, _ := bytes.Cut(list, []byte(","))
		if equalFold(bytes.TrimSpace(one), token) {
			return true
		}
		list = rest
	}
	return false
}

// removeField takes every line called name (lower case) out of the lines b[from:].
func removeField(b []byte, from int, name string) []byte {
	return removeFields(b, from, func(n []byte) bool { return equalFold(n, name) })
}

// removeFields takes the lines out of b[from:] for whose names gone holds.
func removeFields(b []byte, from int, gone func(name []byte) bool) []byte {
	kept := from
	for at := from; at < len(b); {
		next := at + bytes.IndexByte(b[at:], '\n') + 1
		line := b[at:next]
		if colon := bytes.IndexByte(line, ':'); colon < 0 || !gone(line[:colon]) {
			kept += copy(b[kept:], line)
		}
		at = next
	}
	return b[:kept]
}
