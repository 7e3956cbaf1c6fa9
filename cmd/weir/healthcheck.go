package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (c *cli) healthcheck() *cobra.Command {
	return &cobra.Command{
		Use: "healthcheck", Short: "Ask a running weir whether it is ready", Args: noArgs(""),
		Long: "Exit 0 when the running weir is ready to take requests, 1 when it is not or cannot be reached.\n" +
			"For the health check of an image that has no curl.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			var answer struct {
				Status string `json:"status"`
			}
			if err := api.call(cmd.Context(), http.MethodGet, "/health/ready", nil, &answer); err != nil {
				return err
			}
			return c.print(answer, func(w io.Writer) { fmt.Fprintln(w, answer.Status) })
		},
	}
}
