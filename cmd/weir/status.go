package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/state"
	"weir/proxy"
)

func (c *cli) status() *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Show routes, weights against observed shares, pools and endpoints", Args: noArgs(""),
		Long: "Show what a running weir does. The exit status is 0 when all is well and 3 when it is degraded: an\n" +
			"endpoint is not healthy, a variant has none that is, the last reload was rejected, or the state cannot\n" +
			"be saved.\n\n" +
			"Shares are observed since the weights last changed, requests and errors (5xx) since start, quantiles\n" +
			"over the last minute. WEIGHT of an endpoint is the one it was given, NOW the one it has at present.\n\n" +
			"With --watch rates, errors and quantiles are those of the last 10 to 15 seconds, and a mark in each bar\n" +
			"shows where the weight would have it end; it goes on until interrupted, and when weir cannot be reached\n" +
			"says so and tries again. On anything but a terminal it prints again and again.\n\n" +
			"With -o json or yaml it prints the state, as GET /api/v1/status answers.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch && interval < 100*time.Millisecond {
				return usageError("--interval %s: want 100ms or more", interval)
			}
			if !watch && cmd.Flags().Changed("interval") {
				return usageError("--interval goes with --watch")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			if watch {
				return c.watchStatus(cmd.Context(), api, interval)
			}
			var look looked
			if look.look(cmd.Context(), api); look.err != nil {
				return look.err
			}
			v := c.view(look, time.Now())
			if err := c.print(look.status, v.write); err != nil {
				return err
			}
			if look.status.Degraded {
				return &exitError{status: exitDegraded}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep it on screen until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "with --watch: time between two looks")
	_ = cmd.RegisterFlagCompletionFunc("interval", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

// looked is what was seen of a running weir.
type looked struct {
	status proxy.Status
	last   *state.Change
	err    error // nothing new was seen
}

// look looks again. The last change is asked for only when there is another one.
func (l *looked) look(ctx context.Context, api *client) {
	var s proxy.Status
	if l.err = api.call(ctx, http.MethodGet, "/api/v1/status", nil, &s); l.err != nil {
		return
	}
	if l.last == nil || l.last.Generation != s.Generation {
		l.last = nil
		if changes, err := api.history(ctx, 1); err == nil && len(changes) > 0 { // without it the state is shown all the same
			l.last = &changes[0]
		}
	}
	l.status = s
}

func (c *cli) view(l looked, now time.Time) *view {
	return &view{Status: l.status, last: l.last, now: now, width: c.width(), colours: c.colours()}
}
