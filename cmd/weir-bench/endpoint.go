package main

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"weir/bench/endpoint"
)

// endpointBodySize is what the endpoint answers by default: about what a small model's answer takes.
const endpointBodySize = 150

func endpointCommand() *cobra.Command {
	var listen []string
	var size int
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "Answer every request at once with the same few bytes, to measure a proxy against",
		Long: `Answer every request at once with a body of a fixed length, which a request may choose
itself: /predict?size=1048576. It takes HTTP/1.1 with Content-Length only, and on Linux HTTP/2 by
prior knowledge, over which it answers gRPC with one message; and little CPU.

/events?every=20ms is, on Linux, an endless stream of events, or of messages of gRPC, which tell
when they were sent, in nanoseconds since 1970.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveEndpoint(cmd.Context(), listen, size, func(address net.Addr) {
				fmt.Fprintf(cmd.ErrOrStderr(), "endpoint on http://%s\n", address)
			})
		},
	}
	cmd.Flags().StringSliceVar(&listen, "listen", []string{"127.0.0.1:9001"}, "addresses to listen on, HOST:PORT")
	cmd.Flags().IntVar(&size, "size", endpointBodySize, "length of the body in bytes")
	return cmd
}

// serveEndpoint answers on every address until ctx is done.
func serveEndpoint(ctx context.Context, listen []string, size int, started func(net.Addr)) error {
	listeners, err := endpoint.Listen(listen)
	if err != nil {
		return failure{err}
	}
	for _, ln := range listeners {
		started(ln.Addr())
	}
	return endpoint.Serve(ctx, listeners, size)
}
