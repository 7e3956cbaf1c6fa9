package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy"
)

func (c *cli) status() *cobra.Command {
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "status", Short: "Show routes, weights against observed shares, pools and endpoints", Args: cobra.NoArgs,
		Long: "Show what a running weir does. The exit status is 0 when all is well and 3 when it is degraded: an\n" +
			"endpoint is not healthy, a variant has none that is, or the last reload was rejected.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			if watch {
				if interval < 100*time.Millisecond {
					return usageError("--interval %s: want 100ms or more", interval)
				}
				return c.watchStatus(api, interval)
			}
			var s proxy.Status
			if err := api.call(cmd.Context(), http.MethodGet, "/api/v1/status", nil, &s); err != nil {
				return err
			}
			if err := c.print(s, func(w io.Writer) { writeStatus(w, s, c.colours()) }); err != nil {
				return err
			}
			if s.Degraded {
				return &exitError{status: exitDegraded}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep it on screen until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "with --watch: time between two looks")
	return cmd
}

// watchStatus shows the state again and again, in place on a terminal, until it is interrupted. A weir
// that cannot be reached may come back.
func (c *cli) watchStatus(api *client, interval time.Duration) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	inPlace := isTerminal(c.stdout) && c.output != "json" && c.output != "yaml"
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		var frame strings.Builder
		var s proxy.Status
		err := api.call(ctx, http.MethodGet, "/api/v1/status", nil, &s)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !inPlace:
			c.complain(err)
		case err != nil:
			fmt.Fprintln(&frame, err)
		default:
			view := cli{stdout: &frame, output: c.output}
			if err := view.print(s, func(w io.Writer) { writeStatus(w, s, c.colours()) }); err != nil {
				return err
			}
		}
		if err := c.show(frame.String(), inPlace); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// show writes a frame; in place, it overwrites the one before line by line, which does not flicker.
func (c *cli) show(frame string, inPlace bool) error {
	if inPlace {
		const home, clearLine, clearBelow = "\x1b[H", "\x1b[K", "\x1b[J"
		frame = home + strings.ReplaceAll(frame, "\n", clearLine+"\n") + clearBelow
	}
	_, err := io.WriteString(c.stdout, frame)
	if errors.Is(err, syscall.EPIPE) {
		return nil // the reader, such as head, has seen enough
	}
	return err
}

func (c *cli) colours() bool { return c.getenv("NO_COLOR") == "" && isTerminal(c.stdout) }
