package takeover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"
)

// Taken is the side of the new weir: what it got of the running one.
type Taken struct {
	From    Peer
	Sockets []Socket // whoever called Take closes their Files

	link    link
	own     *Listener
	timeout time.Duration
	alone   bool // the running one has died
}

// Take asks the weir that listens at path for its sockets. timeout is how long it may take to answer,
// here and in Ready. The error is ErrNobody where none runs.
func Take(path, version string, timeout time.Duration) (*Taken, error) {
	c, err := connect(path)
	if errors.Is(err, fs.ErrNotExist) || isRefused(err) {
		err = fmt.Errorf("%w (%w)", ErrNobody, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take over: %w", err)
	}
	t := &Taken{link: link{c}, timeout: timeout}
	if err := t.take(path, version); err != nil {
		t.Close()
		for _, s := range t.Sockets {
			_ = s.File.Close()
		}
		return nil, fmt.Errorf("cannot take over: %w", err)
	}
	return t, nil
}

func (t *Taken) take(path, version string) error {
	if _, err := trusted(t.link.c); err != nil {
		return err
	}
	if err := t.link.send(message{Kind: kindHello, Protocol: protocol, Version: version}); err != nil {
		return t.why(err)
	}
	for {
		m, files, err := t.link.receive(context.Background(), t.timeout)
		if err != nil {
			return err
		}
		if m.Kind != kindSockets || len(m.Sockets) != len(files) {
			closeAll(files)
			return fmt.Errorf("the running weir says %.40q with %d names and %d descriptors, want %q", m.Kind, len(m.Sockets), len(files), kindSockets)
		}
		for i, s := range m.Sockets {
			t.Sockets = append(t.Sockets, Socket{Name: s.Name, Address: s.Address, File: files[i]})
		}
		if t.own == nil {
			t.From = Peer{Version: m.Version, PID: m.PID}
			if err := t.takeOwn(path); err != nil {
				return err
			}
		}
		if !m.More {
			return nil
		}
	}
}

// takeOwn makes a Listener of the first socket.
func (t *Taken) takeOwn(path string) error {
	if len(t.Sockets) == 0 || t.Sockets[0].Name != ownName {
		return errors.New("the running weir does not pass on the socket of takeovers")
	}
	f := t.Sockets[0].File
	t.Sockets = t.Sockets[1:]
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return fmt.Errorf("the running weir passes on a socket of %s for takeovers", l.Addr().Network())
	}
	t.own = newListener(ul, path)
	return nil
}

// Ready says that this process has built all that can fail, and waits until the state is free. kept
// are those of t.Sockets that it goes on with; it closes the Files of the others. An error means that
// the running one goes on and this one has to end.
func (t *Taken) Ready(kept []Socket) error {
	m := message{Kind: kindReady}
	for i, s := range t.Sockets {
		if slices.Contains(kept, s) {
			m.Kept = append(m.Kept, i)
		} else {
			_ = s.File.Close()
		}
	}
	err := t.link.send(m)
	if err != nil {
		err = t.why(err)
	} else {
		_, err = t.link.expect(context.Background(), kindYours, t.timeout)
	}
	if errors.Is(err, errGone) {
		t.alone = true
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("the running weir did not release its state within %s", t.timeout)
	}
	if err != nil {
		return fmt.Errorf("cannot take over: %w", err)
	}
	return nil
}

// Serving says that this process is the one that serves now. It is the last step that can fail, and
// then the running one goes on and this one has to end: it should not have accepted a connection.
func (t *Taken) Serving() error {
	if t.alone {
		return nil
	}
	err := t.link.send(message{Kind: kindServing})
	if err != nil {
		err = t.why(err)
	}
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("cannot take over: %w", err)
	}
	return nil
}

// Listener is for the next takeover: for Giver.Serve, once Serving has returned nil.
func (t *Taken) Listener() *Listener { return t.own }

// Abandon ends a takeover that has not come to Serving. The running weir goes on.
func (t *Taken) Abandon() {
	t.Close()
	if t.own != nil {
		t.own.leave()
	}
}

// Close closes the connection: after Serving it is of no more use. Before, the running weir goes on.
func (t *Taken) Close() { t.link.close() }

// why finds out why nothing can be sent: the running weir has said so, or it is gone.
func (t *Taken) why(err error) error {
	if _, _, e := t.link.receive(context.Background(), t.timeout); e != nil {
		return e
	}
	return err
}
