package proxy

import (
	"net/netip"
	"slices"
)

// networks are the clients that a route is open to.
type networks struct {
	allow, deny ranges
	all         bool // who is not denied is allowed
}

func newNetworks(allow, deny []netip.Prefix) *networks {
	if len(allow) == 0 && len(deny) == 0 {
		return nil
	}
	return &networks{allow: newRanges(allow), deny: newRanges(deny), all: len(allow) == 0}
}

func (n *networks) admit(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return !n.deny.contain(a) && (n.all || n.allow.contain(a))
}

// ranges are addresses, in order and apart from each other, so that lists of thousands of networks cost a request
// next to nothing.
type ranges []addrRange

type addrRange struct{ first, last netip.Addr }

func newRanges(prefixes []netip.Prefix) (merged ranges) {
	var all ranges
	for _, p := range prefixes {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		all = append(all, addrRange{p.Masked().Addr(), lastOf(p)})
	}
	slices.SortFunc(all, func(a, b addrRange) int { return a.first.Compare(b.first) })
	for _, r := range all {
		if n := len(merged); n > 0 && r.first.Compare(merged[n-1].last) <= 0 {
			if r.last.Compare(merged[n-1].last) > 0 {
				merged[n-1].last = r.last
			}
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// lastOf is the last address of a network. That of Unix sockets has one, which is before all others.
func lastOf(p netip.Prefix) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func (r ranges) contain(a netip.Addr) bool {
	from, to := 0, len(r) // the first range that does not end before a lies in [from, to]
	for from < to {
		if mid := (from + to) / 2; r[mid].last.Compare(a) < 0 {
			from = mid + 1
		} else {
			to = mid
		}
	}
	return from < len(r) && r[from].first.Compare(a) <= 0
}
