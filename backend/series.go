package backend

import (
	"weir/internal/stats"
)

// driftSlots are the parts of a window. The ring has one slot more: the newest is being filled.
const (
	driftSlots = 12
	slots      = driftSlots + 1
)

// pageBins are the bins of a page: 64 bytes of counts.
const pageBins = 16

// counts counts values by their bin, in pages that are made when a value comes into them: most quantities keep
// to few powers of two.
type counts []*[pageBins]uint32

func (c *counts) add(scale stats.Scale, bin int, n uint32) {
	if *c == nil {
		*c = make(counts, (scale.Bins()+pageBins-1)/pageBins)
	}
	page := (*c)[bin/pageBins]
	if page == nil {
		page = new([pageBins]uint32)
		(*c)[bin/pageBins] = page
	}
	page[bin%pageBins] += n
}

func (c counts) addTo(d *stats.Distribution) {
	for at, page := range c {
		if page == nil {
			continue
		}
		for bin, n := range page {
			if n > 0 {
				d.Counts[at*pageBins+bin] += uint64(n)
			}
		}
	}
}

// slot is a twelfth of a window: what is in the reference and what is not, because a reference is not compared with itself.
type slot struct{ first, fresh counts }

// Sources of a reference.
const (
	referenceFirst  = "first"  // the first values
	referenceWindow = "window" // pinned from the window
	referenceGiven  = "given"  // by configuration or through the API
)

// series is one quantity whose drift is watched: a feature, or the scores. Its watch's lock guards it.
type series struct {
	name  string // of the feature, "" for the scores
	scale stats.Scale
	slots [slots]slot
	// room is how many values the reference is still to be made of.
	room  int
	first counts // the reference, when it is made of the first values
	given stats.Distribution
	// source is where the reference comes from.
	source string
}

func newSeries(name string, scale stats.Scale, first int) *series {
	return &series{name: name, scale: scale, source: referenceFirst, room: first}
}

// count counts a value into the slot at this place of the ring.
func (s *series) count(bin int, at int64) {
	if s.room > 0 {
		s.room--
		s.first.add(s.scale, bin, 1)
		s.slots[at].first.add(s.scale, bin, 1)
		return
	}
	s.slots[at].fresh.add(s.scale, bin, 1)
}

// collect makes the reference anew of the first values to come.
func (s *series) collect(first int) {
	s.give(stats.Distribution{}, referenceFirst)
	s.room = first
}

// give sets the reference. What the one before was made of is the window's now.
func (s *series) give(reference stats.Distribution, source string) {
	s.room, s.first = 0, nil
	s.given, s.source = reference, source
	for i := range s.slots {
		for at, page := range s.slots[i].first {
			if page == nil {
				continue
			}
			for bin, n := range page {
				if n > 0 {
					s.slots[i].fresh.add(s.scale, at*pageBins+bin, n)
				}
			}
		}
		s.slots[i].first = nil
	}
}

// reference is what the window is compared with, and whether it is whole.
func (s *series) reference() (r stats.Distribution, complete bool) {
	if s.source != referenceFirst {
		return s.given, true
	}
	r = stats.Distribution{Scale: s.scale, Counts: make(map[int]uint64)}
	s.first.addTo(&r)
	return r, s.room == 0
}

// window is what came in the slots at the places that are asked for, in all of them where which is nil; with all of
// it what is in the reference too.
func (s *series) window(all bool, which func(at int64) bool) stats.Distribution {
	d := stats.Distribution{Scale: s.scale, Counts: make(map[int]uint64)}
	for i := range s.slots {
		if which != nil && !which(int64(i)) {
			continue
		}
		s.slots[i].fresh.addTo(&d)
		if all {
			s.slots[i].first.addTo(&d)
		}
	}
	return d
}
