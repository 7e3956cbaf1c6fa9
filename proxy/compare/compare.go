// Package compare says whether two answers to the same request agree. It only computes: it knows no connection
// and no clock, and takes as long as the answers are large, so it is no work for an event loop.
//
// Answers that are the same byte for byte agree. Others are compared as JSON: the fields that the configuration
// names, or by default the outputs of the Open Inference Protocol V2 (by name, also in the binary tensor
// extension), the prediction of the guide's API, or all of the answer.
package compare

import (
	"bytes"
	"fmt"
	"strings"

	"weir/config"
)

// Answer is one of the two.
type Answer struct {
	Status int                      // 0: there was none
	Field  func(name string) string // the value of a header field, "" without
	Body   []byte
	Whole  bool // Body is all of it
}

// Result is how two answers compare.
type Result uint8

const (
	Agree Result = iota
	Disagree
	// Incomparable says nothing about the model: an answer is missing, an error, or not to be read.
	Incomparable
)

// Results are all of them, in the order of their values.
func Results() []Result { return []Result{Agree, Disagree, Incomparable} }

// String is the value of the metric label "result".
func (r Result) String() string {
	switch r {
	case Agree:
		return "agree"
	case Disagree:
		return "disagree"
	}
	return "incomparable"
}

// Verdict is the result and, unless it is Agree, why. Where one field decides it is named, with both values as
// text of at most 1 KiB.
type Verdict struct {
	Result          Result
	Reason, Field   string
	Primary, Shadow string
}

// Rules say what must agree and how closely.
type Rules struct {
	fields    []path
	tolerance float64
	topLabel  bool
	limit     int
}

// inflation is how many times larger than limit an answer may be once it is decompressed.
const inflation = 8

// New returns the rules of c for answers of up to limit bytes.
func New(c *config.Compare, limit int64) *Rules {
	r := &Rules{tolerance: c.Tolerance, topLabel: c.TopLabel, limit: inflation * int(limit)}
	for _, f := range c.Fields {
		r.fields = append(r.fields, strings.Split(f, "."))
	}
	return r
}

// Compare compares the answer of a primary with a shadow's.
func (r *Rules) Compare(primary, shadow Answer) Verdict {
	switch {
	case primary.Status == 0 || shadow.Status == 0:
		return Verdict{Result: Incomparable, Reason: "there are not two answers"}
	case primary.Status/100 != shadow.Status/100:
		return Verdict{Result: Incomparable, Reason: fmt.Sprintf("status %d and %d", primary.Status, shadow.Status)}
	case primary.Status >= 400:
		return Verdict{Result: Incomparable, Reason: "both are errors"}
	case !primary.Whole || !shadow.Whole:
		return Verdict{Result: Incomparable, Reason: "an answer is larger than max_body, or not complete"}
	}
	var bodies [2][]byte
	for i, a := range [...]*Answer{&primary, &shadow} {
		var err error
		if bodies[i], err = a.plain(r.limit); err != nil {
			return Verdict{Result: Incomparable, Reason: sides[i] + ": " + err.Error()}
		}
	}
	if bytes.Equal(bodies[0], bodies[1]) {
		return Verdict{}
	}
	return r.compareJSON([2]*Answer{&primary, &shadow}, bodies)
}

var sides = [2]string{"primary", "shadow"}

func (r *Rules) compareJSON(answers [2]*Answer, bodies [2][]byte) Verdict {
	var docs [2]document
	var errs [2]error
	for i, a := range answers {
		docs[i], errs[i] = a.parse(bodies[i])
	}
	if errs[0] != nil || errs[1] != nil {
		v := Verdict{Result: Disagree, Reason: "the bodies differ", Primary: excerpt(bodies[0]), Shadow: excerpt(bodies[1])}
		for i := range errs {
			if errs[i] != nil && errs[1-i] == nil {
				v.Reason = sides[i] + ": " + errs[i].Error()
			}
		}
		return v
	}
	c := comparer{tolerance: r.tolerance, topLabel: r.topLabel}
	switch {
	case len(r.fields) > 0:
		return c.fields(r.fields, docs)
	case docs[0].tensors != nil || docs[1].tensors != nil:
		return c.tensors(docs)
	case docs[0].has("prediction") || docs[1].has("prediction"):
		return c.fields([]path{{"prediction"}}, docs)
	}
	return c.diff(docs[0].root, docs[1].root).verdict()
}

// fields compares some fields only. Where no answer has any of them, the configuration is likely wrong, and
// that must not look like agreement.
func (c comparer) fields(paths []path, docs [2]document) Verdict {
	found := false
	for _, p := range paths {
		d, has := c.field(p, docs)
		if d != nil {
			return d.within(strings.Join(p, ".")).verdict()
		}
		found = found || has
	}
	if !found {
		return Verdict{Result: Incomparable, Reason: "neither answer has one of the fields"}
	}
	return Verdict{}
}

// field compares what p leads to; has is false where that is nothing in both.
func (c comparer) field(p path, docs [2]document) (d *difference, has bool) {
	t, u := docs[0].tensor(p), docs[1].tensor(p)
	if t != nil && u != nil {
		return c.tensor(t, u), true
	}
	a, inA := p.in(docs[0].root)
	b, inB := p.in(docs[1].root)
	inA, inB = inA || t != nil, inB || u != nil
	if !inA && !inB {
		return nil, false
	}
	return c.member(a, b, inA, inB), true
}
