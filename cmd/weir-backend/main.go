// weir-backend is weir's model server. See the package backend for what it serves.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "unknown"

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// failure is an error of the work itself, as opposed to wrong usage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// execute runs the command that args name and returns the exit status.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := serveCommand(stderr)
	root.AddCommand(healthcheckCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "weir-backend", version)
			return err
		},
	})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "weir-backend:", err)
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	return exitUsage
}

func serveCommand(log io.Writer) *cobra.Command {
	var configFile string
	var flags settings
	cmd := &cobra.Command{
		Use:   "weir-backend --model NAME=PATH[@VERSION]",
		Short: "Serve ONNX models over HTTP and gRPC",
		Long: `weir-backend serves ONNX models: POST /predict, the Open Inference Protocol V2 under /v2,
/health, /health/ready, /health/live, /health/startup and /metrics. With --grpc-listen it serves
the Open Inference Protocol over gRPC too, with the services grpc.health.v1.Health (of the server,
and of a model by its name) and reflection.

Requests for one model can run together (--max-batch). With --model-repository the models of a folder are served;
--model-control lets clients load and unload them by the protocol's repository extension.

A setting is taken from its flag, else from the file of -c, else from the environment
(MODEL_PATH, MODEL_NAME, MODEL_VERSION, ENVIRONMENT, LOG_LEVEL, GRPC_LISTEN), else its default.
ONNX Runtime's shared library is found by --onnxruntime, ORT_DYLIB_PATH, beside the program
(there or in lib), in /usr/lib or /usr/local/lib.`,
		Example:       "  weir-backend --listen 127.0.0.1:8001 --model fashion=models/fashion-v1.onnx --version v1.0.0",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := collect(cmd.Flags(), &flags, configFile, os.Getenv)
			if err != nil {
				return err
			}
			if err := run(cmd.Context(), s, log); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "", "YAML file with the same settings and several models")
	flags.bind(cmd.Flags())
	return cmd
}
