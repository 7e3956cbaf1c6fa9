package backend

import (
	"context"
	"strconv"

	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"weir/backend/inference"
	"weir/backend/tensor"
)

// The methods of the Open Inference Protocol V2.

// ServerLive implements inference.GRPCInferenceServiceServer, as those below do.
func (g *grpcServer) ServerLive(context.Context, *inference.ServerLiveRequest) (*inference.ServerLiveResponse, error) {
	return &inference.ServerLiveResponse{Live: true}, nil
}

func (g *grpcServer) ServerReady(context.Context, *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	return &inference.ServerReadyResponse{Ready: g.s.readiness().Ready}, nil
}

func (g *grpcServer) ModelReady(ctx context.Context, r *inference.ModelReadyRequest) (*inference.ModelReadyResponse, error) {
	if _, _, f := g.s.find(r.GetName(), r.GetVersion()); f != nil {
		return nil, failed(ctx, f)
	}
	return &inference.ModelReadyResponse{Ready: g.s.readiness().Ready}, nil
}

func (g *grpcServer) ServerMetadata(context.Context, *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	a := g.s.describe()
	return &inference.ServerMetadataResponse{Name: a.Name, Version: a.Version, Extensions: a.Extensions}, nil
}

func (g *grpcServer) ModelMetadata(ctx context.Context, r *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	models, m, f := g.s.find(r.GetName(), r.GetVersion())
	if f != nil {
		return nil, failed(ctx, f)
	}
	specs := func(all []tensor.Spec) []*inference.ModelMetadataResponse_TensorMetadata {
		described := make([]*inference.ModelMetadataResponse_TensorMetadata, len(all))
		for i, spec := range all {
			described[i] = &inference.ModelMetadataResponse_TensorMetadata{Name: spec.Name, Datatype: spec.Type.String(), Shape: spec.Shape}
		}
		return described
	}
	return &inference.ModelMetadataResponse{
		Name: m.Name, Versions: models.versions(m.Name), Platform: m.signature.Platform,
		Inputs: specs(m.signature.Inputs), Outputs: specs(m.signature.Outputs),
	}, nil
}

func (g *grpcServer) RepositoryIndex(_ context.Context, r *inference.RepositoryIndexRequest) (*inference.RepositoryIndexResponse, error) {
	all, err := g.s.registry.index(r.GetReady())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	answer := &inference.RepositoryIndexResponse{}
	for _, e := range all {
		answer.Models = append(answer.Models, &inference.RepositoryIndexResponse_ModelIndex{Name: e.Name, Version: e.Version, State: e.State, Reason: e.Reason})
	}
	return answer, nil
}

func (g *grpcServer) RepositoryModelLoad(_ context.Context, r *inference.RepositoryModelLoadRequest) (*inference.RepositoryModelLoadResponse, error) {
	if f := g.s.control(r.GetModelName(), true, repositoryParameters(r.GetParameters())); f != nil {
		return nil, status.Error(f.controlCode(), f.message)
	}
	return &inference.RepositoryModelLoadResponse{}, nil
}

func (g *grpcServer) RepositoryModelUnload(_ context.Context, r *inference.RepositoryModelUnloadRequest) (*inference.RepositoryModelUnloadResponse, error) {
	if f := g.s.control(r.GetModelName(), false, repositoryParameters(r.GetParameters())); f != nil {
		return nil, status.Error(f.controlCode(), f.message)
	}
	return &inference.RepositoryModelUnloadResponse{}, nil
}

func repositoryParameters(all map[string]*inference.ModelRepositoryParameter) map[string]string {
	parameters := make(map[string]string, len(all))
	for key, p := range all {
		parameters[key] = p.GetStringParam() // no known parameter is anything else, but unload_dependents
	}
	return parameters
}

// controlCode is what the status of a refused load or unload is over REST.
func (f *fault) controlCode() codes.Code {
	switch f.status {
	case fasthttp.StatusBadRequest:
		return codes.InvalidArgument
	case fasthttp.StatusForbidden:
		return codes.PermissionDenied
	case fasthttp.StatusNotFound:
		return codes.NotFound
	case fasthttp.StatusUnprocessableEntity:
		return codes.FailedPrecondition
	case fasthttp.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Internal
}

func (g *grpcServer) ModelInfer(ctx context.Context, r *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	m, f := g.s.holdNamed(r.GetModelName(), r.GetModelVersion())
	if f != nil {
		return nil, failed(ctx, f)
	}
	defer m.release()
	var answer *inference.ModelInferResponse
	f = g.s.inference(m, exchange{
		read: func() (*inferRequest, error) { return readInfer(r) },
		write: func(r *inferRequest, outputs []tensor.Tensor, chosen []chosenOutput) error {
			answer = newInferResponse(m, r, outputs, chosen)
			return nil
		},
		patience: func() (patience, func()) { return callPatience(ctx), func() {} },
	})
	if f != nil {
		// Without a head the answer is one frame, after which a proxy may still try elsewhere.
		addTrailers(ctx, modelHeader, m.Name, versionHeader, m.Version)
		if f.retry > 0 {
			addTrailers(ctx, pushbackTrailer, strconv.FormatInt(max(f.retry.Milliseconds(), 1), 10))
		}
		return nil, failed(ctx, f)
	}
	return answer, grpc.SetHeader(ctx, metadata.Pairs(modelHeader, m.Name, versionHeader, m.Version))
}
