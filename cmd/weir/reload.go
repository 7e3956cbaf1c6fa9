package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) reload() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Make a running weir read its file again", Args: cobra.NoArgs,
		Long: "Make a running weir read its file again and wait until the result is in force.\n" +
			"A file with faults changes nothing: the faults are printed, and the exit status is 1.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			var answer struct {
				Generation uint64 `json:"generation"`
			}
			if err := api.call(cmd.Context(), http.MethodPost, "/api/v1/reload", nil, &answer); err != nil {
				return err
			}
			return c.print(answer, func(w io.Writer) { fmt.Fprintf(w, "generation %d is in force\n", answer.Generation) })
		},
	}
}
