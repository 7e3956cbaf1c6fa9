package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/proxy"
)

func (c *cli) diff() *cobra.Command {
	var as string
	var exitCode bool
	cmd := &cobra.Command{
		Use: "diff [FILE]", Short: "Show what a file would change, before a reload", Args: wantArgs(0, 1),
		Long: "Compare a file (default weir.yaml) with the configuration that a running weir has in force, every\n" +
			"default filled in: + came, - went, ~ changed. Then ! says which weights set through the API would be\n" +
			"replaced, and what no reload can change.\n\n" +
			"The file is read here: with the variables of this environment, and relative paths resolved against its\n" +
			"directory. Where weir runs elsewhere, --as names the path that the file has there.\n\n" +
			"A file with faults is answered as by check, with exit status 1. Differences are no error, unless\n" +
			"--exit-code is given.",
		Example: "  weir diff\n  weir diff --exit-code --as /etc/weir/weir.yaml next.yaml\n  weir diff -o json next.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultConfig
			if len(args) > 0 {
				file = args[0]
			}
			next, err := loadAs(file, as)
			if err != nil {
				return c.report(file, nil, err)
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			found, err := api.diff(cmd.Context(), next)
			if err != nil {
				return err
			}
			if len(found.Differences) == 0 {
				fmt.Fprintln(c.stderr, "weir: no difference")
			}
			if err := c.print(found, func(w io.Writer) { found.write(w, c.colours()) }); err != nil {
				return err
			}
			if exitCode && len(found.Differences) > 0 {
				return &exitError{status: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "path that the file has where weir runs, for the relative paths in it (default: where it is)")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 when there are differences")
	return cmd
}

// loadAs loads a file, with relative paths as if it were the one that as names unless that is "". Its
// faults name the file all the same.
func loadAs(file, as string) (*config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil || as == "" {
		return cfg, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return config.Parse(as, text)
}

// outlook is what a reload of a file would do.
type outlook struct {
	Differences []config.Difference `json:"differences"`
	// ReplacedWeights are the routes whose weights, set through the API, end because their split changes.
	ReplacedWeights []replacedWeights `json:"replaced_weights"`
	// Restart are the keys that a reload cannot change: it is refused.
	Restart []string `json:"restart"`
}

type replacedWeights struct {
	Route   string             `json:"route"`
	Weights map[string]float64 `json:"weights"` // set through the API
	Ramp    bool               `json:"ramp"`    // they are on their way to others
	text    string
}

// diff compares next with what is in force.
func (a *client) diff(ctx context.Context, next *config.Config) (*outlook, error) {
	var text json.RawMessage
	if err := a.call(ctx, http.MethodGet, "/api/v1/config", nil, &text); err != nil {
		return nil, err
	}
	old, err := config.ParseRendered(text)
	if err != nil {
		return nil, fmt.Errorf("the configuration in force cannot be read (is it another version of weir?): %w", err)
	}
	var status proxy.Status
	if err := a.call(ctx, http.MethodGet, "/api/v1/status", nil, &status); err != nil {
		return nil, err
	}
	found := &outlook{Differences: config.Diff(old, next), ReplacedWeights: []replacedWeights{}, Restart: []string{}}
	if found.Differences == nil {
		found.Differences = []config.Difference{}
	}
	for _, r := range status.Routes {
		if r.Overlay && splitChanges(old, next, r.Name) {
			found.ReplacedWeights = append(found.ReplacedWeights, replaced(r))
		}
	}
	for _, fault := range restartFaults("", old, next) {
		found.Restart = append(found.Restart, fault.Key)
	}
	return found, nil
}

// splitChanges reports whether both configurations have a route and its split differs.
func splitChanges(old, next *config.Config, route string) bool {
	named := func(r config.Route) bool { return r.Name == route }
	i, k := slices.IndexFunc(old.Routes, named), slices.IndexFunc(next.Routes, named)
	return i >= 0 && k >= 0 && !slices.Equal(old.Routes[i].Split, next.Routes[k].Split)
}

func replaced(r proxy.RouteStatus) replacedWeights {
	w := replacedWeights{Route: r.Name, Weights: map[string]float64{}, Ramp: r.Ramp != nil, text: weightsText(r)}
	for _, v := range r.Variants {
		w.Weights[v.Pool] = v.Weight
	}
	return w
}

// write writes it for people.
func (o *outlook) write(w io.Writer, colours bool) {
	for _, d := range o.Differences {
		switch line := printable(d.String()); {
		case d.Before == "" && d.After != "":
			fmt.Fprintln(w, paint("+ "+line, green, colours))
		case d.After == "" && d.Before != "":
			fmt.Fprintln(w, paint("- "+line, red, colours))
		default:
			fmt.Fprintln(w, "~ "+line)
		}
	}
	for _, r := range o.ReplacedWeights {
		ramp := ""
		if r.Ramp {
			ramp = " and ends their ramp"
		}
		fmt.Fprintf(w, "! route %s: the new split replaces the weights set through the API (%s)%s\n", printable(r.Route), printable(r.text), ramp)
	}
	for _, key := range o.Restart {
		fmt.Fprintf(w, "! %s takes a restart: a reload would be refused\n", key)
	}
}
