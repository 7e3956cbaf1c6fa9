package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy"
)

func (c *cli) shift() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "shift ROUTE VARIANT=WEIGHT...", Short: "Set the weights of a route's variants",
		Long: "Set the weights of a route's variants, from the next request on. Weights are relative, and every\n" +
			"variant of the route needs one; 0 takes no new requests.",
		Example:           "  weir shift predict blue=90 green=10\n  weir shift predict blue=99.5 green=0.5 --reason 'first look at v2'",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: c.completeShift,
		RunE: func(cmd *cobra.Command, args []string) error {
			weights, err := parseWeights(args[1:])
			if err != nil {
				return err
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			body := struct {
				Weights map[string]float64 `json:"weights"`
				Reason  string             `json:"reason,omitempty"`
			}{weights, reason}
			var route proxy.RouteStatus
			if err := api.call(cmd.Context(), http.MethodPut, "/api/v1/routes/"+url.PathEscape(args[0])+"/weights", body, &route); err != nil {
				return err
			}
			return c.print(route, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s (generation %d)\n", route.Name, weightsText(route), route.Generation)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return cmd
}

func weightsText(route proxy.RouteStatus) string {
	var parts []string
	for _, v := range route.Variants {
		parts = append(parts, v.Pool+"="+number(v.Weight))
	}
	return strings.Join(parts, " ")
}

// parseWeights reads arguments such as blue=90.
func parseWeights(args []string) (map[string]float64, error) {
	weights := map[string]float64{}
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, usageError("%q is no weight: write VARIANT=WEIGHT, such as blue=90", arg)
		}
		weight, err := strconv.ParseFloat(text, 64)
		if err != nil || weight < 0 || math.IsNaN(weight) || math.IsInf(weight, 0) {
			return nil, usageError("%q: the weight must be a number from 0 up, such as %s=90", arg, name)
		}
		if _, twice := weights[name]; twice {
			return nil, usageError("variant %q is named twice", name)
		}
		weights[name] = weight
	}
	return weights, nil
}

// completeShift asks the running weir for its routes, then for the variants of the one named.
func (c *cli) completeShift(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	api, err := c.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var routes []proxy.RouteStatus
	if err := api.call(ctx, http.MethodGet, "/api/v1/routes", nil, &routes); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var words []string
	if len(args) == 0 {
		for _, r := range routes {
			words = append(words, r.Name)
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	for _, r := range routes {
		if r.Name != args[0] {
			continue
		}
		for _, v := range r.Variants {
			if !strings.Contains(" "+strings.Join(args[1:], " "), " "+v.Pool+"=") {
				words = append(words, v.Pool+"=")
			}
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
