package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/balancer/rollout"
	"weir/proxy/control"
)

// rolloutPoll is the time between two looks at a rollout that is waited for or watched.
const rolloutPoll = 500 * time.Millisecond

func (c *cli) rollout() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rollout", Short: "Move a route to another version in steps that are judged", Args: cobra.NoArgs,
		Long: "Move a route from one version to another, as the key rollout of the route says: by a canary that gets\n" +
			"more of the requests step by step, at once (blue_green), or by weights that go up and down with how it\n" +
			"does (auto). Each step is judged by what both versions met at the same time; a version that is worse\n" +
			"loses its requests again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError("want one of start, status, pause, resume, promote, abort, list")
		},
	}
	cmd.AddCommand(c.rolloutStart(), c.rolloutStatus(), c.rolloutList(),
		c.rolloutOrder("pause", "Hold a rollout where it is", "It is judged all the same: a version that fails is taken back.", "  weir rollout pause predict --reason 'lunch'"),
		c.rolloutOrder("resume", "Go on with a rollout that was paused", "The clock of its step goes on where it stood.", "  weir rollout resume predict"),
		c.rolloutOrder("promote", "Go to the next step at once", "Whatever its hold and its analysis; after the last step the rollout has succeeded.", "  weir rollout promote predict --reason 'looks good'"),
		c.rolloutOrder("abort", "Give all requests back to the old version", "It is in force for the next request.", "  weir rollout abort predict --reason 'wrong model'"))
	return cmd
}

func (c *cli) rolloutStart() *cobra.Command {
	var flags changeFlags
	var to, from, strategy string
	cmd := &cobra.Command{
		Use: "start ROUTE --to VARIANT", Short: "Begin a rollout", Args: wantArgs(1, 1),
		Long: "Begin a rollout of a route to one of its variants. First the new version has to be healthy and to pass\n" +
			"the route's checks, then come the steps. While it goes on nobody else sets the route's weights, unless\n" +
			"by force, which aborts it. A rollout survives a restart of weir.\n\n" +
			"With -o json or yaml it prints the rollout, as GET /api/v1/routes/ROUTE/rollout answers.",
		Example:           "  weir rollout start predict --to green --reason 'model 2.0'\n  weir rollout start predict --to green --strategy blue_green",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError("--to is missing: the variant that is to get the requests, as in weir rollout start %s --to green", args[0])
			}
			body := struct {
				To       string `json:"to"`
				From     string `json:"from,omitempty"`
				Strategy string `json:"strategy,omitempty"`
				change
			}{to, from, strategy, flags.change()}
			names := []string{to}
			if from != "" {
				names = append(names, from)
			}
			s, err := c.changeRollout(cmd.Context(), args[0], "", body, &flags, names)
			if err != nil {
				return err
			}
			if err := c.printRollout(s); err != nil {
				return err
			}
			fmt.Fprintf(c.stderr, "weir: watch it with \"weir rollout status %s -w\", take it back with \"weir rollout abort %s\"\n", s.Route, s.Route)
			return nil
		},
	}
	flags.add(cmd, true, "the route")
	cmd.Flags().StringVar(&to, "to", "", "the new version's variant")
	cmd.Flags().StringVar(&from, "from", "", "the old version's (default: the one with the most weight)")
	cmd.Flags().StringVar(&strategy, "strategy", "", "canary, blue_green or auto (default: the route's)")
	_ = cmd.RegisterFlagCompletionFunc("strategy", cobra.FixedCompletions([]string{"canary", "blue_green", "auto"}, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	for _, name := range []string{"to", "from"} {
		_ = cmd.RegisterFlagCompletionFunc(name, c.completeVariant) // likewise
	}
	return cmd
}

// completeVariant proposes the variants of the route that is named already.
func (c *cli) completeVariant(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.proposals(nil, func(ctx context.Context, api *client) []string { return api.variantNames(ctx, args[0]) }), cobra.ShellCompDirectiveNoFileComp
}

// rolloutOrder is a command that tells a rollout what to do.
func (c *cli) rolloutOrder(verb, short, long, example string) *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{
		Use: verb + " ROUTE", Short: short, Args: wantArgs(1, 1), Example: example,
		Long:              short + ". " + long + "\n\nWith -o json or yaml it prints the rollout, as GET /api/v1/routes/ROUTE/rollout answers.",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.changeRollout(cmd.Context(), args[0], "/"+verb, flags.change(), &flags, nil)
			if err != nil {
				return err
			}
			return c.printRollout(s)
		},
	}
	flags.add(cmd, false, "the route")
	return cmd
}

