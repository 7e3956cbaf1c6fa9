package config

import (
	"fmt"
	"slices"
	"strings"
)

// Part is a part of a text with variables: a variable, or what stands between two of them.
type Part struct {
	// Variable is one of Variables; "" for Text as it is.
	Variable string
	// Text is the literal text, or the NAME of {header:NAME} and {jwt:CLAIM}.
	Text string
}

// Variables returns the variables that a text may hold in braces. Those that end in a colon take a name.
func Variables() []string {
	return []string{
		"client_ip", "client_cert", "request_id", "host", "method", "path", "route", "variant", "version", "endpoint",
		"header:", "jwt:", "user",
	}
}

// ParseTemplate reads a text with variables in braces, as in "https://{host}/new". Two braces stand for one. What it
// returns has no two literal parts in a row, and none that is empty.
func ParseTemplate(s string) ([]Part, error) {
	var parts []Part
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			parts = append(parts, Part{Text: text.String()})
			text.Reset()
		}
	}
	for s != "" {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			text.WriteString(s)
			break
		}
		text.WriteString(s[:at])
		brace := s[at : at+1]
		s = s[at+1:]
		if strings.HasPrefix(s, brace) || brace == "}" {
			text.WriteString(brace)
			s = strings.TrimPrefix(s, brace)
			continue
		}
		name, rest, closed := strings.Cut(s, "}")
		if !closed {
			return nil, fmt.Errorf("{%s has no closing brace; write a variable as {host}, or {{ for a brace", clip(s))
		}
		part, err := parseVariable(name)
		if err != nil {
			return nil, err
		}
		flush()
		parts = append(parts, part)
		s = rest
	}
	flush()
	return parts, nil
}

func parseVariable(s string) (Part, error) {
	kind, name, named := strings.Cut(s, ":")
	for _, known := range Variables() {
		bare, takes := strings.CutSuffix(known, ":")
		if bare != kind {
			continue
		}
		switch {
		case !takes && named:
			return Part{}, fmt.Errorf("{%s} takes no name; write {%s}", clip(s), kind)
		case takes && name == "":
			return Part{}, fmt.Errorf("{%s} has no name; write {%s:NAME}", clip(s), kind)
		case kind == AffinityHeader:
			if err := checkToken(name, "header"); err != nil {
				return Part{}, err
			}
		}
		return Part{kind, name}, nil
	}
	var forms []string
	for _, known := range Variables() {
		if strings.HasSuffix(known, ":") {
			known += "NAME"
		}
		forms = append(forms, "{"+known+"}")
	}
	return Part{}, fmt.Errorf("unknown variable {%s}; want %s, or {{ for a brace", clip(s), choices(forms, "or"))
}

// checkWithout accepts a text without some variables, which mean nothing where it is used.
func checkWithout(s, why string, variables ...string) error {
	parts, err := ParseTemplate(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Variable != "" && slices.Contains(variables, p.Variable) {
			return fmt.Errorf("{%s} means nothing here: %s", p.Variable, why)
		}
	}
	return nil
}

// templateNeeds yields which kinds of who asks a text depends on: AffinityJWT for a claim, and "user".
func templateNeeds(s string) (jwt, user bool) {
	parts, _ := ParseTemplate(s)
	for _, p := range parts {
		jwt = jwt || p.Variable == AffinityJWT
		user = user || p.Variable == "user"
	}
	return jwt, user
}
