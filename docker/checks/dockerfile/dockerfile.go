// Package dockerfile reads the Dockerfiles of this repository, as far as they go: no heredocs, no ONBUILD, no SHELL, and
// the escape is the backslash. What it does not know is an error, so that nothing is overlooked.
package dockerfile

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Instruction is one instruction, its continuation lines joined.
type Instruction struct {
	Line  int    // where it begins, from 1
	Name  string // upper case
	Flags map[string][]string
	Args  string // what follows the flags, as it stands there
}

// Stage is what is between two FROM.
type Stage struct {
	Line         int
	Name         string // after AS, else ""
	From         string // as it stands there, with variables
	Platform     string
	Instructions []Instruction // without FROM
}

// File is a Dockerfile.
type File struct {
	Args   []Instruction // before the first FROM
	Stages []Stage
}

// instructions that may stand in a stage.
var known = []string{"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER", "WORKDIR"}

// Parse reads a Dockerfile.
func Parse(text string) (*File, error) {
	file := &File{}
	begin, joined := 0, ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue // also between continuation lines
		}
		if joined == "" {
			begin = i + 1
		}
		rest, more := strings.CutSuffix(line, `\`)
		if joined += rest; more {
			continue
		}
		in, err := instruction(begin, joined)
		if err == nil {
			err = file.add(in)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", begin, err)
		}
		joined = ""
	}
	if joined != "" {
		return nil, fmt.Errorf("line %d: the file ends in the middle of an instruction", begin)
	}
	if len(file.Stages) == 0 {
		return nil, fmt.Errorf("there is no FROM")
	}
	return file, nil
}

// Load reads the Dockerfile at path.
func Load(path string) (*File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

func instruction(line int, text string) (Instruction, error) {
	name, rest, _ := strings.Cut(text, " ")
	in := Instruction{Line: line, Name: strings.ToUpper(name), Flags: map[string][]string{}}
	rest = strings.TrimSpace(rest)
	for in.Name != "CMD" && in.Name != "ENTRYPOINT" && strings.HasPrefix(rest, "--") {
		flag, after, _ := strings.Cut(rest, " ")
		key, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		in.Flags[key] = append(in.Flags[key], value)
		rest = strings.TrimSpace(after)
	}
	in.Args = rest
	if strings.Contains(rest, "<<") {
		return in, fmt.Errorf("a heredoc, which this reader does not know")
	}
	return in, nil
}

func (f *File) add(in Instruction) error {
	switch {
	case in.Name == "FROM":
		words := strings.Fields(in.Args)
		stage := Stage{Line: in.Line, Platform: strings.Join(in.Flags["platform"], "")}
		switch {
		case len(words) == 3 && strings.EqualFold(words[1], "AS"):
			stage.From, stage.Name = words[0], words[2]
		case len(words) == 1:
			stage.From = words[0]
		default:
			return fmt.Errorf("FROM %s: want IMAGE [AS NAME]", in.Args)
		}
		f.Stages = append(f.Stages, stage)
	case len(f.Stages) == 0 && in.Name == "ARG":
		f.Args = append(f.Args, in)
	case len(f.Stages) == 0:
		return fmt.Errorf("%s before the first FROM", in.Name)
	case !slices.Contains(known, in.Name):
		return fmt.Errorf("%s, which this reader does not know", in.Name)
	default:
		last := &f.Stages[len(f.Stages)-1]
		last.Instructions = append(last.Instructions, in)
	}
	return nil
}

// Stage finds a stage by its name; "" is the last one, which is what is built when no target is given.
func (f *File) Stage(name string) (*Stage, bool) {
	if name == "" {
		return &f.Stages[len(f.Stages)-1], true
	}
	for i := range f.Stages {
		if f.Stages[i].Name == name {
			return &f.Stages[i], true
		}
	}
	return nil, false
}

// Image is what the stage is built upon, with the variables of the file's head at their defaults. own tells that it is
// another stage of the file.
func (f *File) Image(s *Stage) (image string, own bool) {
	defaults := map[string]string{}
	for _, arg := range f.Args {
		name, value, _ := strings.Cut(arg.Args, "=")
		defaults[name] = value
	}
	image = os.Expand(s.From, func(name string) string { return defaults[name] })
	_, own = f.Stage(image)
	return image, own && image != ""
}

// Last returns the last instruction of that name, which is the one that holds.
func (s *Stage) Last(name string) (Instruction, bool) {
	for _, in := range slices.Backward(s.Instructions) {
		if in.Name == name {
			return in, true
		}
	}
	return Instruction{}, false
}

// Words is the exec form of an instruction (["a", "b"]); ok is false for the shell form, which needs a shell that the
// images of this repository do not have.
func (in Instruction) Words() (words []string, ok bool) {
	args := in.Args
	if in.Name == "HEALTHCHECK" {
		args = strings.TrimSpace(strings.TrimPrefix(args, "CMD"))
	}
	return words, json.Unmarshal([]byte(args), &words) == nil
}

// Copies splits the arguments of COPY and ADD: the last is where to.
func (in Instruction) Copies() (sources []string, to string, err error) {
	words := strings.Fields(in.Args)
	if len(words) < 2 || strings.HasPrefix(words[0], "[") {
		return nil, "", fmt.Errorf("line %d: %s %s: want SOURCE… TARGET", in.Line, in.Name, in.Args)
	}
	return words[:len(words)-1], words[len(words)-1], nil
}

// Pairs are the assignments of ARG, ENV and LABEL: NAME=VALUE, the value in double quotes where it has blanks. A name
// without a value has none in the map's value, and is told apart by given.
func (in Instruction) Pairs() (pairs []Pair, err error) {
	for rest := in.Args; rest != ""; rest = strings.TrimSpace(rest) {
		end := strings.IndexAny(rest, "= ")
		if end < 0 || rest[end] == ' ' {
			if in.Name != "ARG" {
				return nil, fmt.Errorf("line %d: %s %s: want NAME=VALUE", in.Line, in.Name, in.Args)
			}
			name, after, _ := strings.Cut(rest, " ")
			pairs, rest = append(pairs, Pair{Name: name}), after
			continue
		}
		name := rest[:end]
		rest = rest[end+1:]
		value := ""
		if strings.HasPrefix(rest, `"`) {
			quote := strings.Index(rest[1:], `"`)
			if quote < 0 {
				return nil, fmt.Errorf("line %d: %s %s: a quote is not closed", in.Line, in.Name, in.Args)
			}
			value, rest = rest[1:quote+1], rest[quote+2:]
		} else {
			value, rest, _ = strings.Cut(rest, " ")
		}
		pairs = append(pairs, Pair{Name: name, Value: value, Given: true})
	}
	return pairs, nil
}

// Pair is an assignment; Given is false for an ARG without a default.
type Pair struct {
	Name, Value string
	Given       bool
}
