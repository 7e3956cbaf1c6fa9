package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"

	"weir/config"
	"weir/internal/state"
	"weir/internal/takeover"
	"weir/internal/telemetry"
	"weir/proxy"
)

const (
	// takeoverTimeout is how long the running weir may take for each of its steps.
	takeoverTimeout = 20 * time.Second
	// stateWait is how long a weir that takes over, or takes back, waits for the other's lock.
	stateWait = 5 * time.Second
)

// The names of the sockets that are handed over.
const (
	proxySocket = "proxy"
	adminSocket = "admin"
)

// takeoverPath is where a running weir can be asked for its sockets.
func takeoverPath(s config.State) string { return s.File + ".takeover" }

// inheritance is what a weir that takes over got of the running one. Without a takeover all of it is empty.
type inheritance struct {
	taken   *takeover.Taken
	sockets proxy.Sockets
	admin   net.Listener
}

// inherit asks the running weir for its sockets and opens what it does not have. When it returns, the
// state of the running one is free, and it changes nothing any more; Serving or Abandon ends that.
func (a *app) inherit(cfg *config.Config) (in inheritance, err error) {
	if cfg.State.File == "" {
		return in, errors.New("--takeover needs a state.file: the running weir is found beside it")
	}
	taken, err := takeover.Take(takeoverPath(cfg.State), a.o.version, takeoverTimeout)
	if errors.Is(err, takeover.ErrNobody) {
		a.log.Info("no weir runs here that could be taken over: starting as ever")
		return in, nil
	}
	if err != nil {
		return in, err
	}
	in.taken = taken
	if err := in.open(cfg); err != nil {
		in.close()
		return in, err
	}
	a.log.Info("taking over", zap.String("from", taken.From.String()))
	return in, nil
}

func (in *inheritance) open(cfg *config.Config) (err error) {
	defer func() {
		for _, s := range in.taken.Sockets {
			_ = s.File.Close()
		}
	}()
	var kept []takeover.Socket
	files := map[string]*os.File{}
	for _, s := range in.taken.Sockets {
		switch {
		case s.Name == adminSocket && s.Address == cfg.Admin.Address:
			if in.admin, err = net.FileListener(s.File); err != nil {
				return fmt.Errorf("the admin listener that was handed over: %w", err)
			}
		case s.Name == proxySocket && hasListener(cfg, s.Address):
			files[s.Address] = s.File
		default:
			continue
		}
		kept = append(kept, s)
	}
	if in.sockets, err = proxy.OpenSockets(cfg.Listeners, files); err != nil {
		return err
	}
	return in.taken.Ready(kept)
}

func hasListener(cfg *config.Config, address string) bool {
	for _, l := range cfg.Listeners {
		if l.Address == address {
			return true
		}
	}
	return false
}

// serving is the commitment: the running weir stops accepting, and this one is to begin.
func (in *inheritance) serving() error {
	if in.taken == nil {
		return nil
	}
	err := in.taken.Serving()
	in.taken.Close()
	return err
}

// close gives the takeover up where it has not come to serving; the running weir goes on.
func (in *inheritance) close() {
	if in.taken != nil {
		in.taken.Abandon()
	}
	in.sockets.Close()
	if in.admin != nil {
		_ = in.admin.Close()
	}
}

// listenForTakeover opens the socket on which a successor asks; nil where there can be none.
func (a *app) listenForTakeover(s config.State, in inheritance) *takeover.Listener {
	if in.taken != nil {
		return in.taken.Listener()
	}
	if s.File == "" {
		return nil
	}
	l, err := takeover.Listen(takeoverPath(s))
	if err != nil && !errors.Is(err, takeover.ErrSystem) {
		a.log.Warn("this weir cannot be taken over", telemetry.Exception(err))
	}
	return l
}

// giver is what this weir does when a successor asks for its sockets.
func (a *app) giver(s config.State) *takeover.Giver {
	var shared []string // addresses of listeners that the successor keeps
	busy := &proxy.ControlError{Status: 503, Code: "takeover", Message: "another weir takes over at this moment; try again"}
	return &takeover.Giver{
		Version: a.o.version,
		Sockets: func(to takeover.Peer) ([]takeover.Socket, error) {
			a.log.Info("a takeover begins", zap.String("by", to.String()))
			a.reclaim.end()
			a.reloader.refuse(busy)
			return a.sockets()
		},
		Release: func(kept []takeover.Socket) error {
			shared = nil
			for _, k := range kept {
				if k.Name == proxySocket {
					shared = append(shared, k.Address)
				}
			}
			return a.control.Detach(busy)
		},
		Reclaim: func() error {
			err := a.takeBack(s, stateWait)
			if err != nil {
				// Requests are served as ever. The state comes back when whoever has it lets it go.
				a.control.Refuse(&proxy.ControlError{Status: 503, Code: "state_lost",
					Message: "the state is not this weir's since a takeover failed: " + err.Error()})
				a.reclaim.begin(func(ctx context.Context) { a.keepTakingBack(ctx, s) })
			}
			return err
		},
		Failed: func(err error) {
			a.log.Warn("this weir goes on", telemetry.Exception(err))
			if a.reloader.refuse(nil) {
				a.reload("file") // it may have changed meanwhile, and nobody would look again
			}
		},
		Done: func() {
			a.proxy.StopAccepting(shared)
			close(a.takenOver)
		},
	}
}

// takeBack opens the state again after a takeover that failed.
func (a *app) takeBack(s config.State, wait time.Duration) error {
	store, err := state.OpenFile(s.File, state.FileOptions{Wait: wait, Warn: func(message string) { a.log.Warn(message) }})
	if err != nil {
		return err
	}
	a.control.Attach(store)
	return nil
}

// keepTakingBack tries until it works or ctx ends.
func (a *app) keepTakingBack(ctx context.Context, s config.State) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if a.takeBack(s, 0) == nil {
			a.log.Info("the state is this weir's again")
			a.reload("file") // it may have changed meanwhile
			return
		}
	}
}

// reclaim is at most one goroutine that takes the state back.
type reclaim struct {
	cancel context.CancelFunc
	done   chan bool
}

func (r *reclaim) begin(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan bool)
	go func() {
		defer close(r.done)
		f(ctx)
	}()
}

// end ends it and waits for that. Takeovers come one after the other, so nobody begins it meanwhile.
func (r *reclaim) end() {
	if r.cancel != nil {
		r.cancel()
		<-r.done
		r.cancel = nil
	}
}

// sockets are duplicates of all that listens.
func (a *app) sockets() (all []takeover.Socket, err error) {
	files, err := a.proxy.ListenerFiles()
	if err != nil {
		return nil, err
	}
	for address, f := range files {
		all = append(all, takeover.Socket{Name: proxySocket, Address: address, File: f})
	}
	tcp, ok := a.adminListener.(*net.TCPListener)
	if !ok {
		return all, nil
	}
	f, err := tcp.File()
	if err != nil {
		for _, s := range all {
			_ = s.File.Close()
		}
		return nil, fmt.Errorf("the socket of the admin listener: %w", err)
	}
	return append(all, takeover.Socket{Name: adminSocket, Address: a.reloader.adminAddress(), File: f}), nil
}

// serveTakeovers waits for a successor until ctx ends.
func (a *app) serveTakeovers(ctx context.Context, s config.State) {
	if a.successors != nil {
		a.giver(s).Serve(ctx, a.successors)
	}
}
