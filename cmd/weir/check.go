package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/proxy"
	"weir/proxy/admin"
)

func (c *cli) check() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Check a configuration without opening a port",
		Long: "Check a configuration (default weir.yaml) with the loader that serve uses, read the files it\n" +
			"names, and build all it asks for short of opening a port. All faults are printed at once, a line each; the exit status is then 1.",
		Args: wantArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := defaultConfig
			if len(args) > 0 {
				file = args[0]
			}
			cfg, err := config.Load(file)
			if err == nil {
				err = admin.Check(cfg)
			}
			if err == nil {
				err = proxy.Check(cfg)
			}
			return c.report(file, cfg, err)
		},
	}
}

// report prints the outcome of a check. The faults are the data of this command, so they go to stdout.
func (c *cli) report(file string, cfg *config.Config, err error) error {
	answer := struct {
		File   string   `json:"file"`
		OK     bool     `json:"ok"`
		Faults []string `json:"faults"`
	}{file, err == nil, faultLines(err)}
	failed := c.print(answer, func(w io.Writer) {
		for _, line := range answer.Faults {
			fmt.Fprintln(w, printable(line))
		}
		if answer.OK {
			fmt.Fprintf(w, "%s: ok (%s)\n", file, cfg.Summary())
		}
	})
	if failed != nil || answer.OK {
		return failed
	}
	return fmt.Errorf("%s is not valid: %s", file, plural(len(answer.Faults), "fault"))
}

// faultLines are the faults of a configuration, a line each; none for nil.
func faultLines(err error) []string {
	lines := []string{}
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			lines = append(lines, f.Error())
		}
	case err != nil:
		lines = append(lines, err.Error())
	}
	return lines
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
