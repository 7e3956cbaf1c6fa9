package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noArgs refuses arguments, and says where what was meant by one belongs, unless that is "".
func noArgs(instead string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("%q takes no argument, and was given %q", cmd.CommandPath(), args[0])
		if instead != "" {
			err = fmt.Errorf("%w: %s", err, instead)
		}
		return err
	}
}

// wantArgs refuses too few and too many arguments, and says what to write.
func wantArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch n := len(args); {
		case n < least:
			return fmt.Errorf("%s given, too few: write weir %s", plural(n, "argument"), cmd.Use)
		case n > most:
			return fmt.Errorf("%s given, too many: write weir %s", plural(n, "argument"), cmd.Use)
		}
		return nil
	}
}

// meantCommand adds to the error for an unknown command the one that was probably meant.
func meantCommand(root *cobra.Command, err error) error {
	var given string
	if _, other := fmt.Sscanf(err.Error(), "unknown command %q for", &given); other != nil {
		return err
	}
	var names []string
	for _, cmd := range root.Commands() {
		names = append(names, cmd.Name())
	}
	return didYouMean(err, "", given, names)
}

// meantFlag adds to the error for an unknown flag the one that was probably meant, and takes the names of
// functions out of one for a value.
func meantFlag(cmd *cobra.Command, err error) error {
	var given string
	var number *strconv.NumError
	if errors.As(err, &number) {
		text, _ := strings.CutSuffix(err.Error(), number.Error())
		return fmt.Errorf("%s%w", text, number.Err)
	}
	if _, other := fmt.Sscanf(err.Error(), "unknown flag: --%s", &given); other != nil {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return didYouMean(err, "--", given, names)
}

func didYouMean(err error, prefix, given string, names []string) error {
	if near, ok := nearest(given, names); ok {
		return fmt.Errorf("%w\nDid you mean %q?", err, prefix+near)
	}
	return err
}
