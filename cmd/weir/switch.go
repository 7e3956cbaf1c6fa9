package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) switchTo() *cobra.Command {
	var flags changeFlags
	var back bool
	cmd := &cobra.Command{
		Use: "switch ROUTE VARIANT | weir switch ROUTE --back", Short: "Send all traffic of a route to one variant, or undo that",
		Long: "Send all traffic of a route to one variant, all at once, from the next request on. --back restores the\n" +
			"weights before the last switch; it is a switch too, so that once more --back undoes it.\n\n" +
			"A variant without a usable endpoint, or whose endpoints are said to bear less, is refused (exit status 1)\n" +
			"unless --force is given.\n\n" +
			"With -o json or yaml it prints the route, as GET /api/v1/routes/ROUTE answers.",
		Example:           "  weir switch predict green --reason 'v2 is fine'\n  weir switch predict --back",
		Args:              wantArgs(1, 2),
		ValidArgsFunction: c.completeSwitch,
		RunE: func(cmd *cobra.Command, args []string) error {
			if back == (len(args) == 2) {
				return usageError("name either the variant that is to get all traffic or --back: weir switch %s VARIANT", args[0])
			}
			body := struct {
				To   string `json:"to,omitempty"`
				Back bool   `json:"back,omitempty"`
				change
			}{Back: back, change: flags.change()}
			if !back {
				if body.To = args[1]; body.To == "" {
					return usageError(`"" is no name of a variant`)
				}
			}
			return c.changeRoute(cmd.Context(), http.MethodPost, args[0], "/switch", body, &flags, args[1:])
		},
	}
	flags.add(cmd, true, "the route")
	cmd.Flags().BoolVar(&back, "back", false, "restore the weights before the last switch")
	return cmd
}
