package proxy

import (
	"testing"

	"weir/config"
)

func TestJSONText(t *testing.T) {
	for _, c := range []struct{ doc, path, want string }{
		{`{"parameters":{"user_id":"u\u0041\n"}}`, "parameters.user_id", "uA\n"},
		{`{"user":4711}`, "user", "4711"},
		{`{"user":1.50e3}`, "user", "1.50e3"},
		{`{"user":true}`, "user", "true"},
		{`{"user":null}`, "user", ""},
		{`{"user":{"id":1}}`, "user", ""},
		{`{"user":[1,2]}`, "user", ""},
		{`{"users":[{"id":"a"},{"id":"b"}]}`, "users.1.id", "b"},
		{`{"list":[1,2]}`, "list.1", "2"},
		{`{"list":[1,2]}`, "list.#", ""},
		{`{"list":[1,2]}`, "list.-1", ""},
		{`{"list":[{"a":1}]}`, "list.#.a", ""},
		{`{"list":[{"a":1}]}`, "list.#(a=1).a", ""},
		{`{"list":[{"a":"x"}]}`, "list|0|a", ""},
		{`{"list":["x"]}`, "list.a|0", ""},
		{`{"user":1,"u*":2}`, "u*", "2"},
		{`{"user":1}`, "u*", ""},
		{`{"user":1}`, "use?", ""},
		{`{"user":1}`, "@this", ""},
		{`{"user":1}`, "@keys.0", ""},
		{`{"user":1}`, `!"x"`, ""},
		{`{"user":1}`, "{user}.user", ""},
		{`{"user":1}`, "[user].0", ""},
		{`{"a":{"@b":{"#":{"c|d?*{[":"x"}}}}`, "a.@b.#.c|d?*{[", "x"},
		{`{"a\\":{"b":"c"},"a.b":"d"}`, `a\.b`, "c"},
		{`{"größe ü":"x"}`, "größe ü", "x"},
		{`{"gr\u00f6\u00dfe":"x"}`, "größe", "x"},
		{`{"user":""}`, "user", ""},
		{`{`, "user", ""},
		{``, "user", ""},
	} {
		s := subjectOf(&config.Affinity{Source: config.AffinityJSON, Name: c.path})
		if got := jsonText([]byte(c.doc), s.Name); string(got) != c.want {
			t.Errorf("%s of %s: %q, want %q", c.path, c.doc, got, c.want)
		}
	}
}

// FuzzJSONText: whatever a client sends, nothing breaks.
func FuzzJSONText(f *testing.F) {
	for _, doc := range []string{`{"parameters":{"user_id":"u\u00`, `{"parameters":{"user_id":"\ud83d\ude00"}}`, `[[[[{"parameters"`, `{"parameters" "user_id":`, "{\"parameters\":{\"user_id\":\"\xff"} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if text := jsonText(doc, "parameters.user_id"); len(text) > len(doc) {
			t.Errorf("%q of %q", text, doc)
		}
	})
}
