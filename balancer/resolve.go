package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A name is looked up every resolveInterval. After a failure, the next lookup comes sooner,
// first after resolveRetry, then after twice as long each time, up to resolveInterval.
const (
	resolveInterval = 10 * time.Second
	resolveRetry    = time.Second
	resolveTimeout  = 5 * time.Second // for one lookup
	resolveAtOnce   = 16              // lookups under way in Pool.Resolve
)

// Resolved reports whether all endpoints have an address.
func (p *Pool) Resolved() bool {
	return !slices.ContainsFunc(p.endpoints, func(e *Endpoint) bool { return !e.Resolved() })
}

// Resolve looks up the names of endpoints that have no address yet. The errors tell which
// could not be: such an endpoint is not usable until a later lookup succeeds, the others
// are. IP addresses need no lookup.
func (p *Pool) Resolve(ctx context.Context) error {
	var (
		running sync.WaitGroup
		slots   = make(chan struct{}, resolveAtOnce)
		errs    = make([]error, len(p.endpoints))
	)
	for i, e := range p.endpoints {
		if e.Resolved() {
			continue
		}
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := p.resolve(ctx, e); err != nil {
				errs[i] = fmt.Errorf("endpoint %s of pool %s has no address yet: %w", e.Address, e.Pool, err)
			}
		})
	}
	running.Wait()
	p.refresh()
	return errors.Join(errs...)
}

// keepResolving looks e's name up until ctx is done.
func (p *Pool) keepResolving(ctx context.Context, e *Endpoint) {
	retry := resolveRetry
	timer := time.NewTimer(e.untilLookup())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := p.resolve(ctx, e); err != nil {
			timer.Reset(jitter(retry))
			retry = min(2*retry, resolveInterval)
			continue
		}
		retry = resolveRetry
		timer.Reset(jitter(resolveInterval))
	}
}

// resolve looks e's name up once and lets the answer count. A failure, an empty answer
// included, leaves the last good addresses in use.
func (p *Pool) resolve(ctx context.Context, e *Endpoint) error {
	if e.host == "" {
		return errors.New(e.ResolveError())
	}
	limited, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := p.options.Resolve(limited, e.host)
	if ctx.Err() != nil {
		return ctx.Err() // nobody waits for the answer any more
	}
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("lookup %s: the answer holds no address", e.host)
	}
	if err != nil {
		if e.lookupFailed(err) {
			p.warnf("endpoint %s of pool %s: its name cannot be resolved, %s: %v", e.Address, e.Pool, e.withoutLookup(), err)
		}
		return err
	}
	before := e.Addrs()
	recovered, owner := e.lookupSucceeded(addrPorts(ips, e.port))
	if after := e.Addrs(); !slices.Equal(before, after) {
		p.logf("endpoint %s of pool %s resolves to %v", e.Address, e.Pool, after)
		if owner != nil {
			if before == nil {
				owner.recovered(e)
			}
			owner.changed()
			if before == nil {
				owner.tell(e, true, fmt.Sprintf("it resolves to %v", after))
			}
		}
	} else if recovered {
		p.logf("endpoint %s of pool %s can be resolved again", e.Address, e.Pool)
	}
	return nil
}

func (e *Endpoint) withoutLookup() string {
	if e.Resolved() {
		return "its last addresses stay in use"
	}
	return "it gets no requests until it can"
}

// lookupFailed notes why, and reports whether the lookup before had not failed.
func (e *Endpoint) lookupFailed(err error) (first bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	first = e.lookup.failure == ""
	e.lookup.failure = err.Error()
	e.lookup.last = time.Now()
	return first
}

// lookupSucceeded takes the addresses over, and reports whether the lookup before had
// failed and which pool owns the endpoint.
func (e *Endpoint) lookupSucceeded(addrs []Addr) (recovered bool, owner *Pool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	recovered = e.lookup.failure != ""
	e.lookup.failure = ""
	e.lookup.last = time.Now()
	if !sameAddrs(e.Addrs(), addrs) {
		e.setAddrs(addrs)
	}
	return recovered, e.owner
}

// setAddrs is called with e.mu held, or before anybody else knows e.
func (e *Endpoint) setAddrs(addrs []Addr) {
	if e.addrs.Swap(&addrs) == nil {
		close(e.found)
	}
}

// untilLookup returns how long the first lookup of a pool waits: at most resolveInterval
// after the last one, or resolveRetry when that failed.
func (e *Endpoint) untilLookup() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lookup.last.IsZero() {
		return 0
	}
	wait := resolveInterval
	if e.lookup.failure != "" {
		wait = resolveRetry
	}
	return max(0, jitter(wait)-time.Since(e.lookup.last))
}

// addrPorts keeps the resolver's order, which is its order of preference.
func addrPorts(ips []netip.Addr, port uint16) []Addr {
	var out []Addr
	for _, ip := range ips {
		if a := (Addr{AddrPort: netip.AddrPortFrom(ip.Unmap(), port)}); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// sameAddrs compares as sets, because name servers rotate their answers.
func sameAddrs(a, b []Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}
