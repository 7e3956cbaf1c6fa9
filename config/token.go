package config

import (
	"fmt"
	"strings"
)

// namePattern is what pools and routes may be called: names go into metrics, response
// headers and the paths of the admin API as they are.
const namePattern = `^[A-Za-z0-9._-]{1,63}$`

func checkName(s string) error {
	if s == "." || s == ".." {
		return fmt.Errorf("%q cannot be a name: it has a meaning in the paths of the admin API", s)
	}
	if len(s) > 63 || s == "" || !only(s, keyLetters+".") {
		hint := ""
		if strings.Contains(s, "${") {
			hint = "; variables are replaced in values, not in names"
		}
		return fmt.Errorf("%q cannot be a name; write 1 to 63 of the characters A-Z a-z 0-9 . _ -%s", clip(s), hint)
	}
	return nil
}

// checkToken accepts what HTTP calls a token: names of header fields, cookies and methods.
func checkToken(s, what string) error {
	if s == "" {
		return fmt.Errorf("the name of the %s is missing", what)
	}
	for _, r := range s {
		if !strings.ContainsRune(keyLetters+"!#$%&'*+.^`|~", r) {
			return fmt.Errorf("%q cannot be the name of a %s: %q is not allowed there", clip(s), what, r)
		}
	}
	return nil
}

func parseMethod(s string) (string, error) {
	if err := checkToken(s, "method"); err != nil {
		return "", err
	}
	if upper := strings.ToUpper(s); upper != s {
		return "", fmt.Errorf("%q is not upper case; methods are case-sensitive: write %s", clip(s), clip(upper))
	}
	return s, nil
}

// parsePath reads the path of a match or a probe.
func parsePath(s string) (string, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("%q does not begin with /; write /%s", clip(s), clip(s))
	case strings.ContainsAny(s, "?#"):
		return "", fmt.Errorf("%q has a query or fragment; a path ends before ? and #", clip(s))
	case strings.ContainsFunc(s, control):
		return "", fmt.Errorf("%q has a control character", clip(s))
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return "", fmt.Errorf("%q has the segment %q, which no request has after normalisation; leave it out", clip(s), segment)
		}
	}
	return s, nil
}

// parseProbePath reads a request target in origin form; unlike a match it may carry a query.
func parseProbePath(s string) (string, error) {
	path, _, _ := strings.Cut(s, "?")
	if _, err := parsePath(path); err != nil {
		return "", err
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }) {
		return "", fmt.Errorf("%q cannot be sent as a request target; write spaces and other scripts percent-encoded", clip(s))
	}
	return s, nil
}

// parsePathPrefix drops the trailing slash, because a prefix matches whole segments: /api
// and /api/ mean the same.
func parsePathPrefix(s string) (string, error) {
	s, err := parsePath(s)
	if trimmed := strings.TrimRight(s, "/"); err == nil && trimmed != "" {
		return trimmed, nil
	} else if err == nil {
		return "/", nil
	}
	return "", err
}

func parseHeaderValue(s string) (string, error) {
	if strings.ContainsFunc(s, control) || s != strings.Trim(s, " \t") {
		return "", fmt.Errorf("%q cannot be the value of a header: it has a control character, or blanks at an end", clip(s))
	}
	return s, nil
}

func parseText(s string) (string, error) {
	if strings.ContainsFunc(s, control) || len(s) > 128 {
		return "", fmt.Errorf("%q is longer than 128 bytes or has a control character", clip(s))
	}
	return s, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }
