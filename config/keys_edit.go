package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func headersEditShape() shape[Headers] {
	return sparse[Headers]{absent: func() (h Headers) { return h }, shape: object[Headers]{fields: []field[Headers]{
		key("security", boolShape(), func(h *Headers) *bool { return &h.Security },
			"Adds X-Frame-Options, X-Content-Type-Options, X-XSS-Protection, Referrer-Policy and, over TLS, Strict-Transport-Security to answers, where response says nothing of them."),
		key("request", headerChangeShape(checkRequestEdit, checkRequestAdd, func(s string) error {
			return checkWithout(s, "another attempt has the same fields and goes to another endpoint; write {variant} or {version}", "endpoint")
		}), func(h *Headers) *HeaderChange { return &h.Request },
			"Changes of the fields that the endpoint gets."),
		key("response", headerChangeShape(checkAnswerField, checkAnswerField, func(s string) error { return checkWithout(s, "") }), func(h *Headers) *HeaderChange { return &h.Response },
			"Changes of the fields that the client gets."),
	}}}
}

// headerChangeShape checks names by check, those of fields that are added by added, and values by value.
func headerChangeShape(check, added, value func(string) error) shape[HeaderChange] {
	return sparse[HeaderChange]{absent: func() (c HeaderChange) { return c }, shape: object[HeaderChange]{fields: []field[HeaderChange]{
		key("remove", list[string]{noun: "header", least: 1, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
			want: "the name of a header", free: true, format: verbatim, body: textSchema,
			parse: func(s string) (string, error) {
				if strings.EqualFold(s, "Host") {
					return "", fmt.Errorf("a request has to have a %s; set it to another value instead", s)
				}
				return s, check(s)
			},
		}}, func(c *HeaderChange) *[]string { return &c.Remove },
			"Fields that are taken out, first of all."),
		key("set", templatesShape(check, value), func(c *HeaderChange) *[]Header { return &c.Set },
			"Fields that get this value in place of any that they have. Values may hold variables: {client_ip}, {client_cert}, {request_id}, {host}, {method}, {path}, {route}, {variant}, {version}, {header:NAME}, {jwt:CLAIM} and {user}, in response also {endpoint}; {{ is a brace. A field without a value is left out."),
		key("add", templatesShape(added, value), func(c *HeaderChange) *[]Header { return &c.Add },
			"Fields that are added beside those of the same name, last of all."),
	}}}
}

func templatesShape(check, value func(string) error) shape[[]Header] {
	return headersWith(check, scalar[string]{
		want: "the value of the header", free: true, format: verbatim, body: textSchema,
		parse: func(s string) (string, error) {
			if _, err := parseHeaderValue(s); err != nil {
				return "", err
			}
			return s, value(s)
		},
	})
}

func headersWith(check func(string) error, value shape[string]) shape[[]Header] {
	return named[Header]{
		noun: "header", fresh: func() Header { return Header{} }, name: func(h *Header) *string { return &h.Name },
		check: check, elem: part(value, func(h *Header) *string { return &h.Value }),
	}
}

// framing are the fields by which a message is told from the next one, and those that hold for one connection.
func framing() []string {
	return []string{
		"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
		"Upgrade", "Expect", "HTTP2-Settings",
	}
}

// checkAnswerField accepts the name of a field that a route may change.
func checkAnswerField(s string) error {
	own := strings.EqualFold(s, "X-Request-ID") || len(s) >= 7 && strings.EqualFold(s[:7], "X-Weir-")
	switch {
	case own:
		return fmt.Errorf("%s is weir's own; leave it out", clip(s))
	case slices.ContainsFunc(framing(), func(name string) bool { return strings.EqualFold(name, s) }):
		return fmt.Errorf("%s belongs to the connection, not to the message; leave it out", clip(s))
	case strings.EqualFold(s, "Host"):
		return fmt.Errorf("%s is a field of requests; leave it out", clip(s))
	}
	return checkToken(s, "header")
}

func checkRequestEdit(s string) error {
	if strings.EqualFold(s, "Host") {
		return nil
	}
	return checkAnswerField(s)
}

func checkRequestAdd(s string) error {
	if strings.EqualFold(s, "Host") {
		return fmt.Errorf("a request has one %s; set it instead", s)
	}
	return checkAnswerField(s)
}

func rewriteShape() shape[*Rewrite] {
	path := func(parse func(string) (string, error)) shape[string] { return matchPathShape(parse) }
	return optional[Rewrite]{fresh: func() (w Rewrite) { return w }, inner: object[Rewrite]{
		exclusive: []string{"strip_prefix", "regex", "path"}, fields: []field[Rewrite]{
			key("strip_prefix", path(parsePathPrefix), func(w *Rewrite) *string { return &w.StripPrefix },
				"Taken off the path, in whole segments. At most one of strip_prefix, regex and path."),
			key("regex", regexpShape(), func(w *Rewrite) **Regexp { return &w.Regex },
				"A regular expression (RE2); what it finds in the path is replaced by replacement."),
			key("replacement", optionalTextShape("a text such as /b/$1"), func(w *Rewrite) *string { return &w.Replacement },
				"In place of what regex finds; $1 is its first group. Absent: nothing."),
			key("path", path(parsePath), func(w *Rewrite) *string { return &w.Path },
				"In place of the whole path."),
			key("add_prefix", path(parsePathPrefix), func(w *Rewrite) *string { return &w.AddPrefix },
				"Put in front of the path, after strip_prefix and regex."),
		},
	}}
}

