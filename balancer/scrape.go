package balancer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"weir/backend/load"
	"weir/config"
)

// ScrapeFunc reads the metrics of endpoint e at addr once, as c says. The text of the error is shown to the operator. It
// returns when ctx is done. It is called from several goroutines at once, but not for one endpoint.
type ScrapeFunc func(ctx context.Context, e *Endpoint, addr Addr, c *config.Signals) (load.Reading, error)

// scrapes reports whether the metrics of the pool's endpoints are read.
func (p *Pool) scrapes() bool {
	return p.config.Load != nil && p.config.Load.Scrape != "" && p.options.Scrape != nil
}

// keepScraping reads the metrics of e from the moment it has an address until Stop. First readings are spread over an
// interval, so that those of many endpoints do not fall on one moment.
func (p *Pool) keepScraping(ctx context.Context, e *Endpoint) {
	d := time.Duration(rand.Float64() * float64(p.config.Load.Interval))
	if e.Resolved() {
		p.scrapeIn(ctx, e, d)
		return
	}
	p.running.Go(func() {
		select {
		case <-ctx.Done():
		case <-e.found:
			p.scrapeIn(ctx, e, d)
		}
	})
}

// scrapeIn reads the metrics of e after d, and then again and again. As with probes there is only a timer between two.
func (p *Pool) scrapeIn(ctx context.Context, e *Endpoint, d time.Duration) {
	at := asked{e, Scrape}
	p.timing.Lock()
	defer p.timing.Unlock()
	if ctx.Err() != nil {
		return
	}
	p.running.Add(1)
	if t := p.timers[at]; t != nil {
		t.Reset(d)
		return
	}
	p.timers[at] = time.AfterFunc(d, func() {
		defer p.running.Done()
		began := time.Now()
		p.scrape(ctx, e, began)
		p.scrapeIn(ctx, e, max(0, jitter(p.config.Load.Interval)-time.Since(began)))
	})
}

// scrape reads once. A server that has several addresses is read at the one its name gave first.
func (p *Pool) scrape(stop context.Context, e *Endpoint, began time.Time) {
	c := p.config.Load
	ctx, cancel := context.WithTimeout(stop, c.Timeout)
	defer cancel()
	r, err := p.options.Scrape(ctx, e, e.Addrs()[0], c)
	if stop.Err() != nil {
		return
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no whole answer to GET %s within %v", c.Scrape, c.Timeout)
	}
	e.checks[Scrape].count(err, time.Since(began))
	e.scraped(err)
	if err != nil {
		return
	}
	e.Report(FromScrape, r.Report, time.Now())
	if why := append(r.Events, r.Standing...); len(why) > 0 {
		p.faulty(e, strings.Join(why, ", "))
	}
}

// scraped notes how the last reading went.
func (e *Endpoint) scraped(err error) {
	last := e.scrapeFailure.Load()
	switch {
	case err == nil && last != nil:
		e.scrapeFailure.Store(nil)
	case err != nil && (last == nil || *last != err.Error()):
		why := err.Error()
		e.scrapeFailure.Store(&why)
	}
}

// ScrapeError returns why the last reading of the endpoint's metrics failed; "" when it did not, or there was none.
func (e *Endpoint) ScrapeError() string {
	if why := e.scrapeFailure.Load(); why != nil {
		return *why
	}
	return ""
}

// faulty has outlier detection, if there is one, eject an endpoint whose hardware is. It holds for it what holds for others:
// a pool's last endpoint stays, and those of max_ejected_percent at most go.
func (p *Pool) faulty(e *Endpoint, why string) {
	e.trust.fault.Store(&why)
	if p.config.Outlier != nil {
		p.tendIn(alarmDelay)
	}
}
