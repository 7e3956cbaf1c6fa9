package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// substitute replaces the variables in every scalar value below n. It works on the parsed
// tree, so that what a variable holds is always one value and never YAML.
func (d *decoder) substitute(n *yaml.Node, at *step, lookup func(string) (string, bool)) {
	for below, value := range at.below(n) {
		d.substitute(value, below, lookup)
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "$") {
		return
	}
	value, err := expand(n.Value, lookup)
	if err != nil {
		d.refused[n] = true
		d.faultAt(positionOf(n), at.key(), "%s", err)
		return
	}
	d.substituted[n] = value != n.Value
	n.Value = value
}

// expand replaces ${VAR}, ${VAR:-default}, ${VAR:?message} and $$ in s. Any other dollar
// sign is itself, because regular expressions end with one.
func expand(s string, lookup func(string) (string, bool)) (string, error) {
	var out strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			out.WriteString(s)
			return out.String(), nil
		}
		out.WriteString(s[:i])
		switch s = s[i+1:]; s[0] {
		case '$':
			out.WriteByte('$')
			s = s[1:]
		case '{':
			body, rest, closed := strings.Cut(s[1:], "}")
			if !closed {
				return "", fmt.Errorf("${%s has no closing brace; write ${VAR}, or $${ for a plain ${", clip(body))
			}
			value, err := variableValue(body, lookup)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			s = rest
		default:
			out.WriteByte('$')
		}
	}
}

// variableValue evaluates what stands between the braces. As in a shell, :- and :? treat
// an empty variable like an unset one.
func variableValue(body string, lookup func(string) (string, bool)) (string, error) {
	name, operand, _ := strings.Cut(body, ":")
	if !variableName(name) || (name != body && !strings.HasPrefix(operand, "-") && !strings.HasPrefix(operand, "?")) {
		return "", fmt.Errorf("${%s} is not understood; write ${VAR}, ${VAR:-default} or ${VAR:?message}, or $${ for a plain ${", clip(body))
	}
	if strings.Contains(operand, "${") {
		return "", fmt.Errorf("${%s} has a variable inside a variable, which is not supported", clip(body))
	}
	value, set := lookup(name)
	switch {
	case value != "" || set && name == body:
		return value, nil
	case strings.HasPrefix(operand, "-"):
		return operand[1:], nil
	case strings.HasPrefix(operand, "?") && len(operand) > 1:
		return "", fmt.Errorf("the environment variable %s is not set: %s", name, clip(operand[1:]))
	default:
		return "", fmt.Errorf("the environment variable %s is not set; set it, or write ${%s:-default}", name, name)
	}
}

func variableName(s string) bool {
	return s != "" && only(s, strings.TrimSuffix(keyLetters, "-")) && (s[0] < '0' || s[0] > '9')
}

// escapeVariables writes text so that expand gives it back.
func escapeVariables(s string) string {
	if !strings.Contains(s, "$$") && !strings.Contains(s, "${") {
		return s
	}
	var out strings.Builder
	for i := range len(s) {
		out.WriteByte(s[i])
		if s[i] == '$' && i+1 < len(s) && (s[i+1] == '$' || s[i+1] == '{') {
			out.WriteByte('$')
		}
	}
	return out.String()
}
