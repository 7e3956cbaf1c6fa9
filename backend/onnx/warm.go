package onnx

import (
	"fmt"
	"slices"

	"weir/backend/tensor"
)

// warm runs the model once on zeros, with every free dimension 1. It settles what only a run
// can tell: which outputs have no dimensions, and the columns of sequences of maps. A failure is
// err when one row of zeros is surely valid (one input, at most its first dimension free), and
// warning when the model may be right to refuse it.
//
// It is called once, before the model is used by others: it changes what they only read.
func (m *Model) warm() (warning, err error) {
	inputs := make([]tensor.Tensor, len(m.signature.Inputs))
	for i, spec := range m.signature.Inputs {
		if inputs[i], err = zeros(spec); err != nil {
			return nil, err
		}
	}
	outputs, columns, err := m.run(inputs, nil)
	if guessed := m.guessSingles(err); guessed != nil {
		if outputs, columns, err = m.run(inputs, nil); err != nil {
			for _, o := range guessed {
				o.kind = allocated
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("its first run, on zeros, failed: %w", err)
		if m.zerosAreValid() {
			return nil, err
		}
		return err, nil
	}
	for i := range m.outputs {
		spec := &m.outputs[i].spec
		if columns[i] != nil {
			spec.Type, spec.Columns = outputs[i].Type, columns[i]
			spec.Shape = []int64{-1, int64(len(columns[i]))}
		}
		m.signature.Outputs[i] = *spec
	}
	return nil, nil
}

func zeros(spec tensor.Spec) (tensor.Tensor, error) {
	t := tensor.Tensor{Name: spec.Name, Type: spec.Type, Shape: slices.Clone(spec.Shape)}
	for i, d := range t.Shape {
		if d == -1 {
			t.Shape[i] = 1
		}
	}
	n, err := tensor.Elements(t.Shape)
	if err != nil {
		return t, fmt.Errorf("input %s: %w", spec.Name, err)
	}
	if spec.Type == tensor.Bytes {
		t.Strings = make([]string, n)
	} else {
		t.Data = make([]byte, n*int64(spec.Type.Size()))
	}
	return t, nil
}

// guessSingles takes the outputs of unknown shape to be single numbers when a run failed: for
// both, ONNX Runtime reports a shape without dimensions. It returns those it changed.
func (m *Model) guessSingles(failure error) (guessed []*output) {
	for i := range m.outputs {
		o := &m.outputs[i]
		if failure != nil && o.kind == allocated && len(o.spec.Shape) == 0 && o.spec.Type != tensor.Bytes {
			o.kind = single
			guessed = append(guessed, o)
		}
	}
	return guessed
}

func (m *Model) zerosAreValid() bool {
	if len(m.signature.Inputs) != 1 {
		return false
	}
	shape := m.signature.Inputs[0].Shape
	return len(shape) > 0 && slices.Index(shape[1:], -1) < 0
}
