package backend

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"weir/backend/tensor"
)

// Batching says how requests of one model are put together into one run. A request counts with its
// rows, the size of its first dimension; one of more rows than MaxBatch runs alone.
type Batching struct {
	// MaxBatch is how many rows a run has at most; up to 1, requests are not put together.
	MaxBatch int
	// MaxDelay is how long the first request of a batch waits for others while a worker is free.
	// With 0, the default, a run takes what waits already, and nobody waits for company.
	MaxDelay time.Duration
	// Preferred are sizes at which a batch runs without further delay. A run has the largest of
	// them that the requests in line add up to, or, once MaxDelay is over, whatever there is.
	Preferred []int
}

// Check refuses settings that contradict themselves.
func (b *Batching) Check() error {
	switch {
	case b.MaxBatch < 0:
		return fmt.Errorf("max_batch is %d; want 1 (no batching) or more", b.MaxBatch)
	case b.MaxDelay < 0:
		return fmt.Errorf("max_delay is %v; want 0s or more", b.MaxDelay)
	case b.MaxBatch < 2 && (b.MaxDelay > 0 || len(b.Preferred) > 0):
		return errors.New("max_delay and preferred say when a batch runs, but without a max_batch of at least 2 there is none")
	}
	for _, n := range b.Preferred {
		if n < 1 || n > b.MaxBatch {
			return fmt.Errorf("the preferred size %d is not within 1 to max_batch, %d", n, b.MaxBatch)
		}
	}
	return nil
}

// Serving says how the requests of one model are run. The zero value has the defaults.
type Serving struct {
	// Batching; nil is Options.Batching where the model can be batched.
	Batching *Batching
	// Instances is how many runs of the model there are at once, default as many as workers.
	Instances int
	// Queue is how many of its requests may wait, default Options.Queue, which bounds those of all
	// models together in any case.
	Queue int
	// Priorities is how many levels of priority there are, 1 the highest; default 1. Of a level
	// nothing runs while a request of a higher one waits; when the queue is full, a request of a
	// higher level takes the place of the last of the lowest.
	Priorities int
	// Priority is the level of requests that name none, default the middle one.
	Priority int
}

// Check refuses settings that contradict themselves.
func (s *Serving) Check() error {
	if s.Batching != nil {
		if err := s.Batching.Check(); err != nil {
			return err
		}
	}
	const mostPriorities = 100
	switch {
	case s.Instances < 0 || s.Queue < 0:
		return fmt.Errorf("instances is %d and queue %d; want 0 (the default) or more", s.Instances, s.Queue)
	case s.Priorities < 0 || s.Priorities > mostPriorities:
		return fmt.Errorf("priorities is %d; want 1 to %d levels", s.Priorities, mostPriorities)
	case s.Priority < 0 || s.Priority > max(s.Priorities, 1):
		return fmt.Errorf("priority is %d; want a level of 1 to %d", s.Priority, max(s.Priorities, 1))
	}
	return nil
}

// settle replaces defaults by what they stand for. A model that cannot be batched may not be told to be.
func (s Serving) settle(o *Options, sig *tensor.Signature) (Serving, error) {
	if s.Batching == nil {
		s.Batching = &Batching{MaxBatch: 1}
		if batchable(sig) == nil {
			s.Batching = &o.Batching
		}
	} else if s.Batching.MaxBatch > 1 {
		if err := batchable(sig); err != nil {
			return s, fmt.Errorf("it cannot be batched: %w; leave max_batch at 1", err)
		}
	}
	if s.Instances == 0 || s.Instances > o.Workers {
		s.Instances = o.Workers
	}
	if s.Queue == 0 {
		s.Queue = o.Queue
	}
	s.Priorities = max(s.Priorities, 1)
	if s.Priority == 0 {
		s.Priority = (s.Priorities + 1) / 2
	}
	return s, nil
}

// batchable says why requests to a model cannot be put together: all its inputs and outputs must begin with a
// dimension of any size.
func batchable(sig *tensor.Signature) error {
	if len(sig.Inputs) == 0 {
		return errors.New("it has no inputs")
	}
	for _, specs := range [][]tensor.Spec{sig.Inputs, sig.Outputs} {
		for _, spec := range specs {
			if len(spec.Shape) == 0 || spec.Shape[0] != -1 {
				return fmt.Errorf("the first dimension of %s is not free", spec)
			}
		}
	}
	return nil
}

// rowsOf is how many rows a request has that may be put together with others; 0 when its inputs
// differ in that.
func rowsOf(inputs []tensor.Tensor) int {
	for i := range inputs {
		if len(inputs[i].Shape) == 0 || inputs[i].Shape[0] != inputs[0].Shape[0] {
			return 0
		}
	}
	return int(inputs[0].Shape[0])
}

// sameRows says whether the rows of two requests to one model have the same form.
func sameRows(a, b []tensor.Tensor) bool {
	for i := range a {
		if !slices.Equal(a[i].Shape[1:], b[i].Shape[1:]) {
			return false
		}
	}
	return true
}

// join puts the rows of the requests one below the other.
func join(requests [][]tensor.Tensor) []tensor.Tensor {
	joined := slices.Clone(requests[0])
	for i := range joined {
		t := &joined[i]
		t.Shape = slices.Clone(t.Shape)
		t.Shape[0] = 0
		size, elements := 0, 0
		for _, r := range requests {
			t.Shape[0] += r[i].Shape[0]
			size += len(r[i].Data)
			elements += len(r[i].Strings)
		}
		t.Data, t.Strings = make([]byte, 0, size), make([]string, 0, elements)
		for _, r := range requests {
			t.Data = append(t.Data, r[i].Data...)
			t.Strings = append(t.Strings, r[i].Strings...)
		}
	}
	return joined
}

// split undoes join for the outputs of a run: it gives part as many rows of each output as the
// parts say. The parts share the outputs' memory. It is an error when an output has another
// number of rows than the parts together.
func split(outputs []tensor.Tensor, parts []int) ([][]tensor.Tensor, error) {
	rows := 0
	for _, n := range parts {
		rows += n
	}
	for i := range outputs {
		if t := &outputs[i]; len(t.Shape) == 0 || t.Shape[0] != int64(rows) || t.Len()%rows != 0 {
			return nil, fmt.Errorf("output %s is %s%s for %d rows", t.Name, t.Type, tensor.ShapeString(t.Shape), rows)
		}
	}
	all := make([][]tensor.Tensor, len(parts))
	from := 0
	for p, n := range parts {
		all[p] = slices.Clone(outputs)
		for i := range all[p] {
			t := &all[p][i]
			t.Shape = slices.Clone(t.Shape)
			t.Shape[0] = int64(n)
			if t.Type == tensor.Bytes {
				row := len(t.Strings) / rows
				t.Strings = t.Strings[from*row : (from+n)*row : (from+n)*row]
			} else {
				row := len(t.Data) / rows
				t.Data = t.Data[from*row : (from+n)*row : (from+n)*row]
			}
		}
		from += n
	}
	return all, nil
}
