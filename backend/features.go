package backend

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"weir/backend/tensor"
)

// maxFeatures bounds the features of a model that get statistics, and those that are watched for drift. An input with
// more numbers a row has no features: an image's pixels are none. Those of a wide row that [Drifting] names are
// watched all the same.
const maxFeatures = 32

// feature is one of the numbers that each row of one of a model's inputs has.
type feature struct {
	name      string // the label feature_name
	input     int    // which of the model's inputs
	at, width int    // it is number at of the row's width numbers
}

// featuresOf are the numbers of the rows of the model's inputs, in their order, but for the inputs that have more than
// widest of them or whose number is open. Their names are those of the metadata's "features", a JSON array with one for each
// number of all inputs, else the input's and its place in the row; an input of one number beside others needs no place.
func featuresOf(sig *tensor.Signature, widest int) []feature {
	var names []string
	total := 0
	for i := range sig.Inputs {
		total += rowNumbers(&sig.Inputs[i])
	}
	if json.Unmarshal([]byte(sig.Metadata["features"]), &names) != nil || len(names) != total {
		names = nil
	}
	var all []feature
	before := 0
	for i := range sig.Inputs {
		in := &sig.Inputs[i]
		width := rowNumbers(in)
		for at := range width {
			if width > widest {
				break
			}
			f := feature{name: fmt.Sprintf("%s_%d", in.Name, at), input: i, at: at, width: width}
			switch {
			case names != nil:
				f.name = names[before+at]
			case width == 1 && len(sig.Inputs) > 1:
				f.name = in.Name
			}
			all = append(all, f)
		}
		before += width
	}
	return all
}

// rowSize is how many numbers a row of the model's only input has, 0 when that is not known.
func rowSize(sig *tensor.Signature) int {
	if len(sig.Inputs) != 1 {
		return 0
	}
	return rowNumbers(&sig.Inputs[0])
}

// rowNumbers is how many numbers a row of the input has, 0 when that is not known or they are none.
func rowNumbers(in *tensor.Spec) int {
	if len(in.Shape) < 2 || in.Type == tensor.Bytes || in.Type == tensor.Bool {
		return 0
	}
	n, err := tensor.Elements(in.Shape[1:])
	if err != nil { // a free dimension
		return 0
	}
	return int(n)
}

// statistic is what ml_feature_statistics says of one feature; the smallest and the largest mean nothing while count is 0.
type statistic struct {
	count    uint64
	sum      float64
	min, max float64
}

// add adds a number.
func (s *statistic) add(v float64) {
	if s.count == 0 {
		s.min, s.max = v, v
	}
	s.count++
	s.sum += v
	if v < s.min {
		s.min = v
	} else if v > s.max {
		s.max = v
	}
}

// merge adds what o has seen.
func (s *statistic) merge(o *statistic) {
	switch {
	case o.count == 0:
		return
	case s.count == 0:
		s.min, s.max = o.min, o.max
	}
	s.count += o.count
	s.sum += o.sum
	s.min, s.max = min(s.min, o.min), max(s.max, o.max)
}

// featureStatistics is ml_feature_statistics: of each feature the count and sum since the start
// and, as quantiles 0 and 1, the smallest and largest value. It is put together when it is asked for.
type featureStatistics struct {
	desc *prometheus.Desc

	mu   sync.Mutex
	live map[*watch]bool
	// ended is what models saw that are closed: a counter never goes back.
	ended map[featureKey]statistic
}

// featureKey names a statistic: two models may share both, and then share the statistic.
type featureKey struct{ feature, version string }

func newFeatureStatistics() *featureStatistics {
	return &featureStatistics{
		desc: prometheus.NewDesc("ml_feature_statistics",
			fmt.Sprintf("Numeric input features, the first %d of a model, without inputs of more a row; quantile 0 is the smallest value since the start, 1 the largest.", maxFeatures),
			[]string{"feature_name", "model_version"}, nil),
		live:  make(map[*watch]bool),
		ended: make(map[featureKey]statistic),
	}
}

func (f *featureStatistics) begin(w *watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[w] = true
}

// end keeps what w saw. Nothing may be added to w any more.
func (f *featureStatistics) end(w *watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.live, w)
	w.addStatistics(f.ended)
}

// Describe implements prometheus.Collector.
func (f *featureStatistics) Describe(ch chan<- *prometheus.Desc) { ch <- f.desc }

// Collect implements prometheus.Collector.
func (f *featureStatistics) Collect(ch chan<- prometheus.Metric) {
	all := make(map[featureKey]statistic)
	f.mu.Lock()
	for key, s := range f.ended {
		all[key] = s
	}
	for w := range f.live {
		w.addStatistics(all)
	}
	f.mu.Unlock()
	for key, s := range all {
		extremes := map[float64]float64(nil)
		if s.count > 0 {
			extremes = map[float64]float64{0: s.min, 1: s.max}
		}
		ch <- prometheus.MustNewConstSummary(f.desc, s.count, s.sum, extremes, key.feature, key.version)
	}
}
