package balancer

// Outcome is how one attempt at an endpoint ended.
type Outcome uint8

const (
	Success  Outcome = iota // answered with a status below 500
	Status                  // answered with 500 to 599
	Connect                 // no connection was made
	Reset                   // the connection ended, by FIN or RST, before the answer's end
	Timeout                 // the attempt's time was over
	Protocol                // the answer was not HTTP
	Canceled                // the client went away; says nothing about the endpoint

	outcomes = iota
)

// Outcomes returns every outcome, in the order of their values.
func Outcomes() []Outcome {
	return []Outcome{Success, Status, Connect, Reset, Timeout, Protocol, Canceled}
}

// String returns the value of the metric label "outcome".
func (o Outcome) String() string {
	switch o {
	case Success:
		return "success"
	case Status:
		return "status"
	case Connect:
		return "connect"
	case Reset:
		return "reset"
	case Timeout:
		return "timeout"
	case Protocol:
		return "protocol"
	case Canceled:
		return "canceled"
	}
	return "unknown"
}

// Failed reports whether the outcome counts against the endpoint. Nothing the client did does.
func (o Outcome) Failed() bool { return o != Success && o != Canceled }
