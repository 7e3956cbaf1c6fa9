package balancer

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"weir/config"
)

func TestTheLastUsableEndpointIsNeverEjected(t *testing.T) {
	for name, disable := range map[string]func(p *Pool, b *backend){
		"alone":         func(*Pool, *backend) {},
		"others drain":  func(p *Pool, _ *backend) { p.DrainEndpoint("127.0.0.1:8002", true) },
		"others failed": func(_ *Pool, b *backend) { b.set("127.0.0.1:8002", errors.New("answered 503")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b backend
				weights := []float64{1, 1, 0}
				if name == "alone" {
					weights = []float64{1}
				}
				c := probedConfig(weights...)
				c.Outlier = watched(1, nil).Outlier
				c.Outlier.MaxEjectedPercent = 100
				p := NewPool(c, nil, b.options())
				p.Start()
				defer p.Stop()
				disable(p, &b)
				wait(time.Minute)
				e := p.endpoints[0]
				end(e, 500, Connect, 0)
				if e.Ejected() || !p.Usable() || e.Spared() == 0 {
					t.Errorf("ejected %v, pool usable %v, spared %d times; want false, true, some", e.Ejected(), p.Usable(), e.Spared())
				}
			})
		})
	}
}

// TestOneOfTwoThatFailTogetherStays: what is judged at one time heeds what is just being ejected.
func TestOneOfTwoThatFailTogetherStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(watched(2, func(c *config.Pool) { c.Outlier.MaxEjectedPercent = 100 }), nil, PoolOptions{})
		p.Start()
		defer p.Stop()
		for range 10 {
			p.Pick(nil).Done(Reset, 0)
		}
		wait(time.Second)
		a, b := p.endpoints[0], p.endpoints[1]
		if a.Ejected() == b.Ejected() || a.Spared()+b.Spared() != 1 || p.Panicking() {
			t.Errorf("ejected %v and %v, spared %d and %d times, panic %v; want one of each", a.Ejected(), b.Ejected(), a.Spared(), b.Spared(), p.Panicking())
		}
	})
}

// TestEjectedOnesAreUsedWhenTheLastOtherGoes: ejections must not take all of a pool, in whatever order.
func TestEjectedOnesAreUsedWhenTheLastOtherGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told ejections
		p := NewPool(watched(2, nil), nil, told.options())
		p.Start()
		defer p.Stop()
		end(p.endpoints[0], 5, Reset, 0)
		untilReadmitted(p.endpoints[0])
		end(p.endpoints[0], 1, Reset, 0) // at a tenth of its weight
		wait(time.Second)
		if p.Panicking() {
			t.Error("a panic with one endpoint left and no threshold")
		}
		p.DrainEndpoint("127.0.0.1:8002", true)
		if got := shares(p, 10); !p.Panicking() || !slices.Equal(got, []int{10, 0}) {
			t.Errorf("panic %v, picked %v; want the ejected one used", p.Panicking(), got)
		}
		if e := p.endpoints[0]; !e.Ejected() || !e.Usable() || e.EffectiveWeight() != 1 {
			t.Errorf("ejected %v, usable %v, effective weight %v; want true, true, 1", e.Ejected(), e.Usable(), e.EffectiveWeight())
		}
		p.DrainEndpoint("127.0.0.1:8002", false)
		if got := shares(p, 10); p.Panicking() || !slices.Equal(got, []int{0, 10}) {
			t.Errorf("panic %v, picked %v; want it over", p.Panicking(), got)
		}
	})
}

func TestPanicThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backend
		var told ejections
		c := probedConfig(1, 1, 1, 1, 1)
		c.Outlier = watched(1, nil).Outlier
		c.PanicThreshold = 60
		options := told.options()
		options.Probe = b.probe
		p := NewPool(c, nil, options)
		p.Start()
		defer p.Stop()
		wait(time.Second)
		for _, e := range p.endpoints[:2] {
			end(e, 5, Reset, 0)
		}
		if got := shares(p, 30); p.Panicking() || !slices.Equal(got, []int{0, 0, 10, 10, 10}) {
			t.Errorf("3 of 5 left at 60 %%: panic %v, picked %v", p.Panicking(), got)
		}
		p.DrainEndpoint(p.endpoints[4].Address, true)
		if got := shares(p, 40); !p.Panicking() || !slices.Equal(got, []int{10, 10, 10, 10, 0}) {
			t.Errorf("2 of 4 left at 60 %%: panic %v, picked %v; want the ejected ones, not the draining one", p.Panicking(), got)
		}
		wait(time.Second)
		if last := told.log[len(told.log)-1]; last != "pool blue has too few endpoints that are not ejected: the ejected ones get requests all the same" {
			t.Errorf("logged %q", last)
		}
		b.set(p.endpoints[0].Address, errors.New("answered 503"))
		wait(20 * time.Second)
		if got := shares(p, 30); p.Panicking() || !slices.Equal(got, []int{0, 0, 15, 15, 0}) {
			t.Errorf("2 of 3 left at 60 %%: panic %v, picked %v; want those that are not ejected", p.Panicking(), got)
		}
		if last := told.log[len(told.log)-2]; last != "pool blue has enough endpoints again: those that are ejected get no new requests" &&
			told.log[len(told.log)-1] != "pool blue has enough endpoints again: those that are ejected get no new requests" {
			t.Errorf("logged %q", told.log)
		}
	})
}
