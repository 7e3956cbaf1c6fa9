package balancer

import (
	"fmt"
	"testing"

	"weir/config"
)

func BenchmarkPick(b *testing.B) {
	for _, policy := range config.Policies() {
		for _, n := range []int{2, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				weights := make([]float64, n)
				for i := range weights {
					weights[i] = float64(1 + i%3)
				}
				p := testPool(policy, weights...)
				for i, e := range p.endpoints {
					e.inflight.Store(int64(1 + i%7)) // busy, as when it matters
				}
				b.ReportAllocs()
				for b.Loop() {
					p.Pick(nil).Done(Success, 1)
				}
			})
		}
	}
}

func BenchmarkPickParallel(b *testing.B) {
	for _, policy := range config.Policies() {
		b.Run(policy, func(b *testing.B) {
			p := testPool(policy, 1, 1, 1, 1)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.Pick(nil).Done(Success, 1)
				}
			})
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	v := variants(90, 8, 2)
	s := NewSplit("predict", v, nil)
	b.Run("chance", func(b *testing.B) {
		b.ReportAllocs()
		u := uint64(0)
		for b.Loop() {
			u += 0x9e3779b97f4a7c15
			s.ByChance(u)
		}
	})
	b.Run("subject", func(b *testing.B) {
		b.ReportAllocs()
		users := subjects(1024)
		i := 0
		for b.Loop() {
			s.BySubject(users[i%1024])
			i++
		}
	})
	b.Run("rebuild", func(b *testing.B) {
		other := reweighted(v, 50, 30, 20)
		b.ReportAllocs()
		for b.Loop() {
			NewSplit("predict", other, s)
		}
	})
}

func BenchmarkRefresh(b *testing.B) {
	for _, policy := range config.Policies() {
		b.Run(policy, func(b *testing.B) {
			weights := make([]float64, 256)
			for i := range weights {
				weights[i] = 1 + float64(i)/7
			}
			p := testPool(policy, weights...)
			down := false
			for b.Loop() {
				down = !down
				setDown(p, 0, down)
			}
		})
	}
}
