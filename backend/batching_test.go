package backend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"weir/backend/tensor"
)

// TestJoinAndSplit puts requests of every type together and takes them apart again.
func TestJoinAndSplit(t *testing.T) {
	for _, typ := range tensor.Types() {
		var requests [][]tensor.Tensor
		var parts []int
		count := 0
		for _, n := range []int64{1, 3, 2} {
			request := []tensor.Tensor{{Name: "a", Type: typ, Shape: []int64{n}}, {Name: "b", Type: typ, Shape: []int64{n, 2, 3}}}
			for i := range request {
				elements, err := tensor.Elements(request[i].Shape)
				if err != nil {
					t.Fatal(err)
				}
				for range elements {
					if count++; typ == tensor.Bytes {
						request[i].Strings = append(request[i].Strings, fmt.Sprint(count))
						continue
					}
					for b := range typ.Size() {
						request[i].Data = append(request[i].Data, byte(count*(b+1)))
					}
				}
			}
			requests, parts = append(requests, request), append(parts, int(n))
		}
		joined := join(requests)
		if !cmp.Equal(joined[0].Shape, []int64{6}) || !cmp.Equal(joined[1].Shape, []int64{6, 2, 3}) {
			t.Errorf("%s: the shapes are %v and %v", typ, joined[0].Shape, joined[1].Shape)
		}
		got, err := split(joined, parts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			for k := range got[i] {
				if typ == tensor.Bytes {
					got[i][k].Data = nil
				} else {
					got[i][k].Strings = nil
				}
			}
		}
		if diff := cmp.Diff(requests, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", typ, diff)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	for _, shape := range [][]int64{{}, {3}, {3, 2}, {1, 2}} {
		out := tensor.Tensor{Name: "y", Type: tensor.Uint8, Shape: shape, Data: make([]byte, 6)}
		if _, err := split([]tensor.Tensor{out}, []int{1, 1}); err == nil || !strings.Contains(err.Error(), "for 2 rows") {
			t.Errorf("%v: %v", shape, err)
		}
	}
}

func TestCosts(t *testing.T) {
	var c costs
	if got := c.estimate(4); got != 0 {
		t.Errorf("without a run: %v", got)
	}
	c.add(1, 80)
	c.add(1, 160)
	for rows, want := range map[int]int{1: 90, 2: 90, 100: 90} {
		if got := c.estimate(rows); int(got) != want {
			t.Errorf("%d rows: %d, want %d", rows, got, want)
		}
	}
	c.add(5, 1000)
	for rows, want := range map[int]int{1: 90, 2: 90, 4: 1000, 7: 1000, 8: 1000, 1 << 40: 1000} {
		if got := c.estimate(rows); int(got) != want {
			t.Errorf("%d rows: %d, want %d", rows, got, want)
		}
	}
}

// TestWarmUp sees which sizes a model has run in before a request.
func TestWarmUp(t *testing.T) {
	load := func(r *scripted) (sizes []int64, err error) {
		inner := r.run
		r.run = func(in []tensor.Tensor) ([]tensor.Tensor, error) {
			sizes = append(sizes, in[0].Shape[0])
			return inner(in)
		}
		s := source("a", "v1", r)
		s.Serving.Batching = &Batching{MaxBatch: 8, Preferred: []int{4, 8}}
		_, err = s.load(&Options{Workers: 1, Queue: 1})
		return sizes, err
	}
	m := doubler()
	if sizes, err := load(m); err != nil || !cmp.Equal(sizes, []int64{1, 4, 8}) {
		t.Errorf("it ran in the sizes %v, %v", sizes, err)
	}
	// A model that says its output has a row for each of the input's, and lies.
	m = doubler()
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) {
		return []tensor.Tensor{{Name: "y", Type: tensor.FP64, Shape: []int64{1, 2}, Data: make([]byte, 16)}}, nil
	}
	if _, err := load(m); err == nil || !strings.Contains(err.Error(), "model a: a batch of 4 rows of zeros failed: output y is FP64[1,2] for 4 rows; leave max_batch at 1") {
		t.Errorf("got %v", err)
	}
	if m.closed != 1 {
		t.Error("the refused model is still open")
	}
	// One that zeros are nothing to cannot be tried, and is served.
	m = doubler()
	m.run = func([]tensor.Tensor) ([]tensor.Tensor, error) { return nil, fmt.Errorf("log of zero") }
	if sizes, err := load(m); err != nil || !cmp.Equal(sizes, []int64{1}) {
		t.Errorf("it ran in the sizes %v, %v", sizes, err)
	}
}
