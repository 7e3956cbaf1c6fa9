package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout bounds the whole question. It is below the timeout of the image's health check, so that the engine gets
// to see why.
const healthTimeout = 2 * time.Second

// healthAnswer is how much of an answer is shown, in bytes.
const healthAnswer = 4 << 10

func healthcheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck [HOST:PORT]",
		Short: "Ask a running weir-backend whether it is ready",
		Long: `Exit 0 when the weir-backend that listens at HOST:PORT (default ` + defaults().listen + `) is ready, 1 when it is not
or cannot be reached. For the health check of an image that has no curl.`,
		Example:       "  weir-backend healthcheck 127.0.0.1:8000",
		Args:          cobra.MaximumNArgs(1),
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			address := defaults().listen
			if len(args) > 0 {
				address = args[0]
			}
			if _, _, err := net.SplitHostPort(address); err != nil {
				return fmt.Errorf("%q is not HOST:PORT: %w", address, err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
			defer cancel()
			answer, err := askReady(ctx, address)
			if err != nil {
				return failure{err}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
			return err
		},
	}
}

// askReady returns the answer of the server at address when it is ready, and an error otherwise. A host that is left out
// is this machine.
func askReady(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/health/ready", nil)
	if err != nil {
		return "", err
	}
	// Not through a proxy of the environment: the question is about this very server.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, healthAnswer))
	if err != nil {
		return "", err
	}
	answer := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s is not ready: %s %s", address, resp.Status, answer)
	}
	return answer, nil
}
