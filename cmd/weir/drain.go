package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy"
)

// drainPoll is the time between two looks at a drain that is waited for.
const drainPoll = 200 * time.Millisecond

func (c *cli) drain() *cobra.Command {
	var flags changeFlags
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain POOL [ENDPOINT]", Short: "Send no new requests to a pool or an endpoint; running ones finish",
		Long: "Send no new requests to a pool, or to one of its endpoints, while those under way finish. It holds until\n" +
			"\"weir undrain\", also after a restart. A drain that would leave a route without a usable endpoint, or\n" +
			"a pool with less capacity than it gets requests, is refused (exit status 1) unless --force is given.\n\n" +
			"With --wait it returns when no request is under way any more; when that takes longer than --timeout it\n" +
			"says what still runs, and the exit status is 1. The drain goes on.\n\n" +
			"With -o json or yaml it prints the pool, as GET /api/v1/pools/POOL answers.",
		Example:           "  weir drain blue --reason 'new driver' --wait\n  weir drain blue 127.0.0.1:8001 --wait --timeout 10m && systemctl restart model",
		Args:              wantArgs(1, 2),
		ValidArgsFunction: c.completePool,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("timeout") && !wait {
				return usageError("--timeout is how long to --wait, which is not given")
			}
			if timeout <= 0 {
				return usageError("--timeout %s: want more than 0", timeout)
			}
			d, err := c.sendDrain(cmd.Context(), "drain", args, &flags)
			if err != nil {
				return err
			}
			if wait {
				return d.wait(cmd.Context(), timeout)
			}
			return d.print()
		},
	}
	flags.add(cmd, true, "the pool")
	cmd.Flags().BoolVar(&wait, "wait", false, "return when no request is under way any more")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "with --wait: how long that may take")
	_ = cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

func (c *cli) undrain() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use: "undrain POOL [ENDPOINT]", Short: "End a drain: send requests again",
		Long: "End the drain of a pool, or of one of its endpoints. Endpoints that drain by themselves go on doing so\n" +
			"when the drain of their pool ends.\n\n" +
			"With -o json or yaml it prints the pool, as GET /api/v1/pools/POOL answers.",
		Example:           "  weir undrain blue\n  weir undrain blue 127.0.0.1:8001",
		Args:              wantArgs(1, 2),
		ValidArgsFunction: c.completePool,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := c.sendDrain(cmd.Context(), "undrain", args, &flags)
			if err != nil {
				return err
			}
			return d.print()
		},
	}
	flags.add(cmd, false, "the pool")
	return cmd
}

// draining is a drain that was begun or ended.
type draining struct {
	cli      *cli
	api      *client
	pool     proxy.PoolStatus
	endpoint string // "" for the whole pool
}

func (c *cli) sendDrain(ctx context.Context, verb string, args []string, flags *changeFlags) (*draining, error) {
	if err := checkNames(args...); err != nil {
		return nil, err
	}
	api, err := c.client()
	if err != nil {
		return nil, err
	}
	d := &draining{cli: c, api: api}
	path := poolPath(args[0])
	if len(args) > 1 {
		d.endpoint = args[1]
		path = endpointPath(args[0], d.endpoint)
	}
	if err := flags.send(ctx, api, http.MethodPost, path+"/"+verb, flags.change(), &d.pool); err != nil {
		return nil, api.meant(ctx, err, args[0], args[1:]...)
	}
	return d, nil
}

func (d *draining) print() error {
	return d.cli.print(d.pool, func(w io.Writer) { fmt.Fprintln(w, d.text()) })
}

// state tells whether it drains, and how many requests are under way there.
func (d *draining) state() (drains bool, inflight int64) {
	if d.endpoint == "" {
		return d.pool.Draining, d.pool.Inflight
	}
	for _, e := range d.pool.Endpoints {
		if e.Address == d.endpoint {
			return e.Draining, e.Inflight
		}
	}
	return true, 0 // a reload removed it
}

func (d *draining) text() string {
	drains, inflight := d.state()
	what := drained(d.pool.Name, d.endpoint)
	generation := " (" + generationText(d.pool.Generation) + ")"
	switch {
	case drains && d.endpoint != "" && d.pool.Draining:
		return what + " drains with its pool" + generation + ": " + underWay(inflight)
	case drains:
		return what + " drains" + generation + ": " + underWay(inflight)
	}
	text := what + " takes requests" + generation
	var others []string
	for _, e := range d.pool.Endpoints {
		if e.Draining {
			others = append(others, e.Address)
		}
	}
	if len(others) > 0 && d.endpoint == "" {
		text += ", without " + strings.Join(others, ", ") + ", which " + map[bool]string{true: "drains", false: "drain"}[len(others) == 1] +
			" by " + map[bool]string{true: "itself", false: "themselves"}[len(others) == 1]
	}
	return text
}

func underWay(inflight int64) string {
	switch inflight {
	case 0:
		return "nothing is under way"
	case 1:
		return "1 request is under way"
	}
	return fmt.Sprintf("%d requests are under way", inflight)
}

// where says at which endpoints of a pool requests are under way.
func (d *draining) where() string {
	var parts []string
	for _, e := range d.pool.Endpoints {
		if e.Inflight > 0 {
			parts = append(parts, fmt.Sprintf("%d at %s", e.Inflight, e.Address))
		}
	}
	if len(parts) == 0 || d.endpoint != "" { // that one is named already
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// wait looks again and again until nothing is under way, and prints what it saw last. A weir that cannot
// be reached may come back: the drain holds over a restart.
func (d *draining) wait(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	said := ""
	var lost error // why the last look failed
	for {
		drains, inflight := d.state()
		what := drained(d.pool.Name, d.endpoint)
		if lost == nil {
			if !drains {
				return fmt.Errorf("the drain of %s was ended before it was over; \"weir history\" says by whom", what)
			}
			if inflight == 0 {
				return d.print()
			}
		}
		now := what + " drains: " + underWay(inflight) + d.where()
		if lost != nil {
			now = lost.Error() + "\nIt is asked again until it answers or the timeout ends"
		}
		if now != said {
			d.cli.complain(errors.New(now))
			said = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err := d.cli.print(d.pool, func(io.Writer) {}); err != nil {
				return err
			}
			why := cmp.Or(lost, fmt.Errorf("%s: %s after %s%s", what, underWay(inflight), about(timeout), d.where()))
			return fmt.Errorf("%w\nThe drain goes on; the same command waits again", why)
		}
		var pool proxy.PoolStatus
		err := d.api.call(ctx, http.MethodGet, poolPath(d.pool.Name), nil, &pool)
		if refused := (*apiError)(nil); errors.As(err, &refused) && refused.status < 500 {
			return err
		}
		if ctx.Err() != nil {
			continue // the timeout ended the call; what was seen before is what is told
		}
		if lost = err; err == nil {
			d.pool = pool
		}
	}
}
