package grpc

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// HealthRequest is the body of a call to grpc.health.v1.Health/Check; service "" is the server as a whole
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
func HealthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = protowire.AppendString(protowire.AppendTag(message, 1, protowire.BytesType), service)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// The states of a service.
const serving = 1

var health = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// Serving reads the body of the answer; the error is nil where it says SERVING, and else tells what it says.
func Serving(body []byte) error {
	const prefix = 5
	if len(body) < prefix || int64(binary.BigEndian.Uint32(body[1:])) != int64(len(body)-prefix) {
		return fmt.Errorf("the answer is no message of gRPC: %d bytes", len(body))
	}
	if body[0] != 0 {
		return fmt.Errorf("the answer is compressed, which was not asked for")
	}
	state := uint64(0)
	for message := body[prefix:]; len(message) > 0; {
		field, kind, n := protowire.ConsumeTag(message)
		m := -1
		if n > 0 {
			m = protowire.ConsumeFieldValue(field, kind, message[n:])
		}
		if m < 0 {
			return fmt.Errorf("the answer is no HealthCheckResponse")
		}
		if field == 1 && kind == protowire.VarintType {
			state, _ = protowire.ConsumeVarint(message[n:])
		}
		message = message[n+m:]
	}
	switch {
	case state == serving:
		return nil
	case state < uint64(len(health)):
		return fmt.Errorf("%s; want SERVING", health[state])
	}
	return fmt.Errorf("the state %d; want SERVING", state)
}
