package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weir/proxy"
)

func (c *cli) shift() *cobra.Command {
	var flags changeFlags
	var ramp time.Duration
	var stop bool
	cmd := &cobra.Command{
		Use: "shift ROUTE VARIANT=WEIGHT... | weir shift ROUTE --stop", Short: "Set the weights of a route's variants",
		Long: "Set the weights of a route's variants, from the next request on. Weights are relative, and every\n" +
			"variant of the route needs one; 0 takes no new requests. They lie over those of the file, also after a\n" +
			"restart, until a reload changes the route's split.\n\n" +
			"With --ramp the route goes there in small steps, the first at once; any other change of its weights ends\n" +
			"the ramp, and so does --stop, which leaves the weights where they are.\n\n" +
			"Weights that give more to a variant without a usable endpoint, or to a pool than its endpoints are said\n" +
			"to bear, are refused (exit status 1) unless --force is given.\n\n" +
			"With -o json or yaml it prints the route, as GET /api/v1/routes/ROUTE answers.",
		Example: "  weir shift predict blue=90 green=10\n  weir shift predict blue=99.5 green=0.5 --reason 'first look at v2'\n" +
			"  weir shift predict blue=0 green=100 --ramp 30m\n  weir shift predict --stop --reason 'p99 grows'",
		Args:              wantArgs(1, math.MaxInt),
		ValidArgsFunction: c.completeShift,
		RunE: func(cmd *cobra.Command, args []string) error {
			if stop {
				if len(args) > 1 || cmd.Flags().Changed("ramp") || flags.force {
					return usageError("--stop leaves the weights where they are: it takes a route, and neither weights nor --ramp nor --force")
				}
				return c.stopRamp(cmd.Context(), args[0], &flags)
			}
			if strings.Contains(args[0], "=") {
				return usageError("the route comes first: weir shift ROUTE %s", strings.Join(args, " "))
			}
			if len(args) < 2 {
				return usageError("requires at least 2 arguments: a route and its weights, such as %s blue=90 green=10 (or --stop)", args[0])
			}
			if cmd.Flags().Changed("ramp") && ramp <= 0 {
				return usageError("--ramp %s: want more than 0", ramp)
			}
			weights, err := parseWeights(args[1:])
			if err != nil {
				return err
			}
			return c.setWeights(cmd.Context(), args[0], weights, ramp, &flags)
		},
	}
	flags.add(cmd, true, "the route")
	cmd.Flags().DurationVar(&ramp, "ramp", 0, "go there in small steps over this time")
	cmd.Flags().BoolVar(&stop, "stop", false, "end a ramp where it is")
	_ = cmd.RegisterFlagCompletionFunc("ramp", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

func (c *cli) setWeights(ctx context.Context, route string, weights map[string]float64, ramp time.Duration, flags *changeFlags) error {
	body := struct {
		Weights map[string]float64 `json:"weights"`
		Ramp    string             `json:"ramp,omitempty"`
		change
	}{Weights: weights, change: flags.change()}
	if ramp > 0 {
		body.Ramp = ramp.String()
	}
	return c.changeRoute(ctx, http.MethodPut, route, "/weights", body, flags, slices.Sorted(maps.Keys(weights)))
}

func (c *cli) stopRamp(ctx context.Context, route string, flags *changeFlags) error {
	err := c.changeRoute(ctx, http.MethodDelete, route, "/ramp", flags.change(), flags, nil)
	if err == nil {
		fmt.Fprintln(c.stderr, "weir: the ramp ends here")
	}
	return err
}

// changeRoute asks for a change of a route and prints what became of it. variants are those that were named.
func (c *cli) changeRoute(ctx context.Context, method, route, path string, body any, flags *changeFlags, variants []string) error {
	if err := checkNames(route); err != nil {
		return err
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	var r proxy.RouteStatus
	if err := flags.send(ctx, api, method, routePath(route)+path, body, &r); err != nil {
		return api.meant(ctx, err, route, variants...)
	}
	if err := c.print(r, func(w io.Writer) { writeRouteChange(w, r, time.Now()) }); err != nil {
		return err
	}
	if r.Ramp != nil {
		fmt.Fprintf(c.stderr, "weir: watch it with \"weir status -w\", stop it where it is with \"weir shift %s --stop\"\n", r.Name)
	}
	return nil
}

// writeRouteChange says where a change of a route has led.
func writeRouteChange(w io.Writer, r proxy.RouteStatus, now time.Time) {
	fmt.Fprintf(w, "%s: %s (%s)\n", r.Name, weightsText(r), generationText(r.Generation))
	if r.Ramp != nil {
		fmt.Fprintf(w, "%s: %s\n", r.Name, rampText(r.Ramp, now))
	}
}

// rampText says where a ramp leads, and when it is there.
func rampText(r *proxy.RampStatus, now time.Time) string {
	return fmt.Sprintf("on its way to %s, there at %s (in %s)", setText(r.To), shortTime(r.Ends, now), about(r.Ends.Sub(now)))
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
