package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) cache() *cobra.Command {
	return group("cache", "Forget answers that are kept", c.purge())
}

func (c *cli) purge() *cobra.Command {
	var flags changeFlags
	var path, prefix string
	cmd := &cobra.Command{
		Use: "purge ROUTE", Short: "Forget answers that the cache of a route keeps",
		Long: "Forget answers that the cache of a route keeps: all of them, those of a path (--path), or those of a path and\n" +
			"of what is below it (--prefix), whatever their query, method and variant. Answers that are on their way\n" +
			"meanwhile are not kept either.\n\n" +
			"With -o json or yaml it prints how many there were, as POST /api/v1/routes/ROUTE/cache/purge answers.",
		Example:           "  weir cache purge predict\n  weir cache purge static --prefix /static/css --reason 'new release'",
		Args:              wantArgs(1, 1),
		ValidArgsFunction: c.completeRoute,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkNames(args...); err != nil {
				return err
			}
			body := map[string]string{}
			for name, value := range map[string]string{"path": path, "prefix": prefix} {
				switch {
				case !cmd.Flags().Changed(name):
				case value == "":
					return usageError("--%s is empty: want a path such as /static", name)
				default:
					body[name] = value
				}
			}
			if len(body) > 1 {
				return usageError("--path and --prefix: want one of them")
			}
			if flags.reason != "" {
				body["reason"] = flags.reason
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			var purged struct {
				Purged int `json:"purged"`
			}
			if err := flags.send(cmd.Context(), api, http.MethodPost, routePath(args[0])+"/cache/purge", body, &purged); err != nil {
				return api.meant(cmd.Context(), err, args[0])
			}
			return c.print(purged, func(w io.Writer) {
				answers := "answers"
				if purged.Purged == 1 {
					answers = "answer"
				}
				fmt.Fprintf(w, "route %s: %d %s purged\n", args[0], purged.Purged, answers)
			})
		},
	}
	flags.add(cmd, false, "the route")
	cmd.Flags().StringVar(&path, "path", "", "only answers at this path")
	cmd.Flags().StringVar(&prefix, "prefix", "", "only answers at this path and below it")
	_ = cmd.RegisterFlagCompletionFunc("path", cobra.NoFileCompletions)   // fails for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("prefix", cobra.NoFileCompletions) // likewise
	return cmd
}
