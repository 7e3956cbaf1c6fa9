package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

func gatesShape() shape[[]Gate] {
	return list[Gate]{noun: "gate", most: 20, optional: true, fresh: DefaultGate, elem: object[Gate]{
		either: []string{"webhook", "command", "mlflow"},
		fields: []field[Gate]{
			key("webhook", urlShape("https://ci.example.com/release"), func(g *Gate) *string { return &g.Webhook },
				"A URL that gets, with POST, what is to be rolled out as JSON. A status from 200 to 299 agrees, unless the body is JSON with pass: false; its reason is shown."),
			key("command", list[string]{noun: "word", least: 1, most: 100, optional: true, fresh: func() string { return "" }, elem: scalar[string]{
				want: "a word", free: true, format: verbatim, body: textSchema,
				parse: func(s string) (string, error) {
					if strings.ContainsRune(s, 0) {
						return "", fmt.Errorf("%q has a zero byte, which no argument can have", clip(s))
					}
					return s, nil
				},
			}}, func(g *Gate) *[]string { return &g.Command },
				"A program and its arguments, without a shell, with WEIR_ROUTE, WEIR_FROM, WEIR_TO, WEIR_FROM_VERSION, WEIR_VERSION, WEIR_STRATEGY, WEIR_BY and WEIR_REASON in its environment. The exit status 0 agrees; what it prints last is shown."),
			key("mlflow", mlflowShape(), func(g *Gate) **MLflowGate { return &g.MLflow },
				"The model registry of MLflow: the version must be there, ready, and as good as metrics says."),
			key("timeout", durationShape(), func(g *Gate) *time.Duration { return &g.Timeout },
				"How long it may take, within the timeout of checks; then the rollout is aborted, and a command and all it started is killed."),
		}}}
}

func mlflowShape() shape[*MLflowGate] {
	text := func(want string) shape[string] {
		return scalar[string]{want: want, free: true, optional: true, parse: parseText, format: verbatim, body: textSchema}
	}
	return optional[MLflowGate]{fresh: func() (m MLflowGate) { return m }, inner: object[MLflowGate]{
		exclusive: []string{"version", "alias"},
		fields: []field[MLflowGate]{
			key("url", urlShape("http://mlflow.example.com:5000"), func(m *MLflowGate) *string { return &m.URL },
				"The tracking server.").must(),
			key("model", text("the name of a registered model"), func(m *MLflowGate) *string { return &m.Model },
				"The name of the registered model.").must(),
			key("version", derivedCountShape(), func(m *MLflowGate) *int { return &m.Version },
				"The number of its version. Absent, as is alias: the version of the new version's pool, as the file has it."),
			key("alias", text("an alias"), func(m *MLflowGate) *string { return &m.Alias },
				"The alias whose version it is, as in challenger. Absent: none."),
			key("metrics", named[MetricBound]{
				noun: "metric", fresh: func() MetricBound { return MetricBound{} }, name: func(b *MetricBound) *string { return &b.Name },
				check: func(s string) error { _, err := parseText(s); return err }, elem: metricBoundShape(),
			}, func(m *MLflowGate) *[]MetricBound { return &m.Metrics },
				"Metrics of the version's run, and what each has to be. One that is missing refuses. Absent: none are looked at."),
			key("set_alias", text("an alias"), func(m *MLflowGate) *string { return &m.SetAlias },
				"An alias, as in champion, that is moved to the version when the rollout has succeeded, and back where the version loses its requests again. Absent: none."),
			key("set_stage", unlessEmpty(choiceShape("stage", []string{"Staging", "Production"})), func(m *MLflowGate) *string { return &m.SetStage },
				"The same for a stage, which the version that was in it leaves meanwhile. MLflow has replaced stages by aliases. Absent: none."),
			key("token_file", pathShape(), func(m *MLflowGate) *string { return &m.TokenFile },
				"The path of a file with a bearer token, or with USER:PASSWORD. It is read at each use. Absent: no authentication."),
		}}}
}

// unlessEmpty leaves a choice out while nothing is chosen.
func unlessEmpty(s shape[string]) shape[string] {
	inner := s.(scalar[string])
	inner.optional = true
	return inner
}

// metricBoundShape is a bound such as ">= 0.9"; the name stands before it.
func metricBoundShape() shape[MetricBound] {
	const want = "a bound such as \">= 0.9\""
	return through[MetricBound, MetricBound]{
		inner: scalar[MetricBound]{
			want: want, format: MetricBound.String,
			parse: func(s string) (b MetricBound, err error) {
				rest := strings.TrimLeft(s, "<>=")
				b.Op = s[:len(s)-len(rest)]
				number := strings.TrimSpace(rest)
				b.Value, err = strconv.ParseFloat(number, 64)
				known := b.Op == ">=" || b.Op == ">" || b.Op == "<=" || b.Op == "<"
				if err != nil || !known || !plainNumber(number) {
					return b, fmt.Errorf("%q is no bound; write >=, >, <= or < and a number, as in \">= 0.9\"", clip(s))
				}
				return b, nil
			},
			body: func() schema {
				return orVariable(schema{"type": "string", "pattern": `^[<>]=? *-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`})
			},
		},
		get: func(b *MetricBound) MetricBound { return *b },
		set: func(b *MetricBound, read MetricBound) { b.Op, b.Value = read.Op, read.Value },
	}
}

// formsShape is a mapping from fields to what they have to be.
func formsShape() shape[[]Form] {
	return named[Form]{
		noun: "field", fresh: func() Form { return Form{} }, name: func(f *Form) *string { return &f.Path },
		check: checkFieldPath, elem: formShape{},
	}
}

// formShape is a word, or the dimensions of an array.
type formShape struct{}

func (formShape) word() shape[string] {
	return choiceShape("shape", []string{FormNumber, FormString, FormBoolean, FormObject, FormArray})
}

func (formShape) dims() shape[[]int] {
	return list[int]{noun: "length", least: 1, most: 16, fresh: func() int { return 0 }, elem: scalar[int]{
		want: "a length, or -1 for any", numeric: []string{"!!int"}, format: strconv.Itoa,
		parse: func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil || n < AnyLength || n > maxCount {
				return 0, fmt.Errorf("%q is no length; write a whole number, or -1 for any", clip(s))
			}
			return n, nil
		},
		body: func() schema { return orVariable(schema{"type": "integer", "minimum": AnyLength, "maximum": maxCount}) },
	}}
}

func (s formShape) decode(d *decoder, n *yaml.Node, key string, into *Form) {
	if n.Kind == yaml.SequenceNode {
		s.dims().decode(d, n, key, &into.Dims)
		return
	}
	s.word().decode(d, n, key, &into.Kind)
}

func (s formShape) encode(f *Form) *yaml.Node {
	if f.Kind != "" {
		return s.word().encode(&f.Kind)
	}
	return s.dims().encode(&f.Dims)
}

func (s formShape) schema(*Form) schema {
	var word string
	var dims []int
	return schema{"anyOf": []any{bare(s.word().schema(&word)), s.dims().schema(&dims)}}
}

func (s formShape) diff(d *differ, key string, old, next *Form) {
	d.add(key, inline(s.encode(old)), inline(s.encode(next)))
}
