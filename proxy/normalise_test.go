package proxy

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestNormalisePath(t *testing.T) {
	for _, c := range []struct{ target, want string }{ // want "": refused
		{"/", "/"},
		{"/predict", "/predict"},
		{"/predict/", "/predict/"},
		{"/predict?a=/../b", "/predict"},
		{"/?", "/"},
		{"/a.b/c..d/...", "/a.b/c..d/..."},
		{"/.well-known/x", "/.well-known/x"},
		{"/..a/.b", "/..a/.b"},
		{"//", "/"},
		{"//a///b//", "/a/b/"},
		{"/a/.", "/a/"},
		{"/a/./b", "/a/b"},
		{"/./a", "/a"},
		{"/a/..", "/"},
		{"/a/../b", "/b"},
		{"/a/b/../../c", "/c"},
		{"/a//../b", "/b"},
		{"/a/%2e%2E/b", "/b"},
		{"/a/%2e/b", "/a/b"},
		{"/a/.%2e", "/"},
		{"/%61%62c", "/abc"},
		{"/%7Euser", "/~user"},
		{"/a%2fb", "/a%2Fb"},
		{"/a%2Fb", "/a%2Fb"},
		{"/a/..%2fb", "/a/..%2Fb"},
		{"/a%2f../b", "/a%2F../b"},
		{"/a%252fb", "/a%2fb"},
		{"/a%5Cb", `/a\b`},
		{`/a\..\b`, `/a\..\b`},
		{"/a%3Fb", "/a?b"},
		{"/a%23b", "/a#b"},
		{"/caf%C3%A9", "/caf\u00e9"},
		{"/caf\u00e9", "/caf\u00e9"},
		{"/a%0Ab", "/a\nb"},
		{"/%20", "/ "},
		{"/x?%zz", "/x"}, // the query is nobody's business

		{"", ""},
		{"a", ""},
		{"*", ""},
		{"?a", ""},
		{"http://h/", ""},
		{"/..", ""},
		{"/../a", ""},
		{"/a/../../b", ""},
		{"/%2e%2e/a", ""},
		{"//../a", ""},
		{"/%00", ""},
		{"/a%", ""},
		{"/a%2", ""},
		{"/a%2?x", ""},
		{"/a%zz", ""},
		{"/a%+1", ""},
		{"/a b", ""},
		{"/a\tb", ""},
		{"/a\x00b", ""},
		{"/a\nb", ""},
		{"/a\x7fb", ""},
		{"/a#b", ""},
		{"/a?b#c", ""},
		{"/a?b c", ""},
		{"/a?b\x00", ""},
	} {
		target := []byte(c.target)
		got, ok := normalisePath(nil, target)
		if string(got) != c.want || ok != (c.want != "") {
			t.Errorf("normalisePath(%q) = %q, %v; want %q", c.target, got, ok, c.want)
		}
		if string(target) != c.target {
			t.Errorf("normalisePath(%q) changed its target to %q", c.target, target)
		}
	}
}

func TestNormalisePathCopiesOnlyWhenNeeded(t *testing.T) {
	plain, odd := []byte("/v2/models/fashion/infer?x=%20"), []byte("/v2//models/./%66ashion/../iris")
	if got, _ := normalisePath(nil, plain); &got[0] != &plain[0] {
		t.Error("a path in normal form was copied")
	}
	dst := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		normalisePath(dst, plain)
		normalisePath(dst, odd)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzNormalisePath checks what routing relies on: the result is rooted, has no empty and no dot
// segment, no NUL, and does not depend on how its characters were escaped.
func FuzzNormalisePath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2e/", "//a%2f%2F", "/a%", "/%00", "/..;/x", "/a/./b/?q", "/a%252e%252e/b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		before := bytes.Clone(target)
		got, ok := normalisePath(make([]byte, 0, 16), target)
		if !bytes.Equal(before, target) {
			t.Fatalf("target %q changed to %q", before, target)
		}
		if !ok {
			if got != nil {
				t.Fatalf("%q refused, yet returned %q", target, got)
			}
			return
		}
		if got[0] != '/' || len(got) > len(target) || bytes.IndexByte(got, 0) >= 0 {
			t.Fatalf("%q became %q", target, got)
		}
		segments := strings.Split(string(got[1:]), "/")
		for i, s := range segments {
			if s == "." || s == ".." || s == "" && i < len(segments)-1 {
				t.Fatalf("%q became %q with the segment %q", target, got, s)
			}
		}
		escaped := escapeAll(target)
		if again, ok := normalisePath(nil, escaped); !ok || !bytes.Equal(again, got) {
			t.Fatalf("%q became %q, but %q became %q", target, got, escaped, again)
		}
	})
}

