package backend

import (
	"encoding/json"
	"math"
	"strconv"

	"weir/backend/tensor"
)

// modelType is the label model_type of ml_predictions_total.
type modelType string

const (
	classifier modelType = "classifier"
	regressor  modelType = "regressor"
	// otherModel gives something /predict cannot put into one prediction.
	otherModel modelType = "other"
)

// reading is how a model's outputs are read as predictions, one a row: decided once, from the
// signature. Positions of outputs are -1 when the model has none of that kind.
type reading struct {
	kind   modelType
	label  int // one whole number or string a row: the class
	scores int // several numbers a row, one a class
	value  int // one number a row: what a regressor says
	// bits is the precision of scores and value, 32 or 64, so that they print as short as they are.
	bits int
	// classes names the classes in the order of their scores, nil when nobody does.
	classes []string
}

func newReading(sig *tensor.Signature) reading {
	r := reading{kind: otherModel, label: -1, scores: -1, value: -1, bits: 32}
	for i, out := range sig.Outputs {
		one := len(out.Shape) == 1 || len(out.Shape) == 2 && out.Shape[1] == 1
		switch {
		case one && r.label < 0 && (out.Type == tensor.Bytes || out.Type.Integer()):
			r.label = i
		case one && r.value < 0 && out.Type.Float():
			r.value = i
		case !one && r.scores < 0 && len(out.Shape) == 2 && out.Type.Float():
			r.scores = i
		}
	}
	switch {
	case r.label >= 0 || r.scores >= 0:
		r.kind = classifier
		r.classes = r.classNames(sig)
	case r.value >= 0:
		r.kind = regressor
	}
	for _, at := range []int{r.scores, r.value} {
		if at >= 0 && sig.Outputs[at].Type == tensor.FP64 {
			r.bits = 64
		}
	}
	return r
}

// classNames are the metadata's "labels", a JSON array of strings in the order of the classes'
// numbers. Without it a model without a label output has the names of its scores' columns,
// unless these only count from 0.
func (r *reading) classNames(sig *tensor.Signature) []string {
	var labels []string
	if json.Unmarshal([]byte(sig.Metadata["labels"]), &labels) == nil && len(labels) > 0 {
		return labels
	}
	if r.label >= 0 {
		return nil
	}
	columns := sig.Outputs[r.scores].Columns
	for i, c := range columns {
		if c != strconv.Itoa(i) {
			return columns
		}
	}
	return nil
}

// prediction is one row, read.
type prediction struct {
	// text is the class when the model says it in words (isText), else number is the class or
	// the regressor's value.
	text   string
	isText bool
	number float64
	// name of the class, "" when it has none.
	name string
	// scores of the classes; probabilities says that they are such.
	scores        []float64
	probabilities bool
}

// rows is how many predictions the outputs hold: 0 when one of them is not of the form that
// the signature promised.
func (r *reading) rows(outputs []tensor.Tensor) int {
	rows := math.MaxInt
	for _, at := range []int{r.label, r.scores, r.value} {
		if at < 0 {
			continue
		}
		shape := outputs[at].Shape
		if len(shape) == 0 || len(shape) > 2 || at == r.scores && len(shape) != 2 {
			return 0
		}
		rows = min(rows, int(shape[0]), outputs[at].Len())
	}
	if rows == math.MaxInt {
		return 0
	}
	return rows
}

// row reads prediction i into p, whose scores are overwritten.
func (r *reading) row(outputs []tensor.Tensor, i int, p *prediction) {
	*p = prediction{scores: p.scores[:0]}
	best := 0
	if r.scores >= 0 {
		t := &outputs[r.scores]
		for c := range int(t.Shape[1]) {
			p.scores = append(p.scores, t.Float64(i*int(t.Shape[1])+c))
		}
		p.probabilities = areProbabilities(p.scores)
		best = largest(p.scores)
		p.number = float64(best)
	}
	switch {
	case r.label >= 0 && outputs[r.label].Type == tensor.Bytes:
		p.text, p.isText = outputs[r.label].Strings[i], true
	case r.label >= 0:
		p.number = outputs[r.label].Float64(i)
		best = int(p.number)
	case r.kind == regressor:
		p.number = outputs[r.value].Float64(i)
	}
	if r.kind == classifier && !p.isText && best >= 0 && best < len(r.classes) {
		p.name = r.classes[best]
	}
}

// confidence is what ml_prediction_score is about: the probability of the likeliest class, or
// what a regressor says. ok is false when there is no such number.
func (p *prediction) confidence(kind modelType) (score float64, ok bool) {
	switch {
	case kind == classifier && p.probabilities:
		return p.scores[largest(p.scores)], true
	case kind == regressor:
		return p.number, !math.IsNaN(p.number) && !math.IsInf(p.number, 0)
	}
	return 0, false
}

func largest(scores []float64) int {
	best := 0
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
	}
	return best
}

// areProbabilities says whether the scores are from 0 to 1 and add up to 1, as near as the sum
// of a forest's float32 votes comes.
func areProbabilities(scores []float64) bool {
	sum := 0.0
	for _, s := range scores {
		if !(s >= 0 && s <= 1+1e-6) {
			return false
		}
		sum += s
	}
	return math.Abs(sum-1) < 1e-3
}
