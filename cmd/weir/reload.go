package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) reload() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Make a running weir read its file again", Args: noArgs(""),
		Long: "Make a running weir read its file again, wait until the result is in force, and print what changed. A\n" +
			"file with faults changes nothing: the faults are printed, and the exit status is 1. weir diff shows\n" +
			"beforehand what would change.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			var answer reloaded
			if err := api.call(cmd.Context(), http.MethodPost, "/api/v1/reload", nil, &answer); err != nil {
				return err
			}
			return c.print(answer, answer.write)
		},
	}
}

// reloaded is what a reload came to. Changes is nil where weir is too old to tell.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Changes    []string `json:"changes"`
}

func (r reloaded) write(w io.Writer) {
	for _, line := range r.Changes {
		fmt.Fprintln(w, printable(line))
	}
	if r.Changes != nil && len(r.Changes) == 0 {
		fmt.Fprint(w, "nothing has changed; ")
	}
	fmt.Fprintf(w, "generation %d is in force\n", r.Generation)
}