func (c *cli) changeRollout(ctx context.Context, route, path string, body any, flags *changeFlags, variants []string) (s control.RolloutStatus, err error) {
	if err := checkNames(append([]string{route}, variants...)...); err != nil {
		return s, err
	}
	api, err := c.client()
	if err != nil {
		return s, err
	}
	if err := flags.send(ctx, api, http.MethodPost, routePath(route)+"/rollout"+path, body, &s); err != nil {
		return s, api.meant(ctx, err, route, variants...)
	}
	return s, nil
}

func (c *cli) printRollout(s control.RolloutStatus) error {
	return c.print(s, func(w io.Writer) { writeRollout(w, &s, c.width(), time.Now()) })
}

func (c *cli) rolloutList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Show the rollouts of all routes, under way or their last", Args: noArgs(""),
		Long:    "Show the rollout of each route that is under way, or its last one.\n\nWith -o json or yaml it prints them as GET /api/v1/rollouts answers.",
		Example: "  weir rollout list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			all := []control.RolloutStatus{}
			if err := api.call(cmd.Context(), http.MethodGet, "/api/v1/rollouts", nil, &all); err != nil {
				return err
			}
			return c.print(all, func(w io.Writer) { writeRollouts(w, all, time.Now()) })
		},
	}
}

func (c *cli) rolloutStatus() *cobra.Command {
	var wait, watch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status ROUTE", Short: "Show where a rollout is, and what its analysis found", Args: wantArgs(1, 1),
		Long: "Show the rollout of a route that is under way, or its last one. The exit status is 0, and 3 where it was\n" +
			"aborted.\n\n" +
			"With --wait it returns when the rollout has ended: with 0 where it succeeded, 3 where it was aborted, 1\n" +
			"where it was neither when --timeout was over. That is a gate for a pipeline.\n\n" +
			"With -o json or yaml it prints the rollout, as GET /api/v1/routes/ROUTE/rollout answers.",
		Example:           "  weir rollout status predict -w\n  weir rollout status predict --wait --timeout 1h && echo released",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case cmd.Flags().Changed("timeout") && !wait:
				return usageError("--timeout is how long to --wait, which is not given")
			case timeout <= 0:
				return usageError("--timeout %s: want more than 0", timeout)
			case wait && watch:
				return usageError("either --wait or --watch")
			}
			if err := checkNames(args...); err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			var s control.RolloutStatus
			switch {
			case wait:
				s, err = c.waitForRollout(cmd.Context(), api, args[0], timeout)
			case watch:
				return c.watchRollout(cmd.Context(), api, args[0])
			default:
				s, err = api.rollout(cmd.Context(), args[0])
			}
			if err != nil {
				return api.meant(cmd.Context(), err, args[0])
			}
			if err := c.printRollout(s); err != nil {
				return err
			}
			return verdictOf(&s)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "return when it has ended")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again whenever it has changed, until it has ended")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "with --wait: how long that may take")
	_ = cmd.RegisterFlagCompletionFunc("timeout", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

func verdictOf(s *control.RolloutStatus) error {
	if s.Phase == rollout.Aborted {
		return &exitError{status: exitDegraded}
	}
	return nil
}

func (a *client) rollout(ctx context.Context, route string) (s control.RolloutStatus, err error) {
	err = a.call(ctx, http.MethodGet, routePath(route)+"/rollout", nil, &s)
	return s, err
}

// waitForRollout looks until the rollout has ended. A weir that cannot be reached may come back: the rollout goes on
// after a restart.
func (c *cli) waitForRollout(ctx context.Context, api *client, route string, timeout time.Duration) (s control.RolloutStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(rolloutPoll)
	defer tick.Stop()
	var lost error
	for {
		now, err := api.rollout(ctx, route)
		if refused := (*apiError)(nil); errors.As(err, &refused) && refused.status < 500 {
			return s, err
		}
		if ctx.Err() == nil {
			if lost = err; err == nil {
				s = now
			}
		}
		if lost == nil && s.Phase.Ended() {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, cmp.Or(lost, fmt.Errorf("the rollout of %s is %s after %s: %s\nIt goes on; the same command waits again",
				route, s.Phase, about(timeout), rolloutWhy(&s)))
		}
	}
}

// watchRollout prints a rollout whenever it has changed.
func (c *cli) watchRollout(ctx context.Context, api *client, route string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(rolloutPoll)
	defer tick.Stop()
	said := ""
	for {
		s, err := api.rollout(ctx, route)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return api.meant(ctx, err, route)
		}
		if now := watched(&s); now != said {
			if said != "" {
				fmt.Fprintln(c.stdout)
			}
			said = now
			if err := c.printRollout(s); err != nil {
				return err
			}
		}
		if s.Phase.Ended() {
			return verdictOf(&s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
