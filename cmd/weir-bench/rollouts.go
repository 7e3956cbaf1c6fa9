package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/bench/rollouts"
)

// rolloutsOptions are the flags of weir-bench rollouts.
type rolloutsOptions struct {
	rollouts.Options
	from, output, into, plots string
}

func rolloutsCommand() *cobra.Command {
	var o rolloutsOptions
	cmd := &cobra.Command{
		Use:   "rollouts",
		Short: "Roll out versions that are as good, and worse ones, and see what weir makes of them",
		Long: `Make rollouts of a running weir, under real requests, to versions that are as good as the old one and to
worse ones: how many good ones are given up, how many requests it takes to find a bad one, and how
soon the old version has all requests again. The errors and latencies of both versions go up and
down together, as load does.`,
		Example: `  weir-bench rollouts --good 90 --bad 10
  weir-bench rollouts -o json >rollouts.json
  weir-bench rollouts --from rollouts.json -o markdown --into docs/rollouts.md --plots docs/plots`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Say = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
			return o.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Good, "good", 120, "rollouts of versions that are as good, at three rates of errors")
	f.IntVar(&o.Bad, "bad", 16, "rollouts of each worse version")
	f.IntVar(&o.AtOnce, "at-once", 6, "rollouts at one time, each of a route of its own")
	f.IntVar(&o.Clients, "clients", 48, "connections that requests come over, one after the other on each")
	f.DurationVar(&o.Look, "look", 500*time.Millisecond, "from one look of the analysis to the next; a step has ten")
	f.StringVar(&o.from, "from", "", "roll nothing out: take what was written to this `FILE` with -o json")
	f.StringVar(&o.plots, "plots", "", "draw single rollouts into files of this `FOLDER`, which markdown then shows")
	f.StringVar(&o.into, "into", "", "put the output into this `FILE`, between the lines "+rollouts.TablesBegin+" and "+rollouts.TablesEnd)
	f.StringVarP(&o.output, "output", "o", "text", strings.Join(rollouts.Formats(), ", "))
	return cmd
}

func (o *rolloutsOptions) run(ctx context.Context, out io.Writer) error {
	if !slices.Contains(rollouts.Formats(), o.output) {
		return fmt.Errorf("output %q: must be one of %s", o.output, strings.Join(rollouts.Formats(), ", "))
	}
	for _, n := range []int{o.Good, o.Bad, o.AtOnce, o.Clients} {
		if n < 1 {
			return fmt.Errorf("--good, --bad, --at-once, --clients: %d must be at least 1", n)
		}
	}
	if o.Look < 10*time.Millisecond {
		return fmt.Errorf("--look %s: must be at least 10ms", o.Look)
	}
	result, err := o.result(ctx)
	if err == nil && o.plots != "" {
		var link string
		if link, err = filepath.Rel(filepath.Dir(o.into), o.plots); err == nil {
			err = result.WritePlots(o.plots, filepath.ToSlash(link))
		}
	}
	if err != nil {
		return failure{err}
	}
	return put(result, o.output, out, o.into, rollouts.TablesBegin, rollouts.TablesEnd)
}

// result makes the rollouts, or reads what became of those before.
func (o *rolloutsOptions) result(ctx context.Context) (*rollouts.Result, error) {
	if o.from != "" {
		return readSaved(o.from, rollouts.Read)
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	o.Programs = filepath.Dir(executable)
	version, err := exec.CommandContext(ctx, filepath.Join(o.Programs, "weir"), "version").Output()
	if err != nil {
		return nil, err
	}
	result, err := rollouts.Run(ctx, o.Options)
	if err == nil {
		result.Weir = strings.TrimPrefix(strings.TrimSpace(string(version)), "weir ")
	}
	return result, err
}
