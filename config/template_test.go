package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTemplate(t *testing.T) {
	f := func(text string, want ...Part) {
		t.Helper()
		got, err := ParseTemplate(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	f("")
	f("text", Part{Text: "text"})
	f("{host}", Part{Variable: "host"})
	f("https://{host}/new", Part{Text: "https://"}, Part{Variable: "host"}, Part{Text: "/new"})
	f("{header:X-A}{jwt:a:b}", Part{"header", "X-A"}, Part{"jwt", "a:b"})
	f("{{host}}", Part{Text: "{host}"})
	f("{{{host}}}", Part{Text: "{"}, Part{Variable: "host"}, Part{Text: "}"})
	f(`a}b{{"c":1}`, Part{Text: `a}b{"c":1}`})
	for _, known := range Variables() {
		name, takes := strings.CutSuffix(known, ":")
		if takes {
			f("{"+name+":X}", Part{name, "X"})
		} else {
			f("{"+name+"}", Part{Variable: name})
		}
	}
}

func TestParseTemplateFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if parts, err := ParseTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %s", text, parts, err, want)
		}
	}
	f("{host", "no closing brace")
	f("{", "no closing brace")
	f("{}", "unknown variable {}; want {client_ip}, ")
	f("{hots}", "{header:NAME}, {jwt:NAME} or {user}, or {{ for a brace")
	f("{Host}", "unknown variable")
	f("{host:a}", "takes no name")
	f("{header}", "has no name")
	f("{jwt:}", "has no name")
	f("{header:a b}", "cannot be the name of a header")
}
