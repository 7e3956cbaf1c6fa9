package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy"
)

func (c *cli) mirror() *cobra.Command {
	return &cobra.Command{
		Use: "mirror ROUTE", Short: "Show whether a shadow answers as the route does, and where it does not", Args: wantArgs(1, 1),
		Long: "Show what became of the copies of a route's requests that go to the pool of its mirror: how many were\n" +
			"sent, how often both answers agree, how much slower the shadow is, and the last answers that disagree.\n" +
			"It counts for as long as the pool and what is compared stay the same.\n\n" +
			"With -o json or yaml it prints all that is known, as GET /api/v1/routes/ROUTE/mirror answers.",
		Example:           "  weir mirror predict\n  weir mirror predict -o json | jq '.disagreements[] | {request_id, primary, shadow}'",
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkNames(args...); err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			report, err := api.mirror(cmd.Context(), args[0])
			if err != nil {
				return api.meant(cmd.Context(), err, args[0])
			}
			return c.print(report, func(w io.Writer) { writeMirror(w, report, c.width(), time.Now()) })
		},
	}
}

func (a *client) mirror(ctx context.Context, route string) (report proxy.MirrorReport, err error) {
	err = a.call(ctx, http.MethodGet, "/api/v1/routes/"+url.PathEscape(route)+"/mirror", nil, &report)
	return report, err
}

// writeMirror writes a report for people, in at most width columns.
func writeMirror(w io.Writer, r proxy.MirrorReport, width int, now time.Time) {
	line := func(format string, args ...any) {
		fmt.Fprintln(w, clip(printable(fmt.Sprintf(format, args...)), width))
	}
	m := &r.Mirror
	line("%s: %s%% goes to %s", r.Route, number(m.Percent), m.Pool)
	line("  %d sent, %d under way, %d skipped", m.Sent, m.Active, m.Skipped)
	if m.Agreement != nil {
		line("  %s of %d pairs of answers agree", percent(*m.Agreement), m.Compared)
	}
	if m.P50 != nil && m.P95 != nil {
		line("  the shadow is %s (p50), %s (p95)", slower(*m.P50), slower(*m.P95))
	}
	line("  errors: %d of the shadow, %d of the route", m.ErrorsShadow, m.ErrorsPrimary)
	for i, d := range r.Disagreements {
		if i == 0 {
			fmt.Fprintln(w)
			line("Answers that disagree, the newest first:")
		}
		line("%s  %s  %s %s", shortTime(d.Time, now), d.RequestID, d.Method, d.Path)
		what := d.Reason
		if d.Field != "" {
			what = d.Field + ": " + what
		}
		line("  %s", what)
		line("  route   %d  %s", d.PrimaryStatus, d.Primary)
		line("  shadow  %d  %s", d.ShadowStatus, d.Shadow)
	}
}
