package grpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

func TestHealth(t *testing.T) {
	for _, service := range []string{"", "a.B", strings.Repeat("x", 300)} {
		var m grpc_health_v1.HealthCheckRequest
		b := HealthRequest(service)
		if err := proto.Unmarshal(b[5:], &m); err != nil || m.Service != service || string(framed(0, b[5:])) != string(b) {
			t.Errorf("%q: %v, %v", service, &m, err)
		}
	}
	for state, name := range grpc_health_v1.HealthCheckResponse_ServingStatus_name {
		b, err := proto.Marshal(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_ServingStatus(state)})
		if err != nil {
			t.Fatal(err)
		}
		err = Serving(framed(0, b))
		if (err == nil) != (name == "SERVING") || err != nil && !strings.HasPrefix(err.Error(), name+";") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{"", "\x00\x00\x00\x00", "\x00\x00\x00\x00\x03\x08\x01", "\x01\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x01\x08", "\x00\x00\x00\x00\x02\x08\x09", "\x00\x00\x00\x00\x02\x08\x01\x00", "\x00\x00\x00\x00\x01\x00"} {
		if err := Serving([]byte(bad)); err == nil {
			t.Errorf("%q is SERVING", bad)
		}
	}
}
