package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"weir/config"
	"weir/proxy/enginetest"
)

func TestTemplate(t *testing.T) {
	r := aRequest(t, "/v1/predict?q=1", "Host: ml.example.com\r\nX-User-ID:  u 1 \r\nX-Two: a\r\nX-Two: b\r\n", nil)
	r.id, r.route.variants[0].version = []byte("id-1"), "v7"
	for text, want := range map[string]string{
		"":                                     "",
		"plain":                                "plain",
		"{client_ip}":                          "192.0.2.7",
		"{request_id}/{host}":                  "id-1/ml.example.com",
		"{method} {path}":                      "POST /v1/predict",
		"{route}-{variant}-{version}":          "predict-blue-v7",
		"[{endpoint}]":                         "[]",
		"{header:x-user-id}":                   "u 1",
		"{header:X-Two}":                       "a",
		"{header:X-None}{user}{jwt:sub}":       "",
		"{{host}} {{{host}}}":                  "{host} {ml.example.com}",
		"a{{b}}c{{":                            "a{b}c{",
		`{{"a": "{variant}", "b": {{"c":1}}}}`: `{"a": "blue", "b": {"c":1}}`,
		"{nothing} {":                          "{nothing} {",
	} {
		if got := string(parseTemplate(text).append(nil, r)); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	r.variant, r.route = nil, nil
	if got := string(parseTemplate("{route}{variant}{version}").append(nil, r)); got != "" {
		t.Errorf("before anything is known: %q", got)
	}
}

// TestVariables: whatever the configuration accepts is known here.
func TestVariables(t *testing.T) {
	for _, name := range config.Variables() {
		if bare, takes := strings.CutSuffix(name, ":"); takes {
			name = bare + ":x"
		}
		if got := parseTemplate("{" + name + "}"); len(got) != 1 || got[0].variable == textual {
			t.Errorf("{%s} is %+v", name, got)
		}
	}
	if len(variables) != len(config.Variables()) {
		t.Errorf("%d variables, the configuration has %d", len(variables), len(config.Variables()))
	}
}

// TestTemplateKeepsItsLine: whatever a variable holds, the result is one line of visible text.
func TestTemplateKeepsItsLine(t *testing.T) {
	r := aRequest(t, "/", "Host: h\r\n", nil)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, v := range []string{"a\r\nX-Evil: 1", "a\nb", "a\rb", "\x00a\x00", "a\x7fb\x1b[2J", string(all), " \t a\tb \t", "\r\n"} {
		r.who = v
		got := parseTemplate("<{user}>").append(nil, r)
		if controls(got) {
			t.Errorf("%q gives %q", v, got)
		}
		if want := strings.Map(func(c rune) rune {
			if c < ' ' && c != '\t' || c == 0x7f {
				return -1
			}
			return c
		}, v); len(v) < 200 && string(got) != "<"+strings.Trim(want, " \t")+">" {
			t.Errorf("%q gives %q", v, got)
		}
	}
}

func aRewrite(c config.Rewrite) *rewriting { return newRewriting(&c) }

func TestRewrite(t *testing.T) {
	regex := func(s string) *config.Regexp { return &config.Regexp{Regexp: regexp.MustCompile(s)} }
	for _, c := range []struct {
		rewrite config.Rewrite
		targets map[string]string
	}{
		{config.Rewrite{StripPrefix: "/api/v1/"}, map[string]string{
			"/api/v1/predict?x=1&y=%2F": "/predict?x=1&y=%2F",
			"/api/v1":                   "/",
			"/api/v1/":                  "/",
			"/api/v1?x":                 "/?x",
			"/api/v1?":                  "/?",
			"/api/v10/predict":          "/api/v10/predict",
			"/api/v/predict":            "/api/v/predict",
			"/other":                    "/other",
			"/%61pi/v%31/a%20b/%2e":     "/a%20b/%2e",
			"//api/./v1//x//y":          "/x//y",
			"/api/v1//evil.example.com": "/evil.example.com",
			"/x/../api/v1/y":            "/y",
			"/api/x/%2e%2E/v1/y":        "/y",
			"/api/v1/../v1/y":           "/y",
			"/api/v1/z/../../v1/y":      "/y",
			"/api/v1/z/../y":            "/z/../y",
			"/api/v1/..":                "/api/v1/..",
			"/api/v1/../v2":             "/api/v1/../v2",
			"/api%2Fv1/x":               "/api%2Fv1/x",
			"/api/v1/%2F/x":             "/%2F/x",
			"*":                         "*",
		}},
		{config.Rewrite{StripPrefix: "/a b"}, map[string]string{"/a%20b/c": "/c", "/a%20b": "/", "/a+b/c": "/a+b/c"}},
		{config.Rewrite{StripPrefix: "/"}, map[string]string{"/a": "/a", "/": "/"}},
		{config.Rewrite{StripPrefix: "/a", AddPrefix: "/b/"}, map[string]string{"/a": "/b", "/a/": "/b/", "/a/c?d": "/b/c?d", "/x": "/b/x"}},
		{config.Rewrite{AddPrefix: "/v2/a b"}, map[string]string{"/": "/v2/a%20b/", "/x%2Fy?z": "/v2/a%20b/x%2Fy?z"}},
		{config.Rewrite{AddPrefix: "/"}, map[string]string{"/x": "/x"}},
		{config.Rewrite{Path: "/v2/models/m/infer"}, map[string]string{"/anything?x=1": "/v2/models/m/infer?x=1", "/": "/v2/models/m/infer"}},
		{config.Rewrite{Path: "/50%/ü?#\x01", AddPrefix: "/p"}, map[string]string{"/": "/p/50%25/%C3%BC%3F%23%01"}},
		{config.Rewrite{Regex: regex(`^/models/([^/]+)/predict$`), Replacement: "/v2/models/$1/infer"}, map[string]string{
			"/models/resnet/predict?x=1":   "/v2/models/resnet/infer?x=1",
			"/m%6Fdels//./resnet/predict":  "/v2/models/resnet/infer",
			"/models/a%20b%0d%0ax/predict": "/v2/models/a%20b%0D%0Ax/infer",
			"/models/a%2Fb/predict":        "/v2/models/a%2Fb/infer",
			"/models/a%252Fb/predict":      "/v2/models/a%252Fb/infer",
			"/models/%3Fa%23/predict":      "/v2/models/%3Fa%23/infer",
			"/other%25/./x%41":             "/other%25/./x%41",
		}},
		{config.Rewrite{Regex: regex(`^/x`), Replacement: ""}, map[string]string{"/x": "/", "/xy/z": "/y/z", "/x//evil": "/evil"}},
		{config.Rewrite{Regex: regex(`a`), Replacement: "b", AddPrefix: "/p"}, map[string]string{"/aca?a": "/p/bcb?a", "/q": "/p/q"}},
	} {
		w := aRewrite(c.rewrite)
		for target, want := range c.targets {
			got := target
			if target[0] == '/' {
				got = string(w.append(nil, []byte(target)))
			}
			if got != want {
				t.Errorf("%+v: %q becomes %q, want %q", c.rewrite, target, got, want)
			}
		}
	}
}

// TestRewriteStripsWhatRoutesMatch: of any valid target whose normalised path begins with the prefix, what is
// left is the same path behind it, and nothing that climbs above the root.
func TestRewriteStripsWhatRoutesMatch(t *testing.T) {
	w := aRewrite(config.Rewrite{StripPrefix: "/api/v1"})
	pieces := []string{"/", "/", "/api", "/v1", "/%61pi", "/v%31", "/.", "/..", "/%2e%2E", "/.%2e", "/x", "/...", "/%2F", "//", "/y%25"}
	rng, stripped := rand.New(rand.NewPCG(1, 2)), 0
	for range enginetest.Scaled(200_000, 50_000) {
		var target string
		for range 1 + rng.IntN(9) {
			target += pieces[rng.IntN(len(pieces))]
		}
		normal, ok := normalisePath(nil, []byte(target))
		if !ok {
			continue
		}
		got := w.append(nil, []byte(target))
		after, ok := normalisePath(nil, got)
		if !ok || got[0] != '/' {
			t.Fatalf("%q became %q", target, got)
		}
		rest, found := strings.CutPrefix(string(normal), "/api/v1")
		if !found || rest != "" && rest[0] != '/' {
			if string(got) != target {
				t.Fatalf("%q (%s) became %q", target, normal, got)
			}
			continue
		}
		stripped++
		if rest == "" {
			rest = "/"
		}
		if string(after) != rest || strings.HasPrefix(string(got), "//") {
			t.Fatalf("%q (%s) became %q (%s)", target, normal, got, after)
		}
	}
	if stripped < 1000 {
		t.Errorf("only %d targets had the prefix", stripped)
	}
}

// FuzzRewrite: a valid target stays one.
func FuzzRewrite(f *testing.F) {
	f.Add("/api/v1/x?y", "/api", "/b c", `/(.)`, "$1/$0")
	f.Add("/%25%2F/../a", "/", "", `[%/]+`, "\x00\r\n {")
	f.Fuzz(func(t *testing.T, target, strip, add, regex, with string) {
		if _, ok := normalisePath(nil, []byte(target)); !ok || !path.IsAbs(strip) || add != "" && add[0] != '/' {
			return
		}
		re, err := regexp.Compile(regex)
		if err != nil {
			return
		}
		for _, c := range []config.Rewrite{
			{StripPrefix: strip, AddPrefix: add}, {Path: strip, AddPrefix: add},
			{Regex: &config.Regexp{Regexp: re}, Replacement: with, AddPrefix: add},
		} {
			got := string(aRewrite(c).append(nil, []byte(target)))
			if got == "" || got[0] != '/' || strings.ContainsFunc(got, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' }) {
				t.Errorf("%+v: %q becomes %q", c, target, got)
			}
			_, query, _ := strings.Cut(target, "?")
			if _, after, _ := strings.Cut(got, "?"); after != query {
				t.Errorf("%+v: the query of %q in %q", c, target, got)
			}
		}
	})
}

// someEdits is a route's changes, and a request of that route.
func someEdits(tb testing.TB, h config.Headers, lines string) (*edits, *request) {
	r := aRequest(tb, "/v1/predict", lines, nil)
	r.route.edits = newEdits(config.Route{Headers: h}, nil)
	return r.route.edits, r
}

func fieldsOf(pairs ...string) (h []config.Header) {
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, config.Header{Name: pairs[i], Value: pairs[i+1]})
	}
	return h
}

