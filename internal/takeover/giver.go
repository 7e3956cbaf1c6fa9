package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Giver is the side of the running weir: what it does when a new one asks for its sockets. The calls
// of one takeover come one after the other, and takeovers do too.
type Giver struct {
	Version string
	// Sockets begins a takeover: it returns the sockets with descriptors of their own, which the Giver
	// closes. From here to Failed or Done no listener should be opened or closed: what the new one builds
	// would not fit.
	Sockets func(to Peer) ([]Socket, error)
	// Release is called when the new one has built everything: it waits for a change under way, lets none
	// begin, and closes the state. kept are those of the sockets that the new one goes on with, their File
	// nil. They are shared from here on: nothing may be done to them but to accept connections, or not.
	// Whoever goes on accepting up to Done spares clients the wait for the new one.
	Release func(kept []Socket) error
	// Reclaim undoes what Release did, or the part it did before it failed. The new one has been told,
	// but it may need a moment to end.
	Reclaim func() error
	// Failed says that this process goes on, and why. After Sockets there is either Failed or Done;
	// between Release and Failed there is Reclaim.
	Failed func(error)
	// Done says that the new one serves. What is still to do is to accept no more and to finish what runs.
	Done func()

	// ReadyWithin is how long the new one may build, ServingWithin how long it may then take to open the
	// state and put it in force. Default: a minute, 30 seconds.
	ReadyWithin, ServingWithin time.Duration
}

// errBusy is said to the second one.
var errBusy = errors.New("another takeover is under way")

// Serve answers on l until Done was called, or ctx ends: a takeover that has not come to "serving" by
// then fails. It closes l; the file stays for the new one, or is removed.
func (g *Giver) Serve(ctx context.Context, l *Listener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, l.interrupt)()
	var (
		running sync.WaitGroup
		busy    = make(chan struct{}, 1) // held by the takeover
		given   bool                     // set under busy, which is then kept
	)
	for ctx.Err() == nil {
		c, err := l.accept()
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // out of descriptors, most likely
			}
			continue
		}
		running.Go(func() {
			defer c.close()
			peer, err := g.greet(ctx, c)
			if err == nil {
				select {
				case busy <- struct{}{}:
				case <-time.After(time.Second): // who has just failed, and tries again, is not to be refused for itself
					err = errBusy
				}
			}
			if err != nil {
				c.refuse(err.Error())
				return
			}
			if !g.give(ctx, c, l, peer) {
				<-busy
				return
			}
			given = true
			cancel()
		})
	}
	running.Wait()
	if given {
		l.leave()
	} else {
		l.Close()
	}
}

// greet finds out who calls.
func (g *Giver) greet(ctx context.Context, c link) (Peer, error) {
	pid, err := trusted(c.c)
	if err != nil {
		return Peer{}, err
	}
	m, err := c.expect(ctx, kindHello, helloWithin)
	if err != nil {
		return Peer{}, silent(ctx, err, "say hello")
	}
	if m.Protocol != protocol {
		return Peer{}, fmt.Errorf("it is weir %s and speaks version %d of the takeover, not %d: stop it and start the new one", g.Version, protocol, m.Protocol)
	}
	return Peer{Version: m.Version, PID: pid}, nil
}

// give tells whether the peer serves now.
func (g *Giver) give(ctx context.Context, c link, l *Listener, to Peer) bool {
	kept, err := g.offer(ctx, c, l, to)
	if err != nil {
		g.Failed(fmt.Errorf("the takeover by %s failed: %w", to, err))
		return false
	}
	err = g.Release(kept)
	if err != nil {
		c.refuse(err.Error())
	} else if err = gone(c.send(message{Kind: kindYours})); err == nil {
		_, err = c.expect(ctx, kindServing, within(g.ServingWithin, 30*time.Second))
		if err != nil {
			err = silent(ctx, err, "open the state")
			if c.withdraw(kindServing, err.Error()) {
				err = nil
			}
		}
	}
	if err == nil {
		g.Done()
		return true
	}
	if e := g.Reclaim(); e != nil {
		err = errors.Join(err, fmt.Errorf("taking back: %w", e))
	}
	g.Failed(fmt.Errorf("the takeover by %s failed: %w", to, err))
	return false
}

// offer passes the sockets and waits until the peer is ready. It returns those that the peer keeps.
func (g *Giver) offer(ctx context.Context, c link, l *Listener, to Peer) (kept []Socket, err error) {
	defer func() {
		if err != nil {
			c.refuse(err.Error())
		}
	}()
	sockets, err := g.Sockets(to)
	if err != nil {
		return nil, err
	}
	if err := g.pass(c, l, sockets); err != nil {
		return nil, err
	}
	m, err := c.expect(ctx, kindReady, within(g.ReadyWithin, time.Minute))
	if err != nil {
		return nil, silent(ctx, err, "get ready")
	}
	for _, i := range m.Kept {
		if i < 0 || i >= len(sockets) {
			return nil, fmt.Errorf("it keeps socket %d of %d", i, len(sockets))
		}
		kept = append(kept, Socket{Name: sockets[i].Name, Address: sockets[i].Address})
	}
	return kept, nil
}

// pass sends the sockets and closes the descriptors.
func (g *Giver) pass(c link, l *Listener, sockets []Socket) error {
	var files []*os.File
	for _, s := range sockets {
		files = append(files, s.File)
	}
	defer func() { closeAll(files) }()
	own, err := l.l.File()
	if err != nil {
		return err
	}
	files = append([]*os.File{own}, files...)
	names := []socketName{{Name: ownName}}
	for _, s := range sockets {
		names = append(names, socketName{s.Name, s.Address})
	}
	m := message{Kind: kindSockets, Version: g.Version, PID: os.Getpid()}
	for from := 0; from < len(names); from += perPacket {
		to := min(from+perPacket, len(names))
		m.Sockets, m.More = names[from:to], to < len(names)
		if err := c.send(m, files[from:to]...); err != nil {
			return fmt.Errorf("passing %d sockets: %w", len(names), gone(err))
		}
	}
	return nil
}

// silent says what err means when the peer was to do something.
func silent(ctx context.Context, err error, what string) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("this weir is stopping")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it took too long to %s", what)
	}
	return err
}

func within(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
