package backend

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"weir/backend/tensor"
)

// BenchmarkSucceeded is what it costs to count a prediction, by the model's features, of which all or none are watched for
// drift, and the rows of a request: on one CPU, and from all of them at once.
func BenchmarkSucceeded(b *testing.B) {
	for _, c := range []struct{ features, rows, watched int }{{4, 1, -1}, {4, 1, 32}, {32, 1, -1}, {32, 1, 32}, {32, 64, -1}, {32, 64, 32}, {784, 1, 32}} {
		r := rand.New(rand.NewPCG(1, 2))
		values := make([]float32, c.features*c.rows)
		for i := range values {
			values[i] = float32(100 * math.Exp(r.NormFloat64()))
		}
		scores := make([]float32, 0, 2*c.rows)
		for range c.rows {
			p := r.Float32()
			scores = append(scores, p, 1-p)
		}
		in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, int64(c.features)}}
		outputs := []tensor.Tensor{fp32("p", []int64{int64(c.rows), 2}, scores...)}
		s, err := New(Options{Models: []Source{source("m", "v1", fixed(in, nil, outputs...))}, Drift: Drifting{Features: c.watched}})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Load(); err != nil {
			b.Fatal(err)
		}
		m := s.repository.Load().models[0]
		inputs := []tensor.Tensor{fp32("x", []int64{int64(c.rows), int64(c.features)}, values...)}
		now := time.Now()
		name := fmt.Sprintf("features=%d/watched=%d/rows=%d/", c.features, max(0, min(c.watched, len(m.watch.series)-1)), c.rows)
		b.Run(name+"one", func(b *testing.B) {
			for b.Loop() {
				s.succeeded(m, inputs, outputs, now, time.Millisecond)
			}
		})
		b.Run(name+"all", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.succeeded(m, inputs, outputs, now, time.Millisecond)
				}
			})
		})
		if err := s.Shutdown(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGather is what a scrape costs with a model of 32 features whose drift is watched.
func BenchmarkGather(b *testing.B) {
	for _, off := range []bool{true, false} {
		in := tensor.Spec{Name: "x", Type: tensor.FP32, Shape: []int64{-1, maxFeatures}}
		outputs := []tensor.Tensor{fp32("y", []int64{1, 1}, 1)}
		s, err := New(Options{Models: []Source{source("m", "v1", fixed(in, nil, outputs...))}, Drift: Drifting{Off: off, First: 2000}})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Load(); err != nil {
			b.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 2))
		for range 4000 {
			values := make([]float32, maxFeatures)
			for i := range values {
				values[i] = float32(100 * math.Exp(r.NormFloat64()))
			}
			s.succeeded(s.repository.Load().models[0], []tensor.Tensor{fp32("x", []int64{1, maxFeatures}, values...)}, outputs, time.Now(), time.Millisecond)
		}
		b.Run(fmt.Sprintf("watched=%v", !off), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.metrics.registry.Gather(); err != nil {
					b.Fatal(err)
				}
			}
		})
		if err := s.Shutdown(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
