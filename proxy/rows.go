package proxy

import (
	"math"

	"github.com/tidwall/gjson"
)

// rowBytes stands for one row of a body that cannot be looked into: it is too large, compressed, or of a form
// that weir does not know.
const rowBytes = 1 << 10

// rows is how many rows a gathered request asks about, at least 1: the first dimension of the first input of the
// Open Inference Protocol V2; the lists in the guide's features, or in TensorFlow Serving's instances. Of a body
// that cannot be looked into it is one for each rowBytes, of what has been read where its length is not known.
func (r *request) rows() float64 {
	body := r.body()
	if body == nil {
		return rowsOfBytes(max(r.fields.length, r.c.bodyRead))
	}
	n, ok := countRows(r.jsonBody())
	if !ok {
		return rowsOfBytes(int64(len(body)))
	}
	return max(1, min(n, float64(len(body)))) // a row takes a byte at least, whatever a shape says
}

func rowsOfBytes(n int64) float64 { return max(1, math.Ceil(float64(n)/rowBytes)) }

// countRows finds the rows of a document. Where it says something twice, the greater counts: which of the two an
// endpoint takes is not known.
func countRows(doc []byte) (n float64, ok bool) {
	whole := gjson.Parse(unsafeString(doc))
	if !whole.IsObject() {
		return 0, false
	}
	whole.ForEach(func(key, value gjson.Result) bool {
		rows, found := 0.0, false
		switch key.Str {
		case "inputs":
			rows, found = shapeRows(value)
		case "features", "instances":
			rows, found = listRows(value, key.Str == "instances")
		}
		if found {
			n, ok = max(n, rows), true
		}
		return true
	})
	return n, ok
}

// shapeRows is the first dimension of the first of V2's inputs.
func shapeRows(inputs gjson.Result) (n float64, ok bool) {
	if !inputs.IsArray() {
		return 0, false
	}
	inputs.ForEach(func(_, first gjson.Result) bool {
		if first.IsObject() {
			first.ForEach(func(key, value gjson.Result) bool {
				if key.Str == "shape" && value.IsArray() {
					if d := value.Get("0"); d.Type == gjson.Number {
						n, ok = max(n, d.Num), true
					}
				}
				return true
			})
		}
		return false
	})
	return n, ok
}

// listRows is the length of a list of lists, or, where every element is a row, of any list. Other lists are one
// row.
func listRows(list gjson.Result, elements bool) (n float64, ok bool) {
	if !list.IsArray() {
		return 0, false
	}
	list.ForEach(func(_, element gjson.Result) bool {
		n++
		return elements || element.IsArray()
	})
	return n, true
}
