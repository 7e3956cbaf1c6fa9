package config

import (
	"iter"

	"go.yaml.in/yaml/v4"
)

// step is the last step of the way to a node, for walks that need the key of few of the nodes
// they pass. nil is the way to the root.
type step struct {
	parent *step
	name   *yaml.Node // in a mapping; nil in a list
	index  int        // in a list
}

// key returns the path of the node.
func (s *step) key() string {
	switch {
	case s == nil:
		return ""
	case s.name != nil:
		return child(s.parent.key(), s.name.Value)
	default:
		return item(s.parent.key(), s.index)
	}
}

// below yields the values right below n, which s leads to, and the way to each; the way is only
// valid until the next one.
func (s *step) below(n *yaml.Node) iter.Seq2[*step, *yaml.Node] {
	return func(yield func(*step, *yaml.Node) bool) {
		at := step{parent: s}
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if at.name = n.Content[i]; !yield(&at, n.Content[i+1]) {
					return
				}
			}
		case yaml.SequenceNode:
			for i, c := range n.Content {
				if at.index = i; !yield(&at, c) {
					return
				}
			}
		}
	}
}
