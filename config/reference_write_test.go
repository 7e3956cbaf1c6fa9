package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v4"
)

// writeReference renders the example with every default, and puts the texts of the key table
// before the first appearance of each key.
func writeReference(t *testing.T) string {
	t.Helper()
	c, err := Parse("", []byte(referenceExample)) // without a name paths stay relative
	if err != nil {
		t.Fatal(err)
	}
	keys, root := tableKeys(t), fileShape().encode(c)
	seen := map[string]bool{}
	walkKeys(root, "", func(path string, name, value *yaml.Node) {
		if keys[path] == nil || keys[path]["description"] == nil || seen[path] {
			return
		}
		seen[path] = true
		text := fmt.Sprint(keys[path]["description"])
		if standard, ok := keys[path]["default"]; ok {
			text += " Default: " + standardText(standard) + "."
		}
		if required(t, path) {
			text += " Required."
		}
		name.HeadComment = comment(text, 96-2*strings.Count(path, "."))
	})
	tidy(root, "", keys)
	body, err := yaml.Dump(root, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		t.Fatal(err)
	}
	return referenceHead + spaced(string(body))
}

// required reports whether the object that has the key demands it.
func required(t *testing.T, path string) bool {
	t.Helper()
	parent, name := "", path
	if i := strings.LastIndex(path, "."); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	for _, object := range objects(t, parent) {
		if names, _ := object["required"].([]any); slices.Contains(names, any(name)) {
			return true
		}
	}
	return false
}

// schemaOfTests is the schema, made once: it takes a while. It is shared: do not change it.
var schemaOfTests = sync.OnceValues(func() (s schema, err error) {
	err = json.Unmarshal(Schema(), &s)
	return s, err
})

// objects returns the schemas that may describe the object at a path.
func objects(t *testing.T, path string) []schema {
	t.Helper()
	s, err := schemaOfTests()
	if err != nil {
		t.Fatal(err)
	}
	for step := range strings.SplitSeq(path, ".") {
		name, items := strings.CutSuffix(step, "[]")
		switch {
		case name == "":
		case name == "*":
			s = s["additionalProperties"].(schema)
		default:
			s = properties(s)[name]
		}
		if items {
			s = s["items"].(schema)
		}
	}
	found := []schema{s}
	alternatives, _ := s["anyOf"].([]any)
	for _, alternative := range alternatives {
		found = append(found, alternative.(schema))
	}
	return found
}

// tidy leaves out what was shown before and is only the default again, and gives a mapping
// that has comments inside a line for each key.
func tidy(n *yaml.Node, path string, keys map[string]schema) {
	if n.Kind == yaml.SequenceNode {
		for _, c := range n.Content {
			tidy(c, path+"[]", keys)
		}
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	var kept []*yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := join(path, name.Value)
		if path == "pools" || path == "routes[].rate_limit.tiers" {
			at = path + ".*"
		}
		tidy(value, at, keys)
		if name.HeadComment != "" {
			n.Style = 0
		} else if standard, ok := keys[at]["default"]; ok && valueText(value) == standardText(standard) {
			continue
		} else if at == "routes[].affinity.salt" || at == "routes[].priority" && value.Kind == yaml.ScalarNode || value.Kind == yaml.MappingNode && len(value.Content) == 0 {
			continue
		}
		kept = append(kept, name, value)
	}
	n.Content = kept
}

// standardText is a default of the schema as a file has it, on one line.
func standardText(standard any) string {
	items, ok := standard.([]any)
	if !ok {
		return fmt.Sprint(standard)
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = inline(textNode(fmt.Sprint(item)))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// valueText is a value as standardText has its default.
func valueText(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	return inline(n)
}

func comment(text string, width int) string {
	var out strings.Builder
	length := 0
	for _, word := range strings.Fields(text) {
		if length > 0 && length+1+len(word) > width {
			out.WriteString("\n")
			length = 0
		}
		if length == 0 {
			out.WriteString("#")
			length = 1
		}
		out.WriteString(" " + word)
		length += 1 + len(word)
	}
	return out.String()
}

// spaced puts an empty line before each section.
func spaced(body string) string {
	var out strings.Builder
	before := "#"
	for line := range strings.Lines(body) {
		if line[0] == '#' && before[0] != '#' {
			out.WriteString("\n")
		}
		out.WriteString(line)
		before = line
	}
	return out.String()
}
