package compare

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"weir/bench/process"
)

const (
	// idleOpeners is how many connections are opened at once.
	idleOpeners = 16
	idleTimeout = 10 * time.Second
	// idleCheck is how long connections are watched for their end.
	idleCheck = 100 * time.Millisecond
	// idleReserve is how many more connections a proxy must take than are idle.
	idleReserve = 200
	// fileReserve is how many more files a proxy may need.
	fileReserve = 500
)

// fitIdle lets workloads have as many idle connections as the limit of open files allows, of
// which some proxies keep one ready for the server's side of each connection.
func (o *Options) fitIdle(result *Result) error {
	limit, err := process.FileLimit()
	if err != nil {
		return err
	}
	most := int(min(limit, 1<<20))/2 - fileReserve
	o.Workloads = slices.Clone(o.Workloads)
	for i := range o.Workloads {
		w := &o.Workloads[i]
		switch {
		case w.Idle <= most:
			continue
		case most < 1:
			return fmt.Errorf("workload %s: the limit of open files is %d: raise it (ulimit -Hn), or leave the workload out", w.Name, limit)
		}
		note := fmt.Sprintf("%s: %d idle connections instead of %d, because the limit of open files is %d", w.Name, most, w.Idle, limit)
		result.note(note)
		o.Say(note)
		w.Idle = most
	}
	return nil
}

// idle are connections that made one request.
type idle []net.Conn

// openIdle opens n connections to a peer, makes a request on each, and fills m with the memory
// that they take, against that of the peer before any load.
func (f *field) openIdle(ctx context.Context, m *Measurement, p *peer, w *Workload) (idle, error) {
	if f.quota != nil {
		if err := f.quota.Limit(0); err != nil {
			return nil, err
		}
	}
	if err := p.note(); err != nil {
		return nil, err
	}
	n := w.Idle
	all := make(idle, n)
	errs := make([]error, idleOpeners)
	var opening sync.WaitGroup
	for i := range idleOpeners {
		opening.Go(func() {
			for j := i; j < n && errs[i] == nil && ctx.Err() == nil; j += idleOpeners {
				all[j], errs[i] = f.askOnce(p.address, w)
			}
		})
	}
	opening.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return all, fmt.Errorf("open %d idle connections: %w", n, err)
	}
	return all, f.grown(ctx, m, p, n)
}

// note keeps what memory a peer has before the first of its connections.
func (p *peer) note() error {
	before, err := p.usage()
	if p.fresh == 0 {
		p.fresh = before.Resident
	}
	return err
}

// grown fills m with the memory of each of n connections that are open now and rest.
func (f *field) grown(ctx context.Context, m *Measurement, p *peer, n int) error {
	if err := wait(ctx, f.options.Rest, nil); err != nil {
		return err
	}
	after, err := p.usage()
	m.IdleBytes = float64(after.Resident-p.fresh) / float64(n)
	return err
}

// askOnce opens a connection, makes a request and reads the answer.
func (f *field) askOnce(address string, w *Workload) (net.Conn, error) {
	c, err := f.connect(address, w)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(idleTimeout)) // an open connection takes a deadline
	if w.HTTP2 {
		return c, askOverHTTP2(c, w, address)
	}
	_, err = fmt.Fprintf(c, "POST /predict HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nidle", address)
	if err != nil {
		return c, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return c, err
	}
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("POST /predict: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return c, err
}

// connect opens a connection as a workload's clients do.
func (f *field) connect(address string, w *Workload) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, idleTimeout)
	config := f.tls(w)
	if err != nil || config == nil {
		return c, err
	}
	config.NextProtos = []string{"http/1.1"}
	if w.HTTP2 {
		config.NextProtos = []string{"h2"}
	}
	_ = c.SetDeadline(time.Now().Add(idleTimeout))
	secure := tls.Client(c, config)
	if err := secure.Handshake(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return secure, nil
}

// check fails when the peer has closed one of the connections, whose memory would then not have
// been measured.
func (all idle) check() error {
	errs := make([]error, len(all))
	deadline := time.Now().Add(idleCheck)
	var reading sync.WaitGroup
	for i, c := range all {
		reading.Go(func() {
			_ = c.SetReadDeadline(deadline)
			_, errs[i] = c.Read(make([]byte, 1))
		})
	}
	reading.Wait()
	closed := slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) })
	if len(closed) > 0 {
		return fmt.Errorf("%d of %d idle connections did not stay open (%v)", len(closed), len(all), closed[0])
	}
	return nil
}

func (all idle) close() {
	for _, c := range all {
		if c != nil {
			_ = c.Close()
		}
	}
}
