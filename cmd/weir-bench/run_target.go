package main

import (
	"errors"
	"fmt"
	"os"

	"weir/bench"
)

// addressed is a target that knows where it is.
type addressed interface {
	bench.Target
	Address() string
}

// tensorsGRPC is the value of --tensors that speaks gRPC.
const tensorsGRPC = "grpc"

// newTarget returns what is sent.
func (o *runOptions) newTarget() (addressed, error) {
	request := bench.Request{URL: o.target, Method: o.method, Users: o.users, Seed: o.seed}
	for _, h := range o.headers {
		field, err := bench.ParseField(h)
		if err != nil {
			return nil, err
		}
		request.Header = append(request.Header, field)
	}
	if o.tensors != "json" && o.tensors != "binary" && o.tensors != tensorsGRPC {
		return nil, fmt.Errorf("tensors %q: must be json, binary or grpc", o.tensors)
	}
	switch {
	case o.images != "" && (o.body != "" || o.method != "" || o.template != "" || len(o.inputs) > 0):
		return nil, errors.New("--images makes the body and posts it: leave --body, --template, --tensor and --method out")
	case len(o.inputs) > 0 && (o.body != "" || o.method != "" || o.template != ""):
		return nil, errors.New("--tensor makes the body and posts it: leave --body, --template and --method out")
	case o.template != "" && o.body != "":
		return nil, errors.New("--body and --template exclude each other")
	case o.protocol.grpc != "" && (o.method != "" || o.template != "" || o.images != "" || len(o.inputs) > 0):
		return nil, errors.New("--grpc sends the message in --body: leave --method, --template, --images and --tensor out")
	case o.tensors == tensorsGRPC && o.images == "" && len(o.inputs) == 0:
		return nil, errors.New("--tensors grpc goes with --tensor or --images")
	case o.images != "":
		return o.newInfer(request)
	case len(o.inputs) > 0:
		return o.newTensors(request)
	case o.template != "":
		text, err := os.ReadFile(o.template)
		if err != nil {
			return nil, fmt.Errorf("template: %w", err)
		}
		return bench.NewTemplate(request, string(text))
	}
	var body []byte
	if o.body != "" {
		var err error
		if body, err = os.ReadFile(o.body); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
	}
	if o.protocol.grpc != "" {
		return bench.NewGRPC(request, o.protocol.grpc, body)
	}
	return bench.NewFixed(request, body)
}

func (o *runOptions) newInfer(request bench.Request) (addressed, error) {
	labels := o.labels
	if labels == "" {
		var err error
		if labels, err = bench.LabelsFor(o.images); err != nil {
			return nil, err
		}
	}
	images, err := bench.ReadImages(o.images, labels)
	if err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	if o.tensors == tensorsGRPC {
		return bench.NewGRPCInfer(request, o.model, images)
	}
	return bench.NewInfer(request, o.model, images, o.tensors == "binary")
}

func (o *runOptions) newTensors(request bench.Request) (addressed, error) {
	var inputs []bench.Tensor
	for _, text := range o.inputs {
		tensor, err := bench.ParseTensor(text)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, tensor)
	}
	if o.tensors == tensorsGRPC {
		return bench.NewGRPCTensors(request, o.model, inputs)
	}
	return bench.NewTensors(request, o.model, inputs, o.tensors == "binary")
}
