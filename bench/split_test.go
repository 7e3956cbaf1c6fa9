package bench

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckSplit(t *testing.T) {
	weights := map[string]float64{"blue": 90, "green": 10}
	for _, tt := range []struct {
		name     string
		observed map[string]uint64
		weights  map[string]float64
		verdict  string
		said     string
	}{
		{"as configured", map[string]uint64{"blue": 900, "green": 100}, weights, SplitPasses, "pass, p = 1: blue 90.00% (weight 90.00%), green 10.00% (weight 10.00%) of requests"},
		{"by chance", map[string]uint64{"blue": 915, "green": 85}, weights, SplitPasses, "p = 0.11"},
		{"off", map[string]uint64{"blue": 940, "green": 60}, weights, SplitDeviates, "DEVIATES from the weights, p = "},
		{"one is missing", map[string]uint64{"blue": 1000}, weights, SplitDeviates, "green 0.00% (weight 10.00%)"},
		{"weight 0", map[string]uint64{"blue": 1000}, map[string]float64{"blue": 1, "green": 0}, SplitPasses, "green 0.00% (weight 0.00%)"},
		{"weight 0 was served", map[string]uint64{"blue": 9, "green": 1}, map[string]float64{"blue": 1, "green": 0}, SplitDeviates, "green has weight 0 and got 1"},
		{"one nobody knows", map[string]uint64{"blue": 900, "green": 100, "red": 1}, weights, SplitDeviates, "red has weight 0"},
		{"too few", map[string]uint64{"blue": 49}, weights, SplitUnknown, "not judged: too few requests: by the weights one variant should get 4.9 of 49"},
		{"just enough", map[string]uint64{"blue": 45, "green": 5}, weights, SplitPasses, "pass"},
		{"nothing seen", nil, weights, SplitUnknown, "too few"},
		{"no weights", nil, nil, SplitUnknown, "too few"},
	} {
		s := CheckSplit("requests", tt.observed, tt.weights)
		if s.Verdict != tt.verdict || !strings.Contains(s.String(), tt.said) {
			t.Errorf("%s: %s, %q; want %s, %q", tt.name, s.Verdict, s, tt.verdict, tt.said)
		}
	}
}

func TestParseWeights(t *testing.T) {
	got, err := ParseWeights("blue=90, green=10,red=0")
	if diff := cmp.Diff(map[string]float64{"blue": 90, "green": 10, "red": 0}, got); diff != "" || err != nil {
		t.Errorf("%v; weights (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "blue", "blue=", "=1", "blue=x", "blue=-1", "blue=NaN", "blue=0", "blue=1,blue=2", "blue=1,"} {
		if got, err := ParseWeights(bad); err == nil {
			t.Errorf("ParseWeights(%q) = %v, want an error", bad, got)
		}
	}
}
