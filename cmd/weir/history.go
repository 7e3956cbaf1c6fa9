package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"weir/internal/state"
	"weir/proxy"
)

func (c *cli) history() *cobra.Command {
	var n int
	cmd := &cobra.Command{
		Use: "history [ROUTE]", Short: "Show every change of routing: who, when, what and why", Args: wantArgs(0, 1),
		Long: "Show the last changes of routing, the oldest first; with a route, those of its weights and drains of\n" +
			"its pools. weir keeps the last " + strconv.Itoa(state.MaxHistory) + ", with state.file in the configuration also over a restart.\n\n" +
			"With -o json or yaml it prints the list of changes, as GET /api/v1/history answers.",
		Example:           "  weir history\n  weir history predict -n 5\n  weir history -n " + strconv.Itoa(state.MaxHistory) + " -o json",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			if n < 1 {
				return usageError("-n %d: want 1 or more", n)
			}
			if err := checkNames(args...); err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			var changes []state.Change
			if len(args) == 0 {
				changes, err = api.history(cmd.Context(), n)
			} else {
				changes, err = api.routeHistory(cmd.Context(), args[0], n)
			}
			if err != nil {
				return err
			}
			return c.print(changes, func(w io.Writer) { writeHistory(w, changes, c.width(), time.Now()) })
		},
	}
	cmd.Flags().IntVarP(&n, "number", "n", 20, "how many changes, at most")
	_ = cmd.RegisterFlagCompletionFunc("number", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

// history are the last n changes, the oldest first; never nil.
func (a *client) history(ctx context.Context, n int) ([]state.Change, error) {
	changes := []state.Change{}
	err := a.call(ctx, http.MethodGet, "/api/v1/history?limit="+strconv.Itoa(min(n, state.MaxHistory)), nil, &changes)
	return changes, err
}

// routeHistory are the last n of those that changed the weights of a route, or what of its pools drains. One
// that is gone may have some.
func (a *client) routeHistory(ctx context.Context, route string, n int) ([]state.Change, error) {
	changes, err := a.history(ctx, state.MaxHistory)
	if err != nil {
		return nil, err
	}
	pools, known := firstPools(changes, route)
	if !known { // they did not change
		var r proxy.RouteStatus
		if err := a.call(ctx, http.MethodGet, routePath(route), nil, &r); err != nil {
			return nil, a.meant(ctx, err, route)
		}
		for _, v := range r.Variants {
			pools = append(pools, v.Pool)
		}
	}
	changes = slices.DeleteFunc(changes, func(c state.Change) bool {
		concerns := false
		for _, r := range c.Routes {
			if r.Route == route {
				concerns, pools = true, poolsOf(r.After)
			}
		}
		return !concerns && !slices.ContainsFunc(c.Drains, func(d state.DrainChange) bool { return slices.Contains(pools, d.Pool) })
	})
	return changes[max(0, len(changes)-n):], nil
}

// firstPools are those of a route before the first of the changes that is of it; known tells whether there is one.
func firstPools(changes []state.Change, route string) (pools []string, known bool) {
	for _, c := range changes {
		for _, r := range c.Routes {
			if r.Route == route {
				return poolsOf(r.Before), true
			}
		}
	}
	return nil, false
}

func poolsOf(set []state.Weight) (pools []string) {
	for _, w := range set {
		pools = append(pools, w.Pool)
	}
	return pools
}

// writeHistory writes changes for people, in at most width columns.
func writeHistory(w io.Writer, changes []state.Change, width int, now time.Time) {
	const byWidth, gaps = 16, 4 * 2
	t := newTable(">GEN", "TIME", "KIND", "BY", "CHANGE")
	left := width - gaps
	columns := []int{len("GEN"), len("TIME"), len("KIND"), len("BY")}
	for _, c := range changes {
		for i, cell := range []string{strconv.FormatUint(c.Generation, 10), shortTime(c.Time, now), c.Kind, c.By} {
			columns[i] = max(columns[i], cells(cell))
		}
	}
	columns[3] = min(columns[3], byWidth)
	for _, column := range columns {
		left -= column
	}
	for _, c := range changes {
		var what []string
		for _, line := range historyLines(c) {
			what = append(what, wrap(line, left)...)
		}
		by := wrap(c.By, byWidth)
		t.row(strconv.FormatUint(c.Generation, 10), shortTime(c.Time, now), c.Kind, at(by, 0), at(what, 0))
		for i := 1; i < max(len(by), len(what)); i++ {
			t.row("", "", "", at(by, i), at(what, i))
		}
	}
	t.write(w)
}

func historyLines(c state.Change) []string {
	lines := changeLines(c)
	if c.Reason != "" {
		lines = append(lines, "why: "+c.Reason)
	}
	return lines
}

// oneLine is a change in a line.
func oneLine(c state.Change) string {
	text := fmt.Sprintf("generation %d, %s by %s", c.Generation, c.Kind, c.By)
	for i, line := range changeLines(c) {
		text += map[bool]string{true: ": ", false: "; "}[i == 0] + line
	}
	if c.Reason != "" {
		text += " (why: " + c.Reason + ")"
	}
	return text
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
