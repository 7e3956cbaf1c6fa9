package backend

import (
	"context"
	"sync"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"weir/backend/inference"
)

// grpcHealth is the service grpc.health.v1.Health. The services whose health it tells are "",
// the Open Inference Protocol's and every model by its name.
type grpcHealth struct {
	*health.Server
	s  *Server
	mu sync.Mutex // so that the last to look is the last to tell
}

func (h *grpcHealth) init(s *Server) {
	h.Server, h.s = health.NewServer(), s
	h.tell()
}

// tell tells the watchers what has changed.
func (h *grpcHealth) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if h.s.readiness().Ready {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	h.SetServingStatus("", status)
	h.SetServingStatus(inference.GRPCInferenceService_ServiceDesc.ServiceName, status)
	models := h.s.repository.Load()
	for _, name := range h.s.registry.names() {
		own := status
		if models == nil || len(models.of(name)) == 0 {
			own = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		h.SetServingStatus(name, own)
	}
}

// Check implements grpc_health_v1.HealthServer.
func (h *grpcHealth) Check(ctx context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	h.tell()
	return h.Server.Check(ctx, request)
}
