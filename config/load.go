package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const (
	// MaxFile is the largest file that is read, in bytes. It bounds what a file can cost to refuse.
	MaxFile = 1 << 20
	// maxDepth is how deep values may be nested; the keys of weir.yaml need 6.
	maxDepth = 32
)

// Load reads, decodes and checks a file. It takes ${VAR} from the environment. The error
// is of type Faults and holds everything that is wrong with the file.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Faults{{File: path, Message: err.Error()}}
	}
	return Parse(path, data)
}

// Parse is Load for the content of a file. The name is used in faults, and its directory
// is what relative paths are resolved against; with an empty name they stay as they are.
func Parse(name string, data []byte) (*Config, error) {
	return parse(name, data, os.LookupEnv)
}

// ParseRendered reads what Render or RenderJSON wrote: it may be longer than a file, since it has all
// that a file leaves out, and has no variables. Paths stay as they are.
func ParseRendered(data []byte) (*Config, error) {
	return parseUpTo(len(data), "", data, func(string) (string, bool) { return "", false })
}

func parse(name string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	return parseUpTo(MaxFile, name, data, lookup)
}

func newDecoder(name string, most int) *decoder {
	return &decoder{report: newReport(name), most: most, substituted: map[*yaml.Node]bool{}, refused: map[*yaml.Node]bool{}}
}

func parseUpTo(most int, name string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	d := newDecoder(name, most)
	root := d.document(data)
	if root == nil {
		return nil, d.err()
	}
	d.checkStructure(root, nil)
	d.substitute(root, nil, lookup)

	c := DefaultConfig()
	c.File = name
	read(d, shape[Config](fileShape()), root, "", &c)
	deriveDefaults(d.report, &c)
	validate(d.report, &c)
	if err := d.err(); err != nil {
		return nil, err
	}
	resolvePaths(&c)
	return &c, nil
}

// readFile reads a file of at most MaxFile bytes; one byte more is enough to refuse it.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, MaxFile+1)); err == nil {
			return data, nil
		}
	}
	reason := err
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		reason = cause.Err
	}
	return nil, fmt.Errorf("cannot be read: %w", reason)
}

// document returns the root of the only document in data, nil when there is a fault.
func (d *decoder) document(data []byte) *yaml.Node {
	if !d.checkText(data) {
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		d.fault("", "cannot be read as YAML: %s", err)
		return nil
	}
	var first, second yaml.Node
	switch err := loader.Load(&first); {
	case errors.Is(err, io.EOF):
		d.faultEmpty(position{1, 1})
		return nil
	case err != nil:
		d.faultSyntax(err, data)
		return nil
	}
	switch err := loader.Load(&second); {
	case err == nil:
		d.faultAt(positionOf(&second), "", "a second document begins here; a file has exactly one: remove the --- or the rest")
		return nil
	case !errors.Is(err, io.EOF):
		d.faultSyntax(err, data)
		return nil
	}
	if len(first.Content) != 1 || first.Content[0].ShortTag() == "!!null" {
		d.faultEmpty(positionOf(&first))
		return nil
	}
	return first.Content[0]
}

func (d *decoder) faultEmpty(at position) {
	d.faultAt(at, "", "the file is empty; it needs at least listeners, pools and routes")
}

// checkText refuses what is no text before the YAML reader, which gives no place for it, sees it.
func (d *decoder) checkText(data []byte) bool {
	if len(data) > d.most {
		d.faultAt(position{1, 1}, "", "the file is larger than %s, the most that is read", Size(d.most))
		return false
	}
	at := position{1, 1}
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			d.faultAt(at, "", "byte 0x%02x is not UTF-8; save the file as UTF-8", rest[0])
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r':
			d.faultAt(at, "", "control character 0x%02x; remove it", r)
			return false
		}
		at.column++
		if r == '\n' {
			at = position{at.line + 1, 1}
		}
		rest = rest[size:]
	}
	return true
}

// faultSyntax records what the YAML reader says, with a hint where the cause is a known trap.
func (d *decoder) faultSyntax(err error, data []byte) {
	at, message := position{1, 1}, err.Error()
	if cause := (*yaml.LoadError)(nil); errors.As(err, &cause) {
		message = cause.Message
		if cause.ContextMsg != "" {
			message += " " + cause.ContextMsg
		}
		mark := cause.Mark
		if strings.Contains(message, "end of stream") && cause.ContextMark.Line > 0 {
			mark = cause.ContextMark // where it was opened says more than where the file ends
		}
		if mark.Line > 0 {
			at = position{mark.Line, max(mark.Column, 1)}
		}
	}
	d.faultAt(at, "", "not valid YAML: %s%s", message, syntaxHint(message, lineOf(data, at.line)))
}

