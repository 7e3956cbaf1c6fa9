package admin

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"weir/proxy/control"
)

// expect returns what If-Match asks for, nil without one. It answers a malformed one itself and returns
// false: to ignore it would overwrite what the client wanted to keep.
func expect(w http.ResponseWriter, r *http.Request) (control.Expect, bool) {
	values := r.Header.Values("If-Match")
	if len(values) == 0 {
		return nil, true
	}
	e, err := parseIfMatch(strings.Join(values, ","))
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_if_match", "If-Match "+quote(strings.Join(values, ","))+": "+err.Error())
		return nil, false
	}
	return e, true
}

var errIfMatch = errors.New(`want the ETag of an answer such as "7", a list of them, or *`)

// parseIfMatch reads RFC 9110, section 13.1.1. The comparison is the strong one: a weak tag matches nothing.
func parseIfMatch(text string) (control.Expect, error) {
	if strings.Trim(text, " \t") == "*" {
		return func(uint64) bool { return true }, nil // what does not exist is answered with 404
	}
	var strong []string
	found := false
	for rest := text; ; {
		rest = strings.TrimLeft(rest, " \t,") // elements of a list may be empty
		if rest == "" {
			break
		}
		tag, weak := strings.CutPrefix(rest, "W/")
		if tag == "" || tag[0] != '"' {
			return nil, errIfMatch
		}
		opaque, after, closed := strings.Cut(tag[1:], `"`)
		if !closed || strings.ContainsFunc(opaque, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
			return nil, errIfMatch
		}
		if rest = strings.TrimLeft(after, " \t"); rest != "" && rest[0] != ',' {
			return nil, errIfMatch
		}
		found = true
		if !weak {
			strong = append(strong, opaque)
		}
	}
	if !found {
		return nil, errIfMatch
	}
	return func(generation uint64) bool { return slices.Contains(strong, strconv.FormatUint(generation, 10)) }, nil
}