func redirectShape() shape[*Redirect] {
	return optional[Redirect]{fresh: DefaultRedirect, inner: object[Redirect]{either: []string{"to", "https"}, fields: []field[Redirect]{
		key("to", scalar[string]{want: "a URL or a path", free: true, optional: true, parse: parsePlace, format: verbatim, body: textSchema},
			func(d *Redirect) *string { return &d.To },
			"The place: a URL or a path, with variables as in headers.request, but not {variant} and {version}, as in https://{host}/new."),
		key("https", flagShape(), func(d *Redirect) *bool { return &d.HTTPS },
			"The same place by https; requests that came over TLS, or by https as a trusted proxy says, go to the split, and get 404 where there is none. A split beside it needs a listener with tls, or trusted_proxies: else every request is redirected. Either to or https."),
		key("status", statusOf(301, 302, 303, 307, 308), func(d *Redirect) *int { return &d.Status },
			"301, 302, 303, 307 or 308. 307 and 308 keep method and body."),
	}}}
}

// parsePlace reads where a redirect leads to.
func parsePlace(s string) (string, error) {
	if err := checkWithout(s, "the answer is weir's own", "variant", "version", "endpoint"); err != nil {
		return "", err
	}
	parts, _ := ParseTemplate(s)
	switch {
	case s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", fmt.Errorf("%q is no place; write a URL or a path, as in https://{host}/new, without blanks", clip(s))
	case parts[0].Variable == "" && !strings.HasPrefix(s, "/") && !placeBegin.MatchString(s):
		return "", fmt.Errorf("%q is no place; write a URL with http:// or https://, or a path that begins with /", clip(s))
	}
	return s, nil
}

var placeBegin = regexp.MustCompile(`^https?://.`)

// statusOf is one of some statuses.
func statusOf(codes ...int) shape[int] {
	names := make([]string, len(codes))
	for i, code := range codes {
		names[i] = strconv.Itoa(code)
	}
	return scalar[int]{
		want: choices(names, "or"), numeric: []string{"!!int"}, format: strconv.Itoa,
		parse: func(s string) (int, error) {
			if i := slices.Index(names, s); i >= 0 {
				return codes[i], nil
			}
			return 0, fmt.Errorf("%q is not possible here; write %s", clip(s), choices(names, "or"))
		},
		body: func() schema { return orVariable(schema{"enum": slices.Clone(codes)}) },
	}
}

func respondShape() shape[*Respond] {
	return optional[Respond]{fresh: DefaultRespond, inner: object[Respond]{fields: []field[Respond]{
		key("status", countScalar(200, 599), func(p *Respond) *int { return &p.Status },
			"The status of the answer, 200 to 599."),
		key("body", bodyShape(func(string) error { return nil }), func(p *Respond) *string { return &p.Body },
			"The body of the answer. Absent: it is empty."),
		key("headers", headersWith(checkAnswerField, scalar[string]{
			want: "the value of the header", free: true, parse: parseHeaderValue, format: verbatim, body: textSchema,
		}), func(p *Respond) *[]Header { return &p.Headers },
			"Header fields of the answer. A body without a Content-Type is text/plain."),
	}}}
}

func compressShape() shape[*Compress] {
	return optional[Compress]{fresh: DefaultCompress, inner: object[Compress]{fields: []field[Compress]{
		key("encodings", choicesShape("encoding", []string{"zstd", "br", "gzip"}), func(c *Compress) *[]string { return &c.Encodings },
			"In the order of preference among those that the client takes: zstd, br and gzip."),
		key("types", list[string]{noun: "media type", least: 1, most: 64, fresh: func() string { return "" }, elem: scalar[string]{
			want: "a media type such as application/json or text/*", free: true, parse: parseMediaType, format: verbatim,
			body: func() schema { return orVariable(schema{"type": "string", "pattern": `^[^/]+/[^/]+$`}) },
		}}, func(c *Compress) *[]string { return &c.Types },
			"The media types of answers that are compressed; text/* is every kind of text but text/event-stream."),
		key("min_size", sizeShape(), func(c *Compress) *Size { return &c.MinSize },
			"The smallest answer that is compressed, where its length is known."),
	}}}
}

func parseMediaType(s string) (string, error) {
	kind, sub, ok := strings.Cut(s, "/")
	if !ok || checkToken(kind, "type") != nil || checkToken(sub, "type") != nil || strings.Contains(kind, "*") && s != "*/*" {
		return "", fmt.Errorf("%q is no media type; write one without parameters, as in application/json, or text/* for all of a kind", clip(s))
	}
	return strings.ToLower(s), nil
}

func webSocketShape() shape[WebSocket] {
	off := WebSocket{Off: true}
	return sparse[WebSocket]{absent: func() WebSocket { return WebSocket{} }, shape: orOff[WebSocket]{off: off, isOff: func(w WebSocket) bool { return w.Off }, inner: object[WebSocket]{fields: []field[WebSocket]{
		key("max", boundShape(), func(w *WebSocket) *int { return &w.Max },
			"How many there are at one time; further ones are refused with 503. Absent or 0: no bound."),
	}}}}
}

func routeLogShape() shape[RouteLog] {
	off := DefaultRouteLog()
	off.Off = true
	return sparse[RouteLog]{absent: DefaultRouteLog, shape: orOff[RouteLog]{off: off, isOff: func(l RouteLog) bool { return l.Off }, inner: object[RouteLog]{fields: []field[RouteLog]{
		key("percent", percentShape(), func(l *RouteLog) *float64 { return &l.Percent },
			"The percentage of requests that are logged; those with a status from 500 all are."),
	}}}}
}
