package backend

import (
	"context"
	"fmt"
	"slices"

	"weir/backend/tensor"
)

// warmUp runs the model on zeros in each size of batch that it will often have, so that the first
// requests find its memory and kernels in place, and checks that the outputs can be split again. A
// runner has run one row when it is opened.
func (m *Model) warmUp() error {
	b := m.serving.Batching
	if b.MaxBatch < 2 {
		return nil
	}
	one, err := zeros(m.signature.Inputs, 1)
	if err != nil {
		return err
	}
	if _, err := m.runner.Run(context.Background(), one); err != nil {
		return nil // zeros are nothing to this model; a batch that fails runs request by request
	}
	sizes := append(slices.Clone(b.Preferred), b.MaxBatch)
	slices.Sort(sizes)
	for _, n := range slices.Compact(sizes) {
		inputs, err := zeros(m.signature.Inputs, int64(n))
		if err != nil {
			return err
		}
		outputs, err := m.runner.Run(context.Background(), inputs)
		if err == nil {
			_, err = split(outputs, []int{n})
		}
		if err != nil {
			return fmt.Errorf("a batch of %d rows of zeros failed: %w; leave max_batch at 1", n, err)
		}
	}
	return nil
}

// zeros are inputs of that many rows, with every other free dimension 1.
func zeros(specs []tensor.Spec, rows int64) ([]tensor.Tensor, error) {
	inputs := make([]tensor.Tensor, len(specs))
	for i, spec := range specs {
		t := tensor.Tensor{Name: spec.Name, Type: spec.Type, Shape: slices.Clone(spec.Shape)}
		for d := range t.Shape {
			if t.Shape[d] == -1 {
				t.Shape[d] = 1
			}
		}
		t.Shape[0] = rows
		n, err := tensor.Elements(t.Shape)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", spec.Name, err)
		}
		if spec.Type == tensor.Bytes {
			t.Strings = make([]string, n)
		} else {
			t.Data = make([]byte, n*int64(spec.Type.Size()))
		}
		inputs[i] = t
	}
	return inputs, nil
}
