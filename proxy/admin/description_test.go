package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// description is openapi.yaml.
type description struct {
	t        *testing.T
	root     map[string]any
	compiler *jsonschema.Compiler
}

func readDescription(t *testing.T) *description {
	t.Helper()
	var value any
	if err := yaml.Load(openAPIDocument, &value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d := &description{t: t, root: document.(map[string]any), compiler: jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi", document); err != nil {
		t.Fatal(err)
	}
	return d
}

// at is what a JSON pointer leads to, through references.
func (d *description) at(pointer string) map[string]any {
	d.t.Helper()
	var v any = d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		m, _ := v.(map[string]any)
		next, ok := m[part]
		if !ok {
			d.t.Fatalf("%s: there is no %s", pointer, part)
		}
		v = next
	}
	return d.followed(v)
}

func (d *description) followed(v any) map[string]any {
	m, _ := v.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		return d.at(ref)
	}
	return m
}

func pointer(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~", "~0"), "/", "~1")
	}
	return "#/" + strings.Join(parts, "/")
}

// check holds a value to the schema at a pointer, and says which of its keys that does not have.
func (d *description) check(what, at string, text []byte) {
	d.t.Helper()
	schema, err := d.compiler.Compile("openapi" + at)
	if err != nil {
		d.t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		d.t.Fatalf("%s: %v in %s", what, err, text)
	}
	if err := schema.Validate(value); err != nil {
		d.t.Errorf("%s: %v\n%s", what, err, text)
	}
	d.known(what, d.at(at), value)
}

// known checks that every key of a value is a property.
func (d *description) known(what string, schema map[string]any, value any) {
	d.t.Helper()
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			d.known(fmt.Sprint(what, "[", i, "]"), d.followed(schema["items"]), item)
		}
	case map[string]any:
		properties, closed := schema["properties"].(map[string]any)
		for key, item := range v {
			if property, ok := properties[key]; ok {
				d.known(what+"."+key, d.followed(property), item)
			} else if closed {
				d.t.Errorf("%s has the key %q, which the schema has not", what, key)
			}
		}
	}
}

func (d *description) operations() map[string]map[string]any {
	all := map[string]map[string]any{}
	for path, item := range d.root["paths"].(map[string]any) {
		for method, o := range item.(map[string]any) {
			all[strings.ToUpper(method)+" "+path] = o.(map[string]any)
		}
	}
	return all
}

// schemaOf is the pointer to the schema of an answer in JSON. All have names, for the clients that are
// generated.
func (d *description) schemaOf(answer map[string]any) string {
	d.t.Helper()
	schema := d.followed(answer["content"])["application/json"].(map[string]any)["schema"].(map[string]any)
	ref, ok := schema["$ref"].(string)
	if !ok {
		d.t.Fatalf("a schema without a name: %v", schema)
	}
	return ref
}
