package balancer

import (
	"fmt"
	"slices"
	"testing"

	"weir/config"
)

// busyPool is a pool of n endpoints of weights 1, 2, 3 …, all with requests in flight, as when it
// matters.
func busyPool(policy string, n int) *Pool {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = float64(1 + i%3)
	}
	p := testPool(policy, weights...)
	for i, e := range p.endpoints {
		e.inflight.Store(int64(1 + i%7))
	}
	return p
}

// BenchmarkPick is one pick and its end. It must not grow with the pool; least_request may, up to
// the number of endpoints that it still looks at one by one.
func BenchmarkPick(b *testing.B) {
	for _, policy := range config.Policies() {
		for _, n := range []int{1, 10, 32, 100, 1000} {
			p := busyPool(policy, n)
			b.Run(fmt.Sprintf("%s/%d/alone", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Pick(nil).Done(Success, 1)
				}
			})
			b.Run(fmt.Sprintf("%s/%d/parallel", policy, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						p.Pick(nil).Done(Success, 1)
					}
				})
			})
			b.Run(fmt.Sprintf("%s/%d/retry", policy, n), func(b *testing.B) {
				tried := p.endpoints[:1:1]
				b.ReportAllocs()
				for b.Loop() {
					p.Pick(tried).Done(Success, 1)
				}
			})
		}
	}
}

// evenSplit is a split of n variants, alike but for the first, which has twice as much.
func evenSplit(salt string, n int) *Split {
	v := variants(slices.Repeat([]float64{1}, n)...)
	v[0].Weight = 2
	return NewSplit(salt, v, nil)
}

// BenchmarkSplit is one choice. By chance it grows by a fifth of a nanosecond for each variant, by
// subject with the logarithm of the variants and of the changes of weights behind it.
func BenchmarkSplit(b *testing.B) {
	users := subjects(1024)
	bySubject := func(s *Split) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s.BySubject(users[i%1024])
				i++
			}
		}
	}
	for _, n := range []int{2, 4, 16, 64} {
		chance := evenSplit("", n)
		b.Run(fmt.Sprintf("chance/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			u := uint64(0)
			for b.Loop() {
				u += 0x9e3779b97f4a7c15
				chance.ByChance(u)
			}
		})
		b.Run(fmt.Sprintf("affinity/%d", n), bySubject(evenSplit("predict", n)))
	}
	old := evenSplit("predict", 4)
	for i := range 1000 {
		old = NewSplit("predict", reweighted(old.variants, float64(1+i*7%100), float64(1+i*3%50), float64(1+i%9), 10), old)
	}
	b.Run("affinity_after_1000_changes/4", bySubject(old))
}

// BenchmarkReweight is a change of weights.
func BenchmarkReweight(b *testing.B) {
	for _, n := range []int{2, 4, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := evenSplit("predict", n)
			other := slices.Clone(s.variants)
			other[0].Weight = 5
			b.ReportAllocs()
			for b.Loop() {
				NewSplit("predict", other, s)
			}
		})
	}
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

// BenchmarkOutlier is one pick and its end without outlier detection, with it, and while the endpoint
// fails now and then.
func BenchmarkOutlier(b *testing.B) {
	for _, name := range []string{"off", "on", "failing"} {
		c := watched(3, nil)
		if name == "off" {
			c.Outlier = nil
		}
		p := NewPool(c, nil, PoolOptions{})
		p.Start()
		ends := [4]Outcome{}
		if name == "failing" {
			ends[0] = Status
		}
		b.Run(name+"/alone", func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p.Pick(nil).Done(ends[i/3%4], 1)
				i++
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				i := 0
				for pb.Next() {
					p.Pick(nil).Done(ends[i/3%4], 1)
					i++
				}
			})
		})
		p.Stop()
	}
}
