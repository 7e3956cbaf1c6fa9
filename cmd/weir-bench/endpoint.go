package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/valyala/fasthttp"
)

// endpointBody is what the endpoint answers by default: about what a small model's answer takes.
const endpointBodySize = 150

func endpointCommand() *cobra.Command {
	var listen []string
	var size int
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "Answer every request at once with the same few bytes, to measure a proxy against",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveEndpoint(cmd.Context(), listen, size, func(ln net.Listener) {
				fmt.Fprintf(cmd.ErrOrStderr(), "endpoint on http://%s\n", ln.Addr())
			})
		},
	}
	cmd.Flags().StringSliceVar(&listen, "listen", []string{"127.0.0.1:9001"}, "addresses to listen on, HOST:PORT")
	cmd.Flags().IntVar(&size, "size", endpointBodySize, "length of the body in bytes")
	return cmd
}

// serveEndpoint answers on every address until ctx is done.
func serveEndpoint(ctx context.Context, listen []string, size int, started func(net.Listener)) error {
	if size < 0 || size > 1<<30 {
		return fmt.Errorf("size %d: must be 0 to %d", size, 1<<30)
	}
	body := []byte(strings.Repeat("x", size))
	server := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			if n := ctx.QueryArgs().GetUintOrZero("size"); n > 0 {
				ctx.SetBody(make([]byte, n))
				return
			}
			ctx.SetBody(body)
		},
		NoDefaultServerHeader: true,
		MaxRequestBodySize:    1 << 30,
	}
	failed := make(chan error, len(listen))
	for _, address := range listen {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return errors.Join(err, server.Shutdown())
		}
		started(ln)
		go func() { failed <- server.Serve(ln) }()
	}
	select {
	case <-ctx.Done():
		return server.Shutdown()
	case err := <-failed:
		return err
	}
}
