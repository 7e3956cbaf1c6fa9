package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"weir/bench/demo"
)

// demoUsers is how many users the demonstration's requests come from.
const demoUsers = 2000

func demoCommand() *cobra.Command {
	o := demo.Options{Port: demo.DefaultPort, AdminPort: demo.DefaultAdminPort}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show weir splitting live traffic between two versions of a model",
		Long: `Start two versions of a model, weir before them at 90/10 with users kept on their version,
and a steady load of labelled images; show live what weir does with it. weir and
weir-backend are taken from the folder that holds weir-bench.

With --duration it shifts the weights on the way, ends by itself with a summary, and exits
with 1 when a request failed, a user changed variant, or a share or an accuracy is not what
it should be. Nothing is left running, however it ends.

With --rollout good a better model is rolled out by weir rollout, judged by errors, latency and
whether its answers are right, and promoted; with bad one that is right less often and one that
is slow are taken back. It ends with that, and exits with 1 when it comes otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rollout != "" { // small differences take many users
				if !cmd.Flags().Changed("rate") {
					o.Rate = 400
				}
				if !cmd.Flags().Changed("users") {
					o.Users = 50_000
				}
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Models, "models", filepath.FromSlash("backend/models"), "folder of the models and the sample of images")
	f.Float64Var(&o.Rate, "rate", 200, "requests a second")
	f.IntVar(&o.Users, "users", demoUsers, "users the requests come from")
	f.Uint64Var(&o.Seed, "seed", 1, "same seed, same schedule, users and images")
	f.DurationVar(&o.Duration, "duration", 0, "end after so long, with a verdict (default: run until Ctrl-C)")
	f.StringVar(&o.Rollout, "rollout", "", "roll a version out instead: good, which has to be promoted, or bad, two that have to be taken back")
	f.BoolVar(&o.Tour, "tour", false, "shift the weights on the way (always with --duration, and without a terminal)")
	return cmd
}

func runDemo(ctx context.Context, o demo.Options, out io.Writer) error {
	switch {
	case o.Duration < 0:
		return errors.New("--duration must not be negative")
	case o.Rollout != "" && o.Rollout != demo.RolloutGood && o.Rollout != demo.RolloutBad:
		return errors.New("--rollout must be good or bad")
	case o.Users < 1:
		return errors.New("--users must be at least 1")
	}
	executable, err := os.Executable()
	if err != nil {
		return failure{err}
	}
	o.Programs = filepath.Dir(executable)
	o.Command = shown(filepath.Join(o.Programs, "weir"))
	o.Models = beside(o.Models, o.Programs)
	o.Out = out
	if f, ok := out.(*os.File); ok {
		o.Width, o.Terminal = terminal(f)
	}
	o.Color = o.Terminal && os.Getenv("NO_COLOR") == ""
	o.Tour = o.Rollout == "" && (o.Tour || o.Duration > 0 || !o.Terminal)
	if err := demo.Run(ctx, o); err != nil {
		return failure{err}
	}
	return nil
}

// shown writes a path as a user in the present folder would.
func shown(path string) string {
	folder, err := os.Getwd()
	if err != nil {
		return path
	}
	if relative, err := filepath.Rel(folder, path); err == nil && !strings.HasPrefix(relative, "..") {
		return relative
	}
	return path
}

// beside finds a relative folder that is not in the present one beside the folder of the
// programs, where the repository has it.
func beside(folder, programs string) string {
	if filepath.IsAbs(folder) || exists(folder) {
		return folder
	}
	if other := filepath.Join(filepath.Dir(programs), folder); exists(other) {
		return other
	}
	return folder
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
