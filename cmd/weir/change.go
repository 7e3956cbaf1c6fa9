package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"weir/internal/state"
	"weir/proxy"
)

// changeFlags are the flags of commands that change routing.
type changeFlags struct {
	reason  string
	force   bool
	ifMatch uint64
}

func (f *changeFlags) add(cmd *cobra.Command, force bool, of string) {
	flags := cmd.Flags()
	flags.StringVar(&f.reason, "reason", "", "why, for the log and the history")
	flags.Var((*generationValue)(&f.ifMatch), "if-match", "change nothing unless the generation of "+of+" is this one")
	if force {
		flags.BoolVar(&f.force, "force", false, "do it whatever the health and the capacity of the endpoints")
	}
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)   // fails for a flag that is not there
	_ = cmd.RegisterFlagCompletionFunc("if-match", cobra.NoFileCompletions) // likewise
}

// generationValue is a flag for a generation. 0 is none, and must not pass for "any".
type generationValue uint64

func (g *generationValue) String() string { return strconv.FormatUint(uint64(*g), 10) }
func (*generationValue) Type() string     { return "uint" }

func (g *generationValue) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 64)
	if err == nil && n == 0 {
		return errors.New("generations begin at 1")
	}
	*g = generationValue(n)
	return err
}

// change are the parts of a body that all changes have.
type change struct {
	Reason string `json:"reason,omitempty"`
	Force  bool   `json:"force,omitempty"`
}

func (f *changeFlags) change() change { return change{f.reason, f.force} }

// send asks for a change.
func (f *changeFlags) send(ctx context.Context, api *client, method, path string, in, out any) error {
	return api.callIf(ctx, method, path, f.ifMatch, in, out)
}

// weightsText is the weights of a route as "weir shift" takes them.
func weightsText(route proxy.RouteStatus) string {
	var parts []string
	for _, v := range route.Variants {
		parts = append(parts, v.Pool+"="+number(v.Weight))
	}
	return strings.Join(parts, " ")
}

func setText(set []state.Weight) string {
	var parts []string
	for _, w := range set {
		parts = append(parts, w.Pool+"="+number(w.Weight))
	}
	return strings.Join(parts, " ")
}

// changeLines say what a change of the history did, a line each.
func changeLines(c state.Change) (lines []string) {
	if c.To > 0 {
		lines = append(lines, fmt.Sprintf("back to generation %d", c.To))
	}
	for _, r := range c.Routes {
		lines = append(lines, r.Route+": "+weightsChange(r.Before, r.After))
	}
	for _, d := range c.Drains {
		lines = append(lines, drained(d.Pool, d.Endpoint)+map[bool]string{true: " drains", false: " drains no more"}[d.Draining])
	}
	return append(lines, c.Notes...)
}

// drained names a pool, or one endpoint of it where that is not "".
func drained(pool, endpoint string) string {
	if endpoint == "" {
		return "pool " + pool
	}
	return "endpoint " + endpoint + " of pool " + pool
}

// weightsChange shows weights before and after, such as "blue 90→50, green 10→50".
func weightsChange(before, after []state.Weight) string {
	if after == nil {
		return "gone"
	}
	was := map[string]string{}
	for _, w := range before {
		was[w.Pool] = number(w.Weight)
	}
	var parts []string
	for _, w := range after {
		now, old := number(w.Weight), was[w.Pool]
		switch {
		case before == nil || old == now:
			parts = append(parts, w.Pool+" "+now)
		case old == "":
			parts = append(parts, w.Pool+" new→"+now)
		default:
			parts = append(parts, w.Pool+" "+old+"→"+now)
		}
		delete(was, w.Pool)
	}
	for _, w := range before {
		if old, left := was[w.Pool]; left {
			parts = append(parts, w.Pool+" "+old+"→gone")
		}
	}
	text := strings.Join(parts, ", ")
	if before == nil {
		text = "new, " + text
	}
	return text
}

func generationText(n uint64) string { return "generation " + strconv.FormatUint(n, 10) }
