package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	from, output     string
	into             string
}

// allWorkloads stands for the names of all.
const allWorkloads = "all"

func compareCommand() *cobra.Command {
	var o compareOptions
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure weir against other proxies doing the same work",
		Long: `Measure the CPU time, the system calls, the context switches and the latency of weir (with
both of its engines), nginx, HAProxy and Caddy for a request, doing the same work with the same
endpoint. They take turns within a round, so that a machine whose speed drifts hurts all alike,
and only ratios within a round count. Their configurations are in bench/peers.

Workloads:
` + workloadList(),
		Example: `  weir-bench compare --workloads a,b,f --rounds 5
  weir-bench compare --workloads all -o json > benchmark.json
  weir-bench compare --from benchmark.json -o markdown --into README.md`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCompare(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.peers, "peers", compare.Peers(), "what to compare")
	f.StringSliceVar(&o.workloads, "workloads", []string{"a", "b", "f"}, "which of the above, or "+allWorkloads)
	f.IntVar(&o.rounds, "rounds", 5, "how often every peer is measured under every workload")
	f.DurationVar(&o.warmup, "warmup", 500*time.Millisecond, "load before each measurement")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "of each measurement")
	f.BoolVar(&o.pin, "pin", true, "give the proxy a processor to itself, generator and endpoint another")
	f.Float64Var(&o.quota, "quota", compare.DefaultQuota, "share of a processor that a proxy may use in closed loops, so that it is the limit; 0 for no limit")
	f.StringVar(&o.from, "from", "", "measure nothing: read what -o json wrote to this `FILE`")
	f.StringVar(&o.into, "into", "", "put the output into this `FILE`, between the lines "+compare.TablesBegin+" and "+compare.TablesEnd)
	f.StringVarP(&o.output, "output", "o", "text", strings.Join(compare.Formats(), ", "))
	return cmd
}

// workloadList describes the workloads, one a line.
func workloadList() string {
	var b strings.Builder
	for _, w := range compare.Workloads() {
		fmt.Fprintf(&b, "  %-10s %s\n", w.Name, w.Title)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func runCompare(ctx context.Context, o compareOptions, out, messages io.Writer) error {
	if !slices.Contains(compare.Formats(), o.output) {
		return fmt.Errorf("output %q: must be one of %s", o.output, strings.Join(compare.Formats(), ", "))
	}
	if slices.Contains(o.workloads, allWorkloads) {
		o.workloads = nil
		for _, w := range compare.Workloads() {
			o.workloads = append(o.workloads, w.Name)
		}
	}
	workloads, err := compare.Find(o.workloads)
	if err != nil {
		return err
	}
	result, err := o.result(ctx, workloads, messages)
	if err != nil {
		return failure{err}
	}
	return put(result, o.output, out, o.into, compare.TablesBegin, compare.TablesEnd)
}

// result measures, or reads what was measured before.
func (o *compareOptions) result(ctx context.Context, workloads []compare.Workload, messages io.Writer) (*compare.Result, error) {
	if o.from != "" {
		return readSaved(o.from, compare.Read)
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return compare.Run(ctx, compare.Options{
		Programs: filepath.Dir(executable), Peers: o.peers, Workloads: workloads,
		Rounds: o.rounds, Warmup: o.warmup, Duration: o.duration, Rest: compare.DefaultRest, Pin: o.pin, Quota: o.quota,
		Say: func(line string) { fmt.Fprintln(messages, line) },
	})
}

// readSaved reads a result that was written to a file before.
func readSaved[T any](path string, read func(io.Reader) (*T, error)) (*T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	result, err := read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return result, nil
}

// put writes a result in a format to out, or where into names a document, between two of its lines.
func put(result interface{ Write(io.Writer, string) error }, format string, out io.Writer, into, begin, end string) error {
	var b bytes.Buffer
	err := result.Write(&b, format)
	switch {
	case err != nil:
	case into != "":
		err = splice(into, begin, end, b.Bytes())
	default:
		_, err = out.Write(b.Bytes())
	}
	if err != nil {
		return failure{err}
	}
	return nil
}

// splice puts tables into a document, between two of its lines.
func splice(path, begin, end string, tables []byte) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	document, err = compare.Splice(document, begin, end, tables)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, document, 0o644)
}
