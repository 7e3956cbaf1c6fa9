package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/bench/compare"
	"weir/bench/scenarios"
)

// scenariosOptions are the flags of weir-bench scenarios.
type scenariosOptions struct {
	scenarios, policies []string
	rounds              int
	warmup, duration    time.Duration
	output, into        string
	from, plots         string
}

func scenariosCommand() *cobra.Command {
	var o scenariosOptions
	cmd := &cobra.Command{
		Use:   "scenarios",
		Short: "Compare policies of balancing before pods that are not alike",
		Long: `Compare weir's policies with each other and with those of nginx and HAProxy before pods that are
not alike: p50, p99, p99.9 and errors under Poisson arrivals that wait for nobody. Pods are
processes that sleep as long as a model server would compute. The policies take turns within a
round, with the same arrivals.

Scenarios:
` + scenarioList() + `

Policies: ` + strings.Join(policyNames(), ", "),
		Example: `  weir-bench scenarios --scenarios slow --rounds 5
  weir-bench scenarios --policies nginx,weir --duration 30s -o json
  weir-bench scenarios --from scenarios.json -o markdown --into docs/balancing.md --plots docs/plots`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runScenarios(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.scenarios, "scenarios", []string{allWorkloads}, "which of the above, or "+allWorkloads)
	f.StringSliceVar(&o.policies, "policies", scenarios.DefaultPolicies(), "what to compare; weir is a pool without the key policy")
	f.IntVar(&o.rounds, "rounds", 3, "how often every policy is measured in every scenario")
	f.DurationVar(&o.warmup, "warmup", 3*time.Second, "load before each measurement")
	f.DurationVar(&o.duration, "duration", 10*time.Second, "of each measurement")
	f.StringVar(&o.from, "from", "", "measure nothing: take what was written to this `FILE` with -o json")
	f.StringVar(&o.plots, "plots", "", "draw each scenario into a file of this `FOLDER`, which markdown then shows")
	f.StringVar(&o.into, "into", "", "put the output into this `FILE`, between the lines "+scenarios.TablesBegin+" and "+scenarios.TablesEnd)
	f.StringVarP(&o.output, "output", "o", "text", strings.Join(scenarios.Formats(), ", "))
	return cmd
}

// scenarioList describes the scenarios, one a line.
func scenarioList() string {
	var b strings.Builder
	for _, s := range scenarios.Scenarios() {
		fmt.Fprintf(&b, "  %-10s %s\n", s.Name, s.Title)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func policyNames() []string {
	var names []string
	for _, p := range scenarios.Policies() {
		names = append(names, p.Name)
	}
	return names
}

func runScenarios(ctx context.Context, o scenariosOptions, out, messages io.Writer) error {
	if !slices.Contains(scenarios.Formats(), o.output) {
		return fmt.Errorf("output %q: must be one of %s", o.output, strings.Join(scenarios.Formats(), ", "))
	}
	chosen := scenarios.Scenarios()
	if !slices.Contains(o.scenarios, allWorkloads) {
		var err error
		if chosen, err = scenarios.Find(o.scenarios); err != nil {
			return err
		}
	}
	policies, err := scenarios.FindPolicies(o.policies)
	if err != nil {
		return err
	}
	if o.into != "" { // before minutes of work rather than after
		if err := place(o.into); err != nil {
			return failure{err}
		}
	}
	executable, err := os.Executable()
	if err != nil {
		return failure{err}
	}
	result, err := o.result(ctx, scenarios.Options{
		Programs: filepath.Dir(executable), Policies: policies, Scenarios: chosen,
		Rounds: o.rounds, Warmup: o.warmup, Duration: o.duration,
		Say: func(line string) { fmt.Fprintln(messages, line) },
	})
	if err != nil {
		return failure{err}
	}
	if o.plots != "" {
		link, err := filepath.Rel(filepath.Dir(o.into), o.plots) // without a document, as the folder is named
		if err == nil {
			err = result.WritePlots(o.plots, filepath.ToSlash(link))
		}
		if err != nil {
			return failure{err}
		}
	}
	return put(result, o.output, out, o.into, scenarios.TablesBegin, scenarios.TablesEnd)
}

// place fails where a document has no place for the tables.
func place(path string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if _, err := compare.Splice(document, scenarios.TablesBegin, scenarios.TablesEnd, nil); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// podCommand is what the scenarios start for each pod.
func podCommand() *cobra.Command {
	var listen, model string
	cmd := &cobra.Command{
		Use:   "pod",
		Short: "Answer as a model server of a scenario would, by sleeping",
		Long: `Answer as a model server would: after a wait in its queue and the time that a request takes, all of
it slept. The scenarios start one for each of their pods.`,
		Example: `  weir-bench pod --model '{"Servers":1,"Service":10000000,"Shape":"exponential"}'`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := scenarios.ParseModel(model)
			if err != nil {
				return err
			}
			ln, err := net.Listen("tcp", listen)
			if err != nil {
				return failure{err}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "pod on http://%s\n", ln.Addr())
			if err := scenarios.Serve(cmd.Context(), ln, m); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9001", "address to listen on, HOST:PORT")
	cmd.Flags().StringVar(&model, "model", "", "how it serves, in JSON; durations in nanoseconds")
	return cmd
}

// result measures, or reads what was measured before.
func (o *scenariosOptions) result(ctx context.Context, run scenarios.Options) (*scenarios.Result, error) {
	if o.from == "" {
		return scenarios.Run(ctx, run)
	}
	return readSaved(o.from, scenarios.Read)
}
