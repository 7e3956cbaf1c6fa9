package config

import (
	"bytes"
	"encoding/json"

	"go.yaml.in/yaml/v4"
)

// Render writes the configuration in force as YAML in the shape of the file, with every
// default filled in and every variable replaced. Parse gives the same configuration back.
func Render(c *Config) ([]byte, error) {
	return yaml.Dump(fileShape().encode(c), yaml.WithIndent(2), yaml.WithLineWidth(-1))
}

// RenderJSON is Render as JSON; keys keep the order of the file.
func RenderJSON(c *Config) ([]byte, error) {
	var raw, out bytes.Buffer
	writeJSON(&raw, fileShape().encode(c))
	if err := json.Indent(&out, raw.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// writeJSON writes a node that encode made. encoding/json would sort the keys, and the
// order of variants means something.
func writeJSON(out *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, n.Content[i])
			out.WriteByte(':')
			writeJSON(out, n.Content[i+1])
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			writeJSON(out, c)
		}
		out.WriteByte(']')
	default:
		text, _ := json.Marshal(jsonValue(n)) // of a scalar: cannot fail
		out.Write(text)
	}
}

// jsonList is a list of scalars as encoding/json wants it.
func jsonList(n *yaml.Node) []any {
	values := make([]any, len(n.Content))
	for i, c := range n.Content {
		values[i] = jsonValue(c)
	}
	return values
}

// jsonValue is a scalar node as encoding/json wants it.
func jsonValue(n *yaml.Node) any {
	switch n.Tag {
	case "!!str":
		return n.Value
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	return json.Number(n.Value)
}