func TestFieldEdits(t *testing.T) {
	const lines = "Host: h\r\nX-A: 1\r\nx-a: 2\r\nX-Abc: 3\r\nX-B:\r\n"
	for name, c := range map[string]struct {
		change config.HeaderChange
		want   string
	}{
		"nothing": {config.HeaderChange{}, lines},
		"remove":  {config.HeaderChange{Remove: []string{"X-A", "X-None"}}, "Host: h\r\nX-Abc: 3\r\nX-B:\r\n"},
		"set":     {config.HeaderChange{Set: fieldsOf("x-A", "9")}, "Host: h\r\nX-Abc: 3\r\nX-B:\r\nx-A: 9\r\n"},
		"add":     {config.HeaderChange{Add: fieldsOf("X-A", "9", "X-A", "10")}, lines + "X-A: 9\r\nX-A: 10\r\n"},
		"in order": {config.HeaderChange{Add: fieldsOf("X-A", "added"), Set: fieldsOf("X-A", "set", "X-C", "{host}"), Remove: []string{"X-A", "X-ABC"}},
			"Host: h\r\nX-B:\r\nX-A: set\r\nX-C: h\r\nX-A: added\r\n"},
		"without a value": {config.HeaderChange{Set: fieldsOf("X-A", "{header:x-none}", "X-B", "{user}", "X-Abc", "")}, "Host: h\r\n"},
		"all but one":     {config.HeaderChange{Remove: []string{"host", "x-a", "x-abc"}}, "X-B:\r\n"},
	} {
		_, r := someEdits(t, config.Headers{Request: c.change}, lines)
		f := newFieldEdits(c.change, nil)
		if got := string(f.apply(r, []byte("first\r\n"+lines), len("first\r\n"))); got != "first\r\n"+c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestSecurityFields(t *testing.T) {
	d, r := someEdits(t, config.Headers{Security: true, Response: config.HeaderChange{
		Set: fieldsOf("x-frame-options", "DENY"), Remove: []string{"referrer-policy"},
	}}, "Host: h\r\n")
	got := string(d.response(r, []byte("X-Frame-Options: ALLOW\r\nReferrer-Policy: unsafe-url\r\nServer: s\r\nX-Content-Type-Options: x\r\n"), 0))
	want := "Server: s\r\nX-Content-Type-Options: nosniff\r\nX-XSS-Protection: 1; mode=block\r\nx-frame-options: DENY\r\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// editSteps are the changes that cost no allocation.
func editSteps(tb testing.TB) map[string]func() {
	steps := map[string]func(){}
	buf := make([]byte, 0, 8192)
	for name, h := range map[string]config.Headers{
		"literal": {Security: true, Request: config.HeaderChange{Set: fieldsOf("X-Env", "prod"), Remove: []string{"X-Debug", "Cookie"}}, Response: config.HeaderChange{Set: fieldsOf("X-A", "b")}},
		"variables": {
			Request:  config.HeaderChange{Set: fieldsOf("Host", "{variant}.example.com", "X-Id", "{request_id} {client_ip} {method} {path}", "X-User", "{header:X-User-ID}{user}")},
			Response: config.HeaderChange{Add: fieldsOf("X-Served", "{route}/{variant}/{version}/{endpoint}")},
		},
	} {
		_, r := someEdits(tb, h, headerLines(20))
		answer := []byte("HTTP/1.1 200 OK\r\n" + strings.ReplaceAll(headerLines(20), "Host: ml.example.com", "Server: uvicorn") + "\r\n")
		p := new(response)
		p.parse(answer, len(answer))
		steps["request/"+name] = func() { buf = r.appendHead(buf[:0]) }
		steps["response/"+name] = func() { buf = r.appendResponse(buf[:0], answer, p, framedLength) }
		r.buf = &buffers{out: make([]byte, 0, 16<<10)}
		steps["settle/"+name] = func() { r.buf.out = append(r.appendHead(r.buf.out[:0]), "body"...); r.settle() }
	}
	target := []byte("/v1/models/resnet50/infer?x=1")
	strip, add := aRewrite(config.Rewrite{StripPrefix: "/v1"}), aRewrite(config.Rewrite{AddPrefix: "/v1", Path: "/x"})
	steps["rewrite/strip"] = func() { buf = strip.append(buf[:0], target) }
	steps["rewrite/path"] = func() { buf = add.append(buf[:0], target) }
	return steps
}

func BenchmarkEdit(b *testing.B) {
	for name, step := range editSteps(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}

func TestSettledHead(t *testing.T) {
	_, r := someEdits(t, config.Headers{Request: config.HeaderChange{Set: fieldsOf("X-Variant", "{variant} {version}")}}, headerLines(20))
	chosen := r.variant
	for _, body := range []string{"", "short", strings.Repeat("x\r\n\r\n", 5000)} {
		r.variant = nil
		r.buf = &buffers{}
		r.buf.out = append(r.appendHead(nil), body...)
		if strings.Contains(string(r.buf.out), "X-Variant") {
			t.Errorf("before: %q", r.buf.out)
		}
		r.variant = chosen
		r.settle()
		if want := string(r.appendHead(nil)) + body; string(r.buf.out) != want || !strings.Contains(want, "\r\nX-Variant: blue v1\r\n") {
			t.Errorf("settled: %q, want %q", r.buf.out, want)
		}
	}
}

// TestRewriteAgainstURL: what is not rewritten by a regular expression keeps its meaning.
func TestRewriteAgainstURL(t *testing.T) {
	w := aRewrite(config.Rewrite{Regex: &config.Regexp{Regexp: regexp.MustCompile(`^/in/`)}, Replacement: "/out/"})
	for c := range 256 {
		target := fmt.Sprintf("/in/a%%%02Xb", c)
		if c == 0 {
			continue // is no target
		}
		got := string(w.append(nil, []byte(target)))
		after, err := url.PathUnescape(got)
		want := "/out/a" + string([]byte{byte(c)}) + "b"
		if c == '/' {
			if got != "/out/a%2Fb" {
				t.Errorf("%q became %q", target, got)
			}
			continue
		}
		if err != nil || after != want {
			t.Errorf("%q became %q, that is %q, want %q", target, got, after, want)
		}
	}
}
