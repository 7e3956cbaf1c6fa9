package config

import (
	"fmt"
	"slices"
	"strings"
)

// source says where in a request a text is read that tells clients apart: Source and Name of an affinity
// or of a limit, which the file has as one text.
type source struct{ kind, name string }

func (s source) String() string {
	if s.name == "" {
		return s.kind
	}
	return s.kind + ":" + s.name
}

func affinityKeyShape() shape[Affinity] {
	return through[Affinity, source]{
		get:   func(a *Affinity) source { return source{a.Source, a.Name} },
		set:   func(a *Affinity, s source) { a.Source, a.Name = s.kind, s.name },
		inner: sourceShape(AffinityHeader, AffinityCookie, AffinityQuery, AffinityClientIP, AffinityClientCert, AffinityJWT, AffinityJSON),
	}
}

func rateLimitKeyShape() shape[RateLimit] {
	return through[RateLimit, source]{
		get:   func(l *RateLimit) source { return source{l.Source, l.Name} },
		set:   func(l *RateLimit, s source) { l.Source, l.Name = s.kind, s.name },
		inner: sourceShape(AffinityClientIP, AffinityClientCert, AffinityHeader, AffinityAPIKey, AffinityJWT),
	}
}

// sourceShape is a source of one of the kinds, some of which take a name.
func sourceShape(kinds ...string) shape[source] {
	forms, patterns := make([]string, len(kinds)), make([]string, len(kinds))
	for i, kind := range kinds {
		forms[i], patterns[i] = kind+":NAME", kind+":.+"
		switch kind {
		case AffinityClientIP, AffinityClientCert, AffinityAPIKey, wordRoute:
			forms[i], patterns[i] = kind, kind
		case AffinityJWT:
			forms[i] = kind + ":CLAIM"
		case AffinityJSON:
			forms[i] = kind + ":PATH"
		}
	}
	want := choices(forms, "or")
	return scalar[source]{
		want: want, optional: true, format: source.String,
		parse: func(s string) (source, error) { return parseSource(s, kinds, want) },
		body: func() schema {
			return orVariable(schema{"type": "string", "pattern": "^(" + strings.Join(patterns, "|") + ")$"})
		},
	}
}

func parseSource(s string, kinds []string, want string) (source, error) {
	kind, name, named := strings.Cut(s, ":")
	var err error
	switch {
	case !slices.Contains(kinds, kind):
		err = fmt.Errorf("unknown source %q; want %s", clip(kind), want)
	case kind == AffinityClientIP, kind == AffinityClientCert, kind == AffinityAPIKey, kind == wordRoute:
		if named {
			err = fmt.Errorf("%s takes no name; write %s alone", kind, kind)
		}
	case kind == AffinityHeader, kind == AffinityCookie:
		if cause := checkToken(name, kind); cause != nil {
			err = fmt.Errorf("%w; want %s", cause, want)
		}
	case kind == AffinityJSON:
		err = checkFieldPath(name)
	case kind == AffinityJWT && (name == "" || strings.ContainsFunc(name, control)):
		err = fmt.Errorf("the name of the claim is missing or has a control character; want %s", want)
	case name == "" || strings.ContainsFunc(name, control):
		err = fmt.Errorf("the name of the query parameter is missing or has a control character; want %s", want)
	}
	return source{kind, name}, err
}
