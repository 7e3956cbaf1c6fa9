package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/balancer/experiment"
)

// experimentPoll is the time between two looks at an experiment that is watched.
const experimentPoll = 2 * time.Second

func (c *cli) experiment() *cobra.Command {
	return group("experiment", "Show what an experiment has come to", c.experimentStatus())
}

func (c *cli) experimentStatus() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "status ROUTE", Short: "Show arms, effects with their intervals, and whether to believe them", Args: wantArgs(1, 1),
		Long: "Show arms, effects with their intervals, and whether to believe them. The figures may be looked at as\n" +
			"often as you like, and the experiment ended when they please you: their intervals allow for that.\n\n" +
			"With -o json or yaml it prints the experiment, as GET /api/v1/routes/ROUTE/experiment answers.",
		Example:           "  weir experiment status predict\n  weir experiment status predict -w",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkNames(args...); err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			if watch {
				return c.watchExperiment(cmd.Context(), api, args[0])
			}
			r, err := api.experiment(cmd.Context(), args[0])
			if err != nil {
				return api.meant(cmd.Context(), err, args[0])
			}
			return c.print(r, func(w io.Writer) { writeExperiment(w, &r, c.width(), time.Now()) })
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "print it again whenever it has changed")
	return cmd
}

func (a *client) experiment(ctx context.Context, route string) (r experiment.Result, err error) {
	err = a.call(ctx, http.MethodGet, routePath(route)+"/experiment", nil, &r)
	return r, err
}

// watchExperiment prints an experiment whenever it has changed, until it is interrupted.
func (c *cli) watchExperiment(ctx context.Context, api *client, route string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(experimentPoll)
	defer tick.Stop()
	said := ""
	for {
		r, err := api.experiment(ctx, route)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return api.meant(ctx, err, route)
		}
		var text strings.Builder
		writeExperiment(&text, &r, c.width(), time.Now())
		if now := text.String(); now != said {
			said = now
			if err := c.print(r, func(w io.Writer) { fmt.Fprintln(w, now) }); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// writeExperiment writes an experiment for people, in at most width columns where it can: first what it says.
func writeExperiment(w io.Writer, r *experiment.Result, width int, now time.Time) {
	line := func(indent, format string, args ...any) {
		for _, l := range wrap(printable(fmt.Sprintf(format, args...)), max(width-len(indent), 20)) {
			fmt.Fprintln(w, indent+l)
		}
	}
	line("", "%s: %s", r.Route, r.Sentence)
	line("  ", "since %s; compared with %s; all intervals hold together, at every look, with %s %%", shortTime(r.Began, now), r.Control, number(100*(1-r.Alpha)))
	fmt.Fprintln(w)
	arms := newTable("ARM", ">WEIGHT", ">UNITS", ">REQUESTS")
	for _, arm := range r.Arms {
		arms.row(arm.Name, number(arm.Weight)+" %", fmt.Sprint(arm.Units), fmt.Sprint(arm.Requests))
	}
	arms.write(w)
	fmt.Fprintln(w)
	outcomes := newTable("OUTCOME", "ARM", ">MEAN", ">EFFECT", "INTERVAL", "")
	for i := range r.Arms[0].Outcomes {
		for _, arm := range r.Arms {
			o := &arm.Outcomes[i]
			effect, interval, verdict := "", "", ""
			switch {
			case arm.Name == r.Control:
				effect = "control"
			case o.Effect != nil:
				effect, interval = signedFigure(o.Effect), signedFigure(o.Low)+" to "+signedFigure(o.High)
			}
			if o.Better {
				verdict = "better"
			} else if o.Worse {
				verdict = "worse"
			}
			outcomes.row(o.Name, arm.Name, figure(o.Mean), effect, interval, verdict)
		}
	}
	outcomes.write(w)
	var rest []string
	for _, why := range slices.Sorted(maps.Keys(r.Excluded)) {
		rest = append(rest, fmt.Sprintf("%s %d", why, r.Excluded[why]))
	}
	if len(rest) > 0 {
		line("  ", "requests that are in no comparison: %s", strings.Join(rest, ", "))
	}
	if r.Switched > 0 {
		line("  ", "%d units met another arm when weights changed; from then on they count there", r.Switched)
	}
	if r.Forgotten > 0 {
		line("  ", "%d units were forgotten: what is told later of their requests does not count", r.Forgotten)
	}
	if r.Mismatch {
		line("  ", "units do not go to the arms by their weights (evidence %.3g against 1): look for what treats them differently before they are counted", r.Evidence)
	}
}

// figure is a number of at most four digits that count; empty where there is none.
func figure(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.4g", *v)
}

func signedFigure(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%+.3g", *v)
}