// escapeAll percent-encodes every byte of the path but slashes and existing escapes.
func escapeAll(target []byte) []byte {
	path, _, _ := bytes.Cut(target, []byte("?"))
	var out []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '/':
			out = append(out, c)
		case '%':
			out = append(out, path[i:i+3]...)
			i += 2
		default:
			const digits = "0123456789abcdef"
			out = append(out, '%', digits[c>>4], digits[c&15])
		}
	}
	return out
}

func TestSplitAbsolute(t *testing.T) {
	for _, c := range []struct{ target, authority, rest string }{ // authority "": refused
		{"http://h/", "h", "/"},
		{"http://h", "h", "/"},
		{"HTTP://h:80/a?b", "h:80", "/a?b"},
		{"hTTps://Example.com/a", "Example.com", "/a"},
		{"http://h?x=1", "h", "/?x=1"},
		{"http://[::1]:8080/a", "[::1]:8080", "/a"},
		{"http://h//a", "h", "//a"},
		{"/a", "", ""},
		{"*", "", ""},
		{"h:80", "", ""},
		{"http:/h/", "", ""},
		{"http:///a", "", ""},
		{"http://", "", ""},
		{"http://u@h/", "", ""},
		{"http://u:p@h/", "", ""},
		{"http://a b/", "", ""},
		{"http://h:x/", "", ""},
		{"ftp://h/", "", ""},
		{"ws://h/", "", ""},
		{"http\u017f://h/", "", ""},
		{"http:\\\\h/", "", ""},
	} {
		authority, rest, ok := splitAbsolute([]byte(c.target))
		if ok != (c.authority != "") || ok && (string(authority) != c.authority || string(rest) != c.rest) {
			t.Errorf("splitAbsolute(%q) = %q, %q, %v; want %q, %q", c.target, authority, rest, ok, c.authority, c.rest)
		}
	}
	if _, rest, ok := splitAbsolute([]byte("http://h#f")); ok {
		if _, ok := normalisePath(nil, rest); ok {
			t.Errorf("the fragment in %q got through", rest)
		}
	}
}

func TestValidHost(t *testing.T) {
	valid := []string{
		"h", "ml.example.com", "ML.example.com:8080", "h.", "h:", "h:0", "h:65535", "127.0.0.1", "127.0.0.1:80",
		"a_b", "a-b~c", "x,y", "[::1]", "[::1]:80", "[2001:DB8::1]:", "[::ffff:1.2.3.4]",
	}
	invalid := []string{
		"", " ", "a b", " h", "h ", "a/b", "x@h", "h\x00", "h\r\n", "h\t", "a\\b", "h?", "h#", "a\"b", "<h>", "h%00", "h%41", "caf\u00e9",
		":80", "h:80:80", "h:65536", "h:99999", "h:000080", "h:-1", "h:8o", "h: 80", "::1", "[::1", "[::1]x", "[::1]80", "[]", "[h]", "[1.2.3.4]", "[fe80::1%25eth0]", "[fe80::1%eth0]",
		"[::1]]", "a]b", "http://h",
	}
	for _, h := range slices.Concat(valid, invalid) {
		if got, want := validHost([]byte(h)), slices.Contains(valid, h); got != want {
			t.Errorf("validHost(%q) = %v, want %v", h, got, want)
		}
	}
}

func BenchmarkNormalisePath(b *testing.B) {
	for name, target := range map[string]string{"plain": "/v2/models/fashion/infer", "encoded": "/v2/models/%66ashion/infer"} {
		b.Run(name, func(b *testing.B) {
			dst, target := make([]byte, 0, 64), []byte(target)
			b.ReportAllocs()
			for b.Loop() {
				normalisePath(dst, target)
			}
		})
	}
}
