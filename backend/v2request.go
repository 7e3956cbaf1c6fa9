package backend

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"weir/backend/tensor"
)

// inferRequest is the body of a V2 inference request.
type inferRequest struct {
	// id is echoed when hasID.
	id    string
	hasID bool
	// inputs in the request's order, complete but not yet compared with the model.
	inputs []tensor.Tensor
	// outputs asked for, none for all.
	outputs []requestedOutput
	// binaryOutput is the default for outputs that do not say.
	binaryOutput bool
	// priority and timeout are the parameters of these names, as Triton has them: a level from 1,
	// the highest, and microseconds. 0 without.
	priority int
	timeout  time.Duration
}

type requestedOutput struct {
	name string
	// binary: as the request says for this output, when it does (binarySet).
	binary, binarySet bool
}

// wireInput is an input while its object is being read: the keys may come in any order, and
// binary data comes after the JSON.
type wireInput struct {
	tensor     tensor.Tensor
	seen       keySet
	dataAt     int   // where its JSON data begins when it came before shape or datatype, else 0
	binarySize int64 // parameters.binary_data_size, -1 without
}

// keySet are the known keys that an object had so far.
type keySet uint8

const (
	keyName keySet = 1 << iota
	keyShape
	keyType
	keyData
	keyParameters
	keyOutputs
	keyInputs
	keyID
)

// add refuses a key given twice: parsers differ in which of the two counts.
func (k *keySet) add(key keySet, name string) error {
	if *k&key != 0 {
		return fmt.Errorf("the key %q is given twice", name)
	}
	*k |= key
	return nil
}

