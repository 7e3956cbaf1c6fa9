package config

// HealthMethod is the method that a probe of gRPC calls.
const HealthMethod = "/grpc.health.v1.Health/Check"

// Asked is what the probe asks, for people.
func (p *Probe) Asked() string {
	switch {
	case p.GRPC == nil:
		return "GET " + p.Target()
	case p.GRPC.Name == "":
		return HealthMethod[1:]
	default:
		return HealthMethod[1:] + " of " + p.GRPC.Name
	}
}

// Target is the path that the probe asks for: Path, or that of its model's readiness in the Open Inference
// Protocol V2.
func (p *Probe) Target() string {
	switch {
	case p.Model == "":
		return p.Path
	case p.ModelVersion == "":
		return "/v2/models/" + p.Model + "/ready"
	default:
		return "/v2/models/" + p.Model + "/versions/" + p.ModelVersion + "/ready"
	}
}
