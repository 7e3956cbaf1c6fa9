package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionName is the version the linker was told, or else the one the go command recorded.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func (c *cli) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: noArgs(""),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{versionName(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			return c.print(v, func(w io.Writer) { fmt.Fprintf(w, "weir %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch) })
		},
	}
}
