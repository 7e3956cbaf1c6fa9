package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"weir/internal/state"
)

// rolledBack is what -o json prints.
type rolledBack struct {
	Generation uint64        `json:"generation"`       // in force now
	To         uint64        `json:"to"`               // whose weights and drains those are
	Changed    bool          `json:"changed"`          // false: there was no difference
	Change     *state.Change `json:"change,omitempty"` // as the history has it
}

func (c *cli) rollback() *cobra.Command {
	var flags changeFlags
	var to uint64
	cmd := &cobra.Command{
		Use: "rollback [--to GENERATION]", Short: "Go back to the weights and drains of an earlier generation", Args: noArgs("the generation is given with --to"),
		Long: "Restore the weights of all routes and the drains of all pools as they were in a generation of \"weir\n" +
			"history\"; without --to, those before the last change of routing (all steps of a ramp are one). The file\n" +
			"stays as it is: what is restored lies over it. It is refused (exit status 1) when a route, variant, pool\n" +
			"or endpoint of then is gone, and where \"weir shift\" would be refused unless --force is given.\n\n" +
			"With -o json or yaml it prints {generation, to, changed, change}: the generation in force now, the one\n" +
			"gone back to, whether that made a difference, and if so the entry of the history.",
		Example: "  weir rollback --reason 'v2 answers 500'\n  weir rollback --to 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("to") && to == 0 {
				return usageError("--to 0: generations begin at 1")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			body := struct {
				To uint64 `json:"to,omitempty"`
				change
			}{to, flags.change()}
			var answer rolledBack
			if err := flags.send(ctx, api, http.MethodPost, "/api/v1/rollback", body, &answer); err != nil {
				return err
			}
			if answer.Changed {
				answer.Change = api.changeOf(ctx, answer.Generation)
			}
			return c.print(answer, func(w io.Writer) { writeRollback(w, answer) })
		},
	}
	flags.add(cmd, true, "weir")
	cmd.Flags().Uint64Var(&to, "to", 0, "the generation (default: the one before the last change of routing)")
	_ = cmd.RegisterFlagCompletionFunc("to", c.completeGeneration) // fails for a flag that is not there
	return cmd
}

func writeRollback(w io.Writer, r rolledBack) {
	if !r.Changed {
		fmt.Fprintf(w, "nothing changed: weights and drains are those of generation %d already (generation %d is in force)\n", r.To, r.Generation)
		return
	}
	fmt.Fprintf(w, "back to the weights and drains of generation %d (now generation %d)\n", r.To, r.Generation)
	if r.Change == nil {
		return
	}
	change := *r.Change
	change.To = 0 // said already
	for _, line := range changeLines(change) {
		fmt.Fprintln(w, "  "+printable(line))
	}
}

// changeOf is the change that led to a generation, nil where it cannot be had.
func (a *client) changeOf(ctx context.Context, generation uint64) *state.Change {
	const since = 20 // others may have changed something meanwhile
	changes, err := a.history(ctx, since)
	i := slices.IndexFunc(changes, func(c state.Change) bool { return c.Generation == generation })
	if err != nil || i < 0 {
		return nil
	}
	return &changes[i]
}
