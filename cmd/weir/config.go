package main

import (
	"encoding/json"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"weir/config"
)

func (c *cli) config() *cobra.Command {
	return group("config", "Show a configuration, or the schema of the file", c.configShow(), c.configSchema())
}

func (c *cli) configShow() *cobra.Command {
	var file string
	var effective bool
	cmd := &cobra.Command{
		Use: "show", Short: "Print the configuration in force, or that of a file", Args: noArgs(""),
		Long: "Print the configuration that a running weir has in force, every default filled in and every\n" +
			"variable replaced. With -c it is the file's, as it is written, or with --effective as weir reads it.\n" +
			"The output is a configuration file again: YAML, or JSON with -o json.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := c.configText(cmd, file, effective)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return writeJSON(c.stdout, json.RawMessage(text))
			}
			if file != "" && !effective {
				_, err = c.stdout.Write(text)
				return err
			}
			return writeYAML(c.stdout, json.RawMessage(text))
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "show this file instead of what a running weir has in force")
	cmd.Flags().BoolVar(&effective, "effective", false, "fill in every default (a running weir always does)")
	return cmd
}

// configText is a configuration as JSON; only that of a file as it is written is YAML, unless JSON was
// asked for.
func (c *cli) configText(cmd *cobra.Command, file string, effective bool) ([]byte, error) {
	if file == "" {
		api, err := c.client()
		if err != nil {
			return nil, err
		}
		var text json.RawMessage
		err = api.call(cmd.Context(), http.MethodGet, "/api/v1/config", nil, &text)
		return text, err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if effective || c.output == "json" {
		return config.RenderJSON(cfg)
	}
	return os.ReadFile(file)
}

func (c *cli) configSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the file, for editors", Args: noArgs(""),
		RunE: func(*cobra.Command, []string) error {
			if c.output == "yaml" {
				return writeYAML(c.stdout, json.RawMessage(config.Schema()))
			}
			return writeJSON(c.stdout, json.RawMessage(config.Schema()))
		},
	}
}
