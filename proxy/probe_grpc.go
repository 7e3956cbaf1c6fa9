package proxy

import (
	"fmt"
	"net/http"
	"strconv"

	"weir/balancer"
	"weir/config"
	"weir/proxy/grpc"
)

// check asks for the health of a service by gRPC's health checking.
func (c *probeConn) check(e *balancer.Endpoint, asked, service string) error {
	body := grpc.HealthRequest(service)
	resp, err := c.ask("POST "+config.HealthMethod+" HTTP/1.1\r\nHost: "+e.Host()+"\r\nUser-Agent: weir-probe\r\nContent-Type: application/grpc\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\nConnection: close\r\n\r\n"+string(body), asked, config.StatusRange{Low: 200, High: 200})
	if err != nil {
		return err
	}
	answer, err := readProbe(resp, asked)
	if err != nil {
		return err
	}
	ended := field(resp, "Grpc-Status")
	if ended == "" {
		return fmt.Errorf("%s: the answer has no grpc-status: the endpoint does not speak gRPC", asked)
	}
	switch status := grpc.Parse([]byte(ended)); status {
	case grpc.OK:
	case grpc.Unimplemented:
		return fmt.Errorf("%s ended with UNIMPLEMENTED: the endpoint has no health service; add it there, or probe it with path or model", asked)
	case grpc.NotFound:
		return fmt.Errorf("%s ended with NOT_FOUND: the endpoint knows no such service", asked)
	default:
		return fmt.Errorf("%s ended with %s: %s", asked, status, clipJSON(field(resp, "Grpc-Message")))
	}
	if err := grpc.Serving(answer); err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}

// field is what the answer says behind its body, or in its head where it has no body.
func field(resp *http.Response, name string) string {
	if v := resp.Trailer.Get(name); v != "" {
		return v
	}
	return resp.Header.Get(name)
}
