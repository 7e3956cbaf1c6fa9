package backend

import (
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"weir/backend/tensor"
)

// maxFeatures bounds the features of a model that get statistics: an image's pixels do not.
const maxFeatures = 32

// featureStatistics is ml_feature_statistics: of each feature the count and sum since the start
// and, as quantiles 0 and 1, the smallest and largest value.
type featureStatistics struct {
	desc *prometheus.Desc
	mu   sync.Mutex
	// all by feature and version: two models may share both, and then share the statistic.
	all map[featureKey]*featureStatistic
}

type featureKey struct{ feature, version string }

type featureStatistic struct {
	mu       sync.Mutex
	count    uint64
	sum      float64
	min, max float64
}

func newFeatureStatistics() *featureStatistics {
	return &featureStatistics{
		desc: prometheus.NewDesc("ml_feature_statistics",
			fmt.Sprintf("Input features of models with at most %d; quantile 0 is the smallest value since the start, 1 the largest.", maxFeatures),
			[]string{"feature_name", "model_version"}, nil),
		all: make(map[featureKey]*featureStatistic),
	}
}

// of returns the statistics of the model's features in their order, nil when it has none: only
// a model with one numeric input of at most maxFeatures numbers a row has features.
func (f *featureStatistics) of(m *Model) []*featureStatistic {
	n := rowSize(&m.signature)
	if n == 0 || n > maxFeatures {
		return nil
	}
	var names []string
	if json.Unmarshal([]byte(m.signature.Metadata["features"]), &names) != nil || len(names) != n {
		names = make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%s_%d", m.signature.Inputs[0].Name, i)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	statistics := make([]*featureStatistic, n)
	for i, name := range names {
		key := featureKey{name, m.Version}
		if f.all[key] == nil {
			f.all[key] = &featureStatistic{min: math.Inf(1), max: math.Inf(-1)}
		}
		statistics[i] = f.all[key]
	}
	return statistics
}

// rowSize is how many numbers a row of the model's only input has, 0 when that is not known.
func rowSize(sig *tensor.Signature) int {
	if len(sig.Inputs) != 1 {
		return 0
	}
	in := sig.Inputs[0]
	if len(in.Shape) < 2 || in.Type == tensor.Bytes || in.Type == tensor.Bool {
		return 0
	}
	n, err := tensor.Elements(in.Shape[1:])
	if err != nil { // a free dimension
		return 0
	}
	return int(n)
}

// observe adds the rows of an input.
func observe(features []*featureStatistic, t *tensor.Tensor) {
	n := len(features)
	for i, f := range features {
		f.mu.Lock()
		for at := i; at < t.Len(); at += n {
			if v := t.Float64(at); !math.IsNaN(v) && !math.IsInf(v, 0) {
				f.count++
				f.sum += v
				f.min, f.max = min(f.min, v), max(f.max, v)
			}
		}
		f.mu.Unlock()
	}
}

// Describe implements prometheus.Collector.
func (f *featureStatistics) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

// Collect implements prometheus.Collector.
func (f *featureStatistics) Collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, s := range f.all {
		s.mu.Lock()
		count, sum, extremes := s.count, s.sum, map[float64]float64(nil)
		if count > 0 {
			extremes = map[float64]float64{0: s.min, 1: s.max}
		}
		s.mu.Unlock()
		ch <- prometheus.MustNewConstSummary(f.desc, count, sum, extremes, key.feature, key.version)
	}
}