func syntaxHint(message, line string) string {
	switch {
	case strings.Contains(message, "anchor") || strings.Contains(message, "alias"):
		return "; anchors and aliases (& and *) are not supported: write the value out, or put it in quotes"
	case strings.Contains(message, "quoted scalar"):
		return "; close the quote"
	case strings.Contains(message, "max depth"):
		return "; weir.yaml never needs that: look for brackets that are not closed"
	case strings.HasPrefix(strings.TrimLeft(line, " "), "\t"):
		return "; indent with spaces, not with tabs"
	case strings.Contains(line, "${") && strings.ContainsAny(line, "[{"):
		return `; inside [ ] and { } put a variable in quotes, as in "${VAR}"`
	case strings.Contains(message, "mapping values are not allowed"), strings.Contains(message, "did not find expected key"):
		return "; check the indentation, and put a value that has a colon and a blank in quotes"
	}
	return ""
}

func lineOf(data []byte, number int) string {
	for line := range bytes.Lines(data) {
		if number--; number == 0 {
			return string(line)
		}
	}
	return ""
}

// checkStructure refuses the parts of YAML that weir.yaml does without: they make files
// that are larger, or other, than they look.
func (d *decoder) checkStructure(n *yaml.Node, at *step) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.refused[n] = true
		d.faultAt(positionOf(n), at.key(), "aliases (*%s) are not supported; write the value out", clip(n.Value))
		return
	case n.Anchor != "":
		d.faultAt(positionOf(n), at.key(), "anchors (&%s) are not supported; leave it out and repeat the value where it is needed", clip(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.refused[n] = true
		d.faultAt(positionOf(n), at.key(), "tags (%s) are not supported; leave it out", clip(n.Tag))
	}
	for below, value := range at.below(n) {
		if name := below.name; name != nil && (name.Anchor != "" || name.Kind == yaml.AliasNode) {
			d.faultAt(positionOf(name), at.key(), "anchors and aliases (& and *) are not supported; write the key out")
		}
		d.checkStructure(value, below)
	}
}

// resolvePaths makes paths independent of the working directory.
func resolvePaths(c *Config) {
	paths := []*string{&c.Admin.TokenFile, &c.State.File}
	if t := c.Admin.TLS; t != nil {
		paths = append(paths, &t.Cert, &t.Key)
	}
	switch c.Log.Access.Output {
	case AccessStdout, AccessStderr, AccessOff:
	default:
		paths = append(paths, &c.Log.Access.Output)
	}
	paths = append(paths, tlsPaths(c)...)
	for i := range c.Routes {
		paths = append(paths, authPaths(c.Routes[i].Auth)...)
		paths = append(paths, rolloutPaths(c.Routes[i].Rollout)...)
	}
	for _, path := range paths {
		if *path != "" {
			*path = besideFile(c.File, *path)
		}
	}
}

// authPaths are the files of an auth; the keys of tokens may be somewhere else.
func authPaths(a *Auth) (paths []*string) {
	if a == nil {
		return nil
	}
	if a.Basic != nil {
		paths = append(paths, &a.Basic.File)
	}
	if a.APIKey != nil {
		paths = append(paths, &a.APIKey.File)
	}
	if a.JWT != nil && !strings.Contains(a.JWT.JWKS, "://") {
		paths = append(paths, &a.JWT.JWKS)
	}
	return paths
}

// rolloutPaths are the files with what a rollout has to show to others.
func rolloutPaths(o *Rollout) (paths []*string) {
	if o == nil {
		return nil
	}
	for i := range o.Checks.Gates {
		if m := o.Checks.Gates[i].MLflow; m != nil {
			paths = append(paths, &m.TokenFile)
		}
	}
	if o.Analysis != nil {
		for i := range o.Analysis.Prometheus {
			paths = append(paths, &o.Analysis.Prometheus[i].TokenFile)
		}
	}
	return paths
}

// besideFile resolves a path against the directory of the file; without a file it stays as it is.
func besideFile(file, path string) string {
	if filepath.IsAbs(path) || file == "" {
		return path
	}
	path = filepath.Join(filepath.Dir(file), path)
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}
