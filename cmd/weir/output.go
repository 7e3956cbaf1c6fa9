package main

import (
	"encoding/json"
	"fmt"
	"io"

	"go.yaml.in/yaml/v4"
)

// print writes v to stdout as --output asks for; text writes it for people.
func (c *cli) print(v any, text func(io.Writer)) error {
	switch c.output {
	case "json":
		return writeJSON(c.stdout, v)
	case "yaml":
		return writeYAML(c.stdout, v)
	}
	text(c.stdout)
	return nil
}

func writeJSON(w io.Writer, v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", out)
	return err
}

// writeYAML goes by way of JSON, so that both have the same names in the same order.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Load(text, &node); err != nil {
		return err
	}
	plain(&node)
	out, err := yaml.Dump(&node, yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// plain forgets the braces and quotes of JSON; what needs quotes in YAML gets them again.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}

// jsonOf is YAML, of which JSON is a part, as JSON.
func jsonOf(text []byte) ([]byte, error) {
	var v map[string]any
	if err := yaml.Load(text, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}
