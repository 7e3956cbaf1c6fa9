package config

import "time"

// Gate is somebody outside weir who has to agree before a rollout begins. Exactly one of Webhook, Command and MLflow is
// set.
type Gate struct {
	Webhook string   // a URL
	Command []string // a program and its arguments
	MLflow  *MLflowGate
	Timeout time.Duration
}

// MLflowGate asks the model registry of MLflow for the metrics of a model's version, and has it name what serves.
type MLflowGate struct {
	URL   string
	Model string
	// Version is the number of the model's version, or the one that Alias is at. 0 and "": the version of the pool.
	Version int
	Alias   string
	// Metrics of the version's run must be within these.
	Metrics []MetricBound
	// SetAlias and SetStage are given to the version when the rollout has succeeded; "": none.
	SetAlias, SetStage string
	TokenFile          string // "": no authentication
}

// MetricBound is what a metric must be: Name Op Value, as in accuracy >= 0.9.
type MetricBound struct {
	Name  string
	Op    string // one of >=, >, <=, <
	Value float64
}

// Holds reports whether v is within the bound. No number is not.
func (b MetricBound) Holds(v float64) bool {
	switch b.Op {
	case ">=":
		return v >= b.Value
	case ">":
		return v > b.Value
	case "<=":
		return v <= b.Value
	default:
		return v < b.Value
	}
}

// String writes the bound as a file has it, without the name.
func (b MetricBound) String() string { return b.Op + " " + formatNumber(b.Value) }

// What a field of JSON may be.
const (
	FormNumber  = "number"
	FormString  = "string"
	FormBoolean = "boolean"
	FormObject  = "object"
	FormArray   = "array"
)

// Form is a field of a JSON answer, by its path, and its shape.
type Form struct {
	Path string
	Kind string // one of the words above; "": nested arrays of the lengths Dims
	// Dims are from the outside in, AnyLength for any.
	Dims []int
}

// AnyLength is a dimension that does not matter.
const AnyLength = -1

// DefaultGate has 30 s.
func DefaultGate() Gate { return Gate{Timeout: 30 * time.Second} }
