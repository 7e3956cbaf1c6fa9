package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses, the same for every command.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitDegraded = 3
)

// exitError is an error that ends the program with a status of its own. Without a cause nothing is
// printed: the data on stdout has said it.
type exitError struct {
	status int
	cause  error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.cause.Error()
}

func (e *exitError) Unwrap() error { return e.cause }

// usageError is about how the command was called.
func usageError(format string, args ...any) error {
	return &exitError{status: exitUsage, cause: fmt.Errorf(format, args...)}
}

// cli is what all commands share: where they write, and the flags that are everywhere.
type cli struct {
	stdout, stderr io.Writer
	getenv         func(string) string

	admin   string // --admin
	token   string // --token-file
	ca      string // --ca-file
	output  string // --output
	running bool   // the arguments were understood; an error from here on is not one of usage
}

func newCLI(stdout, stderr io.Writer, getenv func(string) string) *cli {
	return &cli{stdout: stdout, stderr: stderr, getenv: getenv}
}

// run parses the arguments, runs the command they name and returns the exit status.
func (c *cli) run(args []string) int {
	root := c.root()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	status := exitFailed
	if !c.running {
		status, err = exitUsage, meantCommand(root, err)
	}
	var exit *exitError
	if errors.As(err, &exit) {
		status = exit.status
		err = exit.cause
	}
	if err != nil {
		c.complain(err)
	}
	if status == exitUsage {
		fmt.Fprintln(c.stderr, `weir: try "weir --help", or --help after any command`)
	}
	return status
}

// complain writes an error to stderr, each of its lines marked as weir's.
func (c *cli) complain(err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(c.stderr, "weir:", strings.TrimSuffix(line, "\n"))
	}
}

func outputFormats() []string { return []string{"table", "json", "yaml"} }

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "weir",
		Short:         "A load balancer that splits traffic between versions of a model",
		SilenceUsage:  true,
		SilenceErrors: true,
		// In words and on lines of its own; meantCommand does that.
		DisableSuggestions: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.output != "" && !slices.Contains(outputFormats(), c.output) {
				return usageError("unknown output format %q (have %s)", c.output, strings.Join(outputFormats(), ", "))
			}
			c.running = true
			return nil
		},
	}
	root.SetFlagErrorFunc(meantFlag)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&c.admin, "admin", "", "URL of the running weir's admin API (default $WEIR_ADMIN, else "+defaultAdmin+")")
	flags.StringVar(&c.token, "token-file", "", "file with the token of the admin API, or its own token file (default: the token is $WEIR_TOKEN)")
	flags.StringVar(&c.ca, "ca-file", "", "PEM file with the authority of the admin API's certificate, besides those of the system (default $WEIR_CA)")
	flags.StringVarP(&c.output, "output", "o", "", "table, json or yaml")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(outputFormats(), cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there
	_ = root.RegisterFlagCompletionFunc("admin", cobra.NoFileCompletions)                                                      // likewise
	root.AddCommand(c.serve(), c.check(), c.diff(), c.status(), c.shift(), c.switchTo(), c.drain(), c.undrain(), c.rollout(), c.experiment(), c.cache(), c.mirror(),
		c.history(), c.rollback(), c.events(), c.reload(), c.snapshot(), c.restore(), c.config(), c.healthcheck(), c.version())
	root.InitDefaultCompletionCmd() // now, not by Execute: of itself it shows its help whatever shell is named
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			onlyHolds(cmd, "shell")
		}
	}
	return root
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short}
	g.AddCommand(commands...)
	onlyHolds(g, "command")
	return g
}

// onlyHolds makes it wrong usage to name none of the commands of g, or an unknown one; what says what they
// are.
func onlyHolds(g *cobra.Command, what string) {
	var names []string
	for _, sub := range g.Commands() {
		names = append(names, sub.Name())
	}
	have := strings.Join(names, ", ")
	g.Args = cobra.ArbitraryArgs
	g.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError("unknown %s %q for %q (have %s)", what, args[0], cmd.CommandPath(), have)
		}
		return usageError("%q needs a %s (have %s)", cmd.CommandPath(), what, have)
	}
}
