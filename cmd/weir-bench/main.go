// weir-bench is weir's load tester. See the package bench for what it measures and how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // the work failed, or its figures are beyond a threshold
	exitUsage  = 2
)

// failure is an error of the work itself, as opposed to wrong usage.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// execute runs the command that args name and returns the exit status.
func execute(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use:           "weir-bench",
		Short:         "Load test HTTP servers, and weir's splits in particular",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCommand(), demoCommand(), compareCommand(), scenariosCommand(), rolloutsCommand(), endpointCommand(), podCommand())
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "weir-bench:", err)
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	return exitUsage
}
