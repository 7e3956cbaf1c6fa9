package proxy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"weir/config"
)

// Sockets are listening sockets by their configured addresses.
type Sockets map[string]listening

// OpenSockets makes the sockets of want: those that another weir has passed on, by configured address,
// and new ones. It leaves the files open. A new weir opens them so before it says that it is ready, and
// gives them to its proxy, which cannot exist before the state is its own, with Use.
func OpenSockets(want []config.Listener, inherited map[string]*os.File) (Sockets, error) {
	s := Sockets{}
	for _, c := range want {
		if s[c.Address] != nil {
			continue
		}
		var err error
		if f := inherited[c.Address]; f != nil {
			s[c.Address], err = adopt(f, c.Address)
		} else {
			s[c.Address], err = bind(c.Address)
		}
		if err != nil {
			delete(s, c.Address)
			s.Close()
			return nil, fmt.Errorf("cannot listen on %s: %w", c.Address, err)
		}
	}
	return s, nil
}

func adopt(f *os.File, address string) (listening, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	path, isUnix := config.UnixPath(address)
	switch l := l.(type) {
	case *net.TCPListener:
		if !isUnix {
			admitNew(l)
			return l, nil
		}
	case *net.UnixListener:
		if isUnix && l.Addr().Network() == "unix" {
			return newUnixListener(l, path, false), nil
		}
	}
	_ = l.Close()
	return nil, errors.New("what was passed on is no socket of such an address")
}

// Close closes those that no proxy uses.
func (s Sockets) Close() {
	for _, socket := range s {
		discard(socket)
	}
	clear(s)
}

// Use gives the proxy sockets for its first configuration, of which want are the listeners: Apply then
// opens none of those. It empties s, also on an error.
func (p *Proxy) Use(want []config.Listener, s Sockets) error {
	defer s.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	known := slices.Clone(*p.listeners.Load())
	defer func() { p.listeners.Store(&known) }() // on an error, too, for Shutdown to close
	for _, c := range want {
		socket := s[c.Address]
		if socket == nil {
			continue
		}
		delete(s, c.Address)
		l, err := p.newListener(c, socket)
		if err != nil {
			return fmt.Errorf("cannot listen on %s: %w", c.Address, err)
		}
		known = append(known, l)
	}
	return nil
}

// ListenerFiles returns descriptors of the listening sockets by configured address, to be passed on to
// another weir. The caller closes them.
func (p *Proxy) ListenerFiles() (map[string]*os.File, error) {
	files := map[string]*os.File{}
	for _, l := range *p.listeners.Load() {
		f, err := duplicate(l.socket)
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, fmt.Errorf("the socket of %s: %w", l.address, err)
		}
		files[l.address] = f
	}
	return files, nil
}

// StopAccepting ends accepting on the listeners with these configured addresses, whose sockets another
// process has, too: what is in their backlog is for that one. When it has returned nothing more is
// accepted there. Shutdown then treats the other listeners as ever. No configuration should be applied
// between this and Shutdown.
func (p *Proxy) StopAccepting(addresses []string) {
	for _, l := range *p.listeners.Load() {
		if slices.Contains(addresses, l.address) {
			l.pause()
		}
	}
}

func (l *listener) pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.paused = true
	l.setDeadline(time.Now()) // wakes accept
	for l.taking {
		l.room.Wait()
	}
}
