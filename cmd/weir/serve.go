package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
)

// defaultConfig is the file that is read when none is named.
const defaultConfig = "weir.yaml"

func (c *cli) serve() *cobra.Command {
	o := appOptions{}
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the proxy", Args: noArgs("the file is given with -c"),
		Long: "Run the proxy until SIGTERM or SIGINT; then stop accepting, finish what runs, and exit 0. A second\n" +
			"signal quits at once. The file is read again when it changes, on SIGHUP and on \"weir reload\"; one with\n" +
			"faults changes nothing. The log goes to stderr, as JSON, a line an event.",
		RunE: func(*cobra.Command, []string) error {
			if o.drainTimeout <= 0 {
				return usageError("--drain-timeout %s: want more than 0", o.drainTimeout)
			}
			o.version, o.stderr = versionName(), c.stderr
			return c.runApp(o)
		},
	}
	cmd.Flags().StringVarP(&o.file, "config", "c", defaultConfig, "the configuration file")
	cmd.Flags().BoolVar(&o.takeover, "takeover", false, "take the listening sockets over from the weir that runs with this state.file, which then finishes and exits; without one, start as ever")
	cmd.Flags().DurationVar(&o.drainTimeout, "drain-timeout", 30*time.Second, "how long running requests may take to end when stopping")
	return cmd
}

func (c *cli) runApp(o appOptions) error {
	// A reader of the logs that goes away must not take the proxy with it.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	a, err := openApp(o)
	if err != nil {
		var faults config.Faults
		if errors.As(err, &faults) {
			for _, line := range faultLines(err) {
				fmt.Fprintln(c.stderr, printable(line))
			}
			return fmt.Errorf("%s is not valid: %s; nothing was started", o.file, plural(len(faults), "fault"))
		}
		return err
	}
	return a.run(signals)
}
