package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"weir/bench/compare"
)

// compareOptions are the flags of weir-bench compare.
type compareOptions struct {
	peers, workloads []string
	rounds           int
	warmup, duration time.Duration
	pin              bool
	quota            float64
	output           string
}

func compareCommand() *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure weir against other proxies doing the same work",
		Long: `Measure the CPU time of weir, nginx and HAProxy for a request, doing the same work with the
same endpoint. They take turns within a round, so that a machine whose speed drifts hurts
all alike, and only ratios within a round count. Configurations: bench/peers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCompare(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.peers, "peers", compare.Peers(), "what to compare")
	f.StringSliceVar(&o.workloads, "workloads", []string{"a", "f"}, "a, b, c: 64, 8, 512 connections as fast as answers come; d: 150 KB up; f: 2,500/s")
	f.IntVar(&o.rounds, "rounds", 5, "how often every peer is measured under every workload")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "load before each measurement")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "of each measurement")
	f.BoolVar(&o.pin, "pin", true, "give the proxy a processor to itself, generator and endpoint another")
	f.Float64Var(&o.quota, "quota", compare.DefaultQuota, "share of a processor that a proxy may use in closed loops, so that it is the limit; 0 for all")
	f.StringVarP(&o.output, "output", "o", "text", "text or json")
	return cmd
}

func runCompare(ctx context.Context, o compareOptions, out, messages io.Writer) error {
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("output %q: must be text or json", o.output)
	}
	options := compare.Options{
		Peers: o.peers, Rounds: o.rounds, Warmup: o.warmup, Duration: o.duration, Pin: o.pin, Quota: o.quota,
		Say: func(line string) { fmt.Fprintln(messages, line) },
	}
	var err error
	if options.Workloads, err = compare.Find(o.workloads); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return failure{err}
	}
	options.Programs = filepath.Dir(executable)
	result, err := compare.Run(ctx, options)
	if err != nil {
		return failure{err}
	}
	if o.output == "json" {
		err = result.JSON(out)
	} else {
		err = result.Text(out)
	}
	if err != nil {
		return failure{err}
	}
	return nil
}
