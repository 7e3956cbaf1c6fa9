package demo

import (
	"strings"
	"testing"

	"weir/bench"
)

func examplePools() []*pool {
	return []*pool{
		{Name: "blue", Weight: 90, Endpoints: []string{"127.0.0.1:8001", "127.0.0.1:8002"}, model: model{version: "v1.0.0", accuracy: 0.84}},
		{Name: "green", Weight: 10, Endpoints: []string{"127.0.0.1:8003"}, model: model{version: "v2.0.0", accuracy: 0.87}},
	}
}

func TestEpochVerdict(t *testing.T) {
	tests := []struct {
		name        string
		blue, green float64
		users       map[string]uint64
		moved       uint64
		line        string
		problems    []string
	}{
		{"as set", 90, 10, map[string]uint64{"blue": 895, "green": 105}, 0,
			"at blue=90 green=10: 1000 users, 89.5% on blue, 10.5% on green, 0 changed variant (p = 0.6)", nil},
		{"far off", 90, 10, map[string]uint64{"blue": 600, "green": 400}, 0,
			"at blue=90 green=10: 1000 users, 60.0% on blue", []string{"does not follow the weights"}},
		{"too few to tell", 90, 10, map[string]uint64{"blue": 0, "green": 49}, 0, "49 users", nil},
		{"one variant is missing", 90, 10, map[string]uint64{"blue": 1000}, 0, "0.0% on green", []string{"does not follow the weights"}},
		{"weight 0 is kept", 100, 0, map[string]uint64{"blue": 1000}, 0, "0.0% on green, 0 changed variant (p = 1)", nil},
		{"weight 0 is not kept", 100, 0, map[string]uint64{"blue": 999, "green": 1}, 0, "0.1% on green", []string{"does not follow the weights"}},
		{"moved", 50, 50, map[string]uint64{"blue": 500, "green": 500}, 3, "3 changed variant", []string{"3 users changed variant while the weights were blue=50 green=50"}},
		{"nobody", 50, 50, nil, 0, "at blue=50 green=50 no user was seen", nil},
	}
	for _, tt := range tests {
		e := epoch{weights: map[string]float64{"blue": tt.blue, "green": tt.green}, users: tt.users, moved: tt.moved}
		line, problems := e.verdict(examplePools())
		if !strings.Contains(line, tt.line) {
			t.Errorf("%s: %q, want %q in it", tt.name, line, tt.line)
		}
		if len(problems) != len(tt.problems) || len(problems) > 0 && !strings.Contains(problems[0], tt.problems[0]) {
			t.Errorf("%s: problems %q, want %q", tt.name, problems, tt.problems)
		}
	}
}

// 1,000 answers of a model that is right in 84 % of them are right in 78.2 to 89.8 %, but for
// one time in a million.
func TestAccuracyProblem(t *testing.T) {
	for _, tt := range []struct {
		judged   uint64
		accuracy float64
		promised float64
		want     bool
	}{
		{1000, 0.84, 0.84, false},
		{1000, 0.79, 0.84, false},
		{1000, 0.77, 0.84, true},
		{1000, 0.91, 0.84, true},
		{99, 0.1, 0.84, false}, // too few to tell
		{1000, 0.1, 0, false},  // a pool that the demonstration knows nothing of
	} {
		r := row{variant: "blue", version: "v1", modelSays: tt.promised, line: bench.Line{Judged: tt.judged, Accuracy: &tt.accuracy}}
		if got := r.accuracyProblem(); (len(got) > 0) != tt.want {
			t.Errorf("%d answers, %v right of %v: %q, want a problem: %v", tt.judged, tt.accuracy, tt.promised, got, tt.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for want, weights := range map[string]map[string]float64{
		"blue=90 green=10":         {"green": 10, "blue": 90},
		"blue=99.5 green=0.5":      {"green": 0.5, "blue": 99.5},
		"green=1 azure=2 yellow=3": {"yellow": 3, "azure": 2, "green": 1},
		"":                         {},
	} {
		if got := describe(weights, examplePools()); got != want {
			t.Errorf("describe(%v) = %q, want %q", weights, got, want)
		}
	}
}
