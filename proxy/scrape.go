package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	orca "weir/backend/load"
	"weir/balancer"
	"weir/config"
)

// scraper reads the metrics of one endpoint, again and again, over a connection of its own that it keeps: a new one for
// each scrape costs more than all the rest of it.
type scraper struct {
	mu      sync.Mutex // held during a scrape
	of      *config.Signals
	reader  *orca.Reader
	request []byte
	port    uint16 // 0: the endpoint's own

	conn net.Conn // nil: there is none
	addr balancer.Addr
	// stale: the connection is one of settings that are not in force any more.
	stale atomic.Bool
}

// scrape implements balancer.ScrapeFunc. At the endpoint's own port TLS and HTTP/2 are spoken as with requests.
func (p *Proxy) scrape(ctx context.Context, e *balancer.Endpoint, addr balancer.Addr, c *config.Signals) (orca.Reading, error) {
	s := &e.Transport.(*transport).scraper
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.prepare(c, e.Host()); err != nil {
		return orca.Reading{}, err
	}
	if s.port != 0 {
		addr.AddrPort = netip.AddrPortFrom(addr.AddrPort.Addr(), s.port) // config has no Unix socket there
	}
	if s.conn != nil && (s.addr != addr || s.stale.Load()) {
		s.hangUp()
	}
	s.stale.Store(false)
	defer func() {
		if s.stale.Load() {
			s.hangUp()
		}
	}()
	kept := s.conn != nil
	r, answered, err := p.scrapeOver(ctx, s, e, addr)
	if err != nil && kept && !answered && ctx.Err() == nil { // it had ended meanwhile
		r, _, err = p.scrapeOver(ctx, s, e, addr)
	}
	return r, err
}

// prepare makes the reader and the request of c, if those before were another's.
func (s *scraper) prepare(c *config.Signals, address string) error {
	if s.of == c {
		return nil
	}
	if s.of == nil || s.of.Preset != c.Preset || !reflect.DeepEqual(s.of.Names, c.Names) || s.of.Scrape != c.Scrape {
		names := map[string]string{}
		for _, n := range c.Names {
			names[n.Signal] = n.Family
		}
		if s.reader = orca.NewReader(c.Preset, names); s.reader == nil {
			return fmt.Errorf("the metrics of preset %q are not known", c.Preset)
		}
	}
	port, path, err := config.SplitScrape(c.Scrape)
	if err != nil {
		return err
	}
	host := address
	if port != 0 {
		name, _, _ := net.SplitHostPort(address)
		host = net.JoinHostPort(name, strconv.Itoa(int(port)))
	}
	s.of, s.port = c, port
	s.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-scrape\r\nAccept: text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n\r\n", path, host)
	return nil
}

// scrapeOver reads metrics over the scraper's connection, which it opens where there is none, and closes after an error.
// answered: the server has begun to.
func (p *Proxy) scrapeOver(ctx context.Context, s *scraper, e *balancer.Endpoint, addr balancer.Addr) (r orca.Reading, answered bool, err error) {
	if s.conn == nil {
		if err := s.dial(ctx, e, addr); err != nil {
			return r, false, err
		}
	}
	keep := false
	conn := s.conn
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() || !keep {
			s.hangUp()
		}
	}()
	if _, err := conn.Write(s.request); err != nil {
		return r, false, fmt.Errorf("GET %s: %w", s.of.Scrape, err)
	}
	br := p.scrapeReaders.Get().(*bufio.Reader)
	br.Reset(conn)
	defer p.scrapeReaders.Put(br)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return r, false, fmt.Errorf("GET %s: no answer: %w", s.of.Scrape, err)
	}
	if resp.StatusCode != http.StatusOK {
		return r, true, fmt.Errorf("GET %s answered %d, want 200", s.of.Scrape, resp.StatusCode)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" {
		return r, true, fmt.Errorf("GET %s answered with Content-Encoding %q, which was not asked for", s.of.Scrape, coding)
	}
	bp := p.relays.Get().(*[]byte)
	defer p.relays.Put(bp)
	r, err = s.reader.Read(resp.Body, (*bp)[:scrapeBuffer], int64(s.of.MaxBytes), time.Now())
	if err != nil {
		return r, true, fmt.Errorf("GET %s: %w", s.of.Scrape, err)
	}
	keep = !resp.Close && br.Buffered() == 0
	return r, true, nil
}

// scrapeBuffer is the piece in which metrics are read, in bytes.
const scrapeBuffer = 64 << 10

func (s *scraper) dial(ctx context.Context, e *balancer.Endpoint, addr balancer.Addr) (err error) {
	open := dialProbe
	if s.port != 0 {
		open = func(ctx context.Context, _ *balancer.Endpoint, addr balancer.Addr) (*probeConn, error) {
			return dialPlain(ctx, addr)
		}
	}
	c, err := open(ctx, e, addr)
	if err != nil {
		return err
	}
	if !c.stop() {
		_ = c.Close()
		return errors.Join(ctx.Err(), errors.New("no connection in time"))
	}
	s.conn, s.addr = c.Conn, addr
	return nil
}

func (s *scraper) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// renew has the next scrape open a connection of its own, and closes the one there is. It does not wait for a scrape.
func (s *scraper) renew() {
	s.stale.Store(true)
	if s.mu.TryLock() {
		s.hangUp()
		s.mu.Unlock()
	}
}