// parseInfer reads a body whose first jsonSize bytes are JSON, followed by the data of binary
// inputs in their order. Tensors may alias the body.
func parseInfer(body []byte, jsonSize int) (*inferRequest, error) {
	s := &scanner{data: body[:jsonSize]}
	r := &inferRequest{}
	var inputs []wireInput
	var seen keySet
	err := s.object(func(key []byte) (err error) {
		switch string(key) {
		case "id":
			if err = seen.add(keyID, "id"); err == nil {
				r.id, err = s.str()
				r.hasID = true
			}
			return within("id", err)
		case "inputs":
			if err = seen.add(keyInputs, "inputs"); err == nil {
				inputs, err = s.inputs()
			}
			return err
		case "outputs":
			if err = seen.add(keyOutputs, "outputs"); err == nil {
				r.outputs, err = s.outputs()
			}
			return err
		case "parameters":
			if err = seen.add(keyParameters, "parameters"); err == nil {
				err = s.requestParameters(r)
			}
			return err
		}
		return s.skip()
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, err
	}
	if len(inputs) == 0 {
		return nil, errors.New(`no "inputs"`)
	}
	if err := attachBinary(inputs, body[jsonSize:]); err != nil {
		return nil, err
	}
	for i := range inputs {
		r.inputs = append(r.inputs, inputs[i].tensor)
	}
	return r, nil
}

// maxTensors bounds the inputs and outputs of a request.
const maxTensors = 1024

// within puts where before an error.
func within(where string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

func (s *scanner) inputs() (inputs []wireInput, err error) {
	err = s.array(func(i int) error {
		if i == maxTensors {
			return s.errorf("more than %d inputs", maxTensors)
		}
		in, err := s.input()
		if err != nil {
			name := ""
			if in.tensor.Name != "" {
				name = fmt.Sprintf(" (%s)", in.tensor.Name)
			}
			return fmt.Errorf("inputs[%d]%s: %w", i, name, err)
		}
		inputs = append(inputs, in)
		return nil
	})
	return inputs, err
}

func (s *scanner) input() (wireInput, error) {
	in := wireInput{binarySize: -1}
	err := s.object(func(key []byte) error { return s.inputMember(&in, string(key)) })
	if err != nil {
		return in, err
	}
	for _, k := range []struct {
		key  keySet
		name string
	}{{keyName, "name"}, {keyShape, "shape"}, {keyType, "datatype"}} {
		if in.seen&k.key == 0 {
			return in, fmt.Errorf("no %q", k.name)
		}
	}
	switch {
	case in.seen&keyData == 0 && in.binarySize < 0:
		return in, errors.New(`no "data" and no parameters.binary_data_size`)
	case in.seen&keyData != 0 && in.binarySize >= 0:
		return in, errors.New(`both "data" and parameters.binary_data_size`)
	case in.dataAt > 0:
		late := scanner{data: s.data, pos: in.dataAt}
		return in, within("data", late.tensorData(&in.tensor))
	}
	return in, nil
}

func (s *scanner) inputMember(in *wireInput, key string) (err error) {
	switch key {
	case "name":
		if err = in.seen.add(keyName, key); err == nil {
			in.tensor.Name, err = s.str()
		}
	case "shape":
		if err = in.seen.add(keyShape, key); err == nil {
			in.tensor.Shape, err = s.shape()
		}
	case "datatype":
		if err = in.seen.add(keyType, key); err == nil {
			in.tensor.Type, err = s.datatype()
		}
	case "parameters":
		if err = in.seen.add(keyParameters, key); err == nil {
			in.binarySize, err = s.binarySize()
		}
		return err
	case "data":
		if err = in.seen.add(keyData, key); err != nil {
			return err
		}
		if in.seen&keyShape == 0 || in.seen&keyType == 0 {
			in.dataAt = s.pos
			return s.skip()
		}
		err = s.tensorData(&in.tensor)
	default:
		return s.skip()
	}
	return within(key, err)
}

// maxRank bounds the dimensions of a shape.
const maxRank = 32

func (s *scanner) shape() ([]int64, error) {
	shape := []int64{}
	err := s.array(func(i int) error {
		if i == maxRank {
			return s.errorf("more than %d dimensions", maxRank)
		}
		d, err := s.integer()
		if err == nil && d <= 0 {
			err = s.errorf("dimension %d is %d; want at least 1", i, d)
		}
		shape = append(shape, d)
		return err
	})
	return shape, err
}

func (s *scanner) datatype() (tensor.Type, error) {
	name, err := s.str()
	if err != nil {
		return tensor.Invalid, err
	}
	return tensor.ParseType(name)
}

// parameters reads an object of parameters and calls known for those of the name; others are
// passed over, as the protocol has it.
func (s *scanner) parameters(name string, known func() error) error {
	return s.someParameters(func(key string) (func() error, keySet) {
		if key == name {
			return known, 1
		}
		return nil, 0
	})
}

// someParameters reads an object of parameters; known is what reads the one of a name, and a bit
// of its own, or nil.
func (s *scanner) someParameters(known func(name string) (func() error, keySet)) error {
	var seen keySet
	return within("parameters", s.object(func(key []byte) error {
		name := string(key)
		read, bit := known(name)
		if read == nil {
			return s.skip()
		}
		if err := seen.add(bit, name); err != nil {
			return err
		}
		return within(name, read())
	}))
}

// requestParameters reads the parameters of a request.
func (s *scanner) requestParameters(r *inferRequest) error {
	number := func(set func(int64) error) func() error {
		return func() error {
			n, err := s.integer()
			if err == nil {
				err = set(n)
			}
			return err
		}
	}
	return s.someParameters(func(name string) (func() error, keySet) {
		switch name {
		case "binary_data_output":
			return func() (err error) { r.binaryOutput, err = s.boolean(); return err }, 1
		case "priority":
			return number(r.setPriority), 2
		case "timeout":
			return number(r.setTimeout), 4
		}
		return nil, 0
	})
}

func (r *inferRequest) setPriority(level int64) error {
	if level < 0 || level > math.MaxInt32 {
		return fmt.Errorf("it is %d; want a level from 1, the highest, or 0 for the model's default", level)
	}
	r.priority = int(level)
	return nil
}

func (r *inferRequest) setTimeout(microseconds int64) error {
	if microseconds < 0 {
		return fmt.Errorf("it is %d; want microseconds", microseconds)
	}
	r.timeout = time.Duration(min(microseconds, longestTimeout.Microseconds())) * time.Microsecond
	return nil
}

func (s *scanner) binarySize() (size int64, err error) {
	size = -1
	err = s.parameters("binary_data_size", func() (err error) {
		if size, err = s.integer(); err == nil && size < 0 {
			err = s.errorf("it is %d; want the number of bytes", size)
		}
		return err
	})
	return size, err
}

func (s *scanner) flag(name string) (value, set bool, err error) {
	err = s.parameters(name, func() (err error) {
		set = true
		value, err = s.boolean()
		return err
	})
	return value, set, err
}

func (s *scanner) outputs() (outputs []requestedOutput, err error) {
	err = s.array(func(i int) error {
		if i == maxTensors {
			return s.errorf("more than %d outputs", maxTensors)
		}
		var out requestedOutput
		var seen keySet
		err := s.object(func(key []byte) (err error) {
			switch string(key) {
			case "name":
				if err = seen.add(keyName, "name"); err == nil {
					out.name, err = s.str()
				}
				return within("name", err)
			case "parameters":
				if err = seen.add(keyParameters, "parameters"); err == nil {
					out.binary, out.binarySet, err = s.flag("binary_data")
				}
				return err
			}
			return s.skip()
		})
		if err == nil && seen&keyName == 0 {
			err = errors.New(`no "name"`)
		}
		if err == nil && slices.ContainsFunc(outputs, func(o requestedOutput) bool { return o.name == out.name }) {
			err = fmt.Errorf("the output %q is asked for twice", out.name)
		}
		outputs = append(outputs, out)
		return within(fmt.Sprintf("outputs[%d]", i), err)
	})
	return outputs, err
}

// attachBinary gives the binary inputs their part of the bytes after the JSON, all of which
// must be used.
func attachBinary(inputs []wireInput, binary []byte) error {
	for i := range inputs {
		in := &inputs[i]
		if in.binarySize < 0 {
			continue
		}
		if in.binarySize > int64(len(binary)) {
			return fmt.Errorf("inputs[%d] (%s): binary_data_size is %d but only %d bytes are left after the JSON",
				i, in.tensor.Name, in.binarySize, len(binary))
		}
		if err := setBinary(&in.tensor, "binary_data_size", binary[:in.binarySize:in.binarySize]); err != nil {
			return fmt.Errorf("inputs[%d] (%s): %w", i, in.tensor.Name, err)
		}
		binary = binary[in.binarySize:]
	}
	if len(binary) > 0 {
		return fmt.Errorf("%d bytes are left over after the JSON and the inputs' binary data", len(binary))
	}
	return nil
}

// setBinary gives the tensor its elements as bytes, of which there are as many as what says.
func setBinary(t *tensor.Tensor, what string, raw []byte) error {
	n, err := tensor.Elements(t.Shape)
	if err != nil {
		return err
	}
	if t.Type == tensor.Bytes {
		if n > maxStrings {
			return fmt.Errorf("shape %s has more than %d BYTES elements", tensor.ShapeString(t.Shape), maxStrings)
		}
		t.Strings, err = tensor.DecodeStrings(raw, int(n))
		return err
	}
	size := int64(t.Type.Size())
	if n > int64(len(raw))/size || n*size != int64(len(raw)) {
		return fmt.Errorf("%s is %d, but %s%s takes %d elements of %d bytes",
			what, len(raw), t.Type, tensor.ShapeString(t.Shape), n, size)
	}
	if t.Type == tensor.Bool {
		for i, b := range raw {
			if b > 1 {
				return fmt.Errorf("BOOL element %d is the byte %d; want 0 or 1", i, b)
			}
		}
	}
	t.Data = raw
	return nil
}
