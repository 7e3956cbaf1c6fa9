package config

import "testing"

func TestExpand(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got, err := expand(s, testEnvironment); err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", s, got, err, want)
		}
	}
	f("", "")
	f("plain", "plain")
	f("${PORT}", "8080")
	f("a${PORT}b${WORD}c", "a8080bmanyc")
	f("${EMPTY}", "")
	f("${EMPTY:-default}", "default")
	f("${PORT:-default}", "8080")
	f("${UNSET:-default}", "default")
	f("${UNSET:-}", "")
	f("${UNSET:-a:b-c?d}", "a:b-c?d")
	f("${PORT:?needed}", "8080")
	f("$$", "$")
	f("$${PORT}", "${PORT}")
	f("$$$${PORT}", "$${PORT}")
	f("$$${PORT}", "$8080")
	f("^/v1$", "^/v1$")
	f("$PORT", "$PORT")
	f("a$ b", "a$ b")
}

func TestExpandFailure(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got, err := expand(s, testEnvironment); err == nil || err.Error() != want {
			t.Errorf("expand(%q) = %q, %v, want the error %s", s, got, err, want)
		}
	}
	f("${UNSET}", "the environment variable UNSET is not set; set it, or write ${UNSET:-default}")
	f("${UNSET:?where the model is}", "the environment variable UNSET is not set: where the model is")
	f("${EMPTY:?where the model is}", "the environment variable EMPTY is not set: where the model is")
	f("${UNSET:?}", "the environment variable UNSET is not set; set it, or write ${UNSET:-default}")
	f("${", "${ has no closing brace; write ${VAR}, or $${ for a plain ${")
	f("${}", "${} is not understood; write ${VAR}, ${VAR:-default} or ${VAR:?message}, or $${ for a plain ${")
	f("${PORT:+x}", "${PORT:+x} is not understood; write ${VAR}, ${VAR:-default} or ${VAR:?message}, or $${ for a plain ${")
	f("${A B}", "${A B} is not understood; write ${VAR}, ${VAR:-default} or ${VAR:?message}, or $${ for a plain ${")
}

func TestEscapeVariables(t *testing.T) {
	for _, s := range []string{"", "$", "$$", "$$$", "${A}", "$${A}", "a$$b$", "$a", "^/v1$", "$$${"} {
		escaped := escapeVariables(s)
		if got, err := expand(escaped, noEnvironment); err != nil || got != s {
			t.Errorf("%q is escaped as %q, which expands to %q, %v", s, escaped, got, err)
		}
	}
}
