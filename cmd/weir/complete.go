package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout bounds what a shell waits for after <TAB>.
const completeTimeout = time.Second

// Completion asks the running weir. Where it does not answer there are no proposals, and no message that
// would spoil the line: files are never right here.
const noFiles = cobra.ShellCompDirectiveNoFileComp

// proposals are the words that get finds; those that stand in the line already are left out.
func (c *cli) proposals(without []string, get func(context.Context, *client) []string) []string {
	api, err := c.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	return slices.DeleteFunc(get(ctx, api), func(word string) bool { return slices.Contains(without, word) })
}

func (c *cli) completeRoute(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	return c.proposals(nil, func(ctx context.Context, api *client) []string { return api.routeNames(ctx) }), noFiles
}

// completeShift completes the route, then its variants with a sign that waits for a weight.
func (c *cli) completeShift(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return c.completeRoute(cmd, args, word)
	}
	var named []string
	for _, arg := range args[1:] {
		name, _, _ := strings.Cut(arg, "=")
		named = append(named, name+"=")
	}
	return c.proposals(named, func(ctx context.Context, api *client) (words []string) {
		for _, name := range api.variantNames(ctx, args[0]) {
			words = append(words, name+"=")
		}
		return words
	}), noFiles | cobra.ShellCompDirectiveNoSpace
}

func (c *cli) completeSwitch(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return c.completeRoute(cmd, args, word)
	}
	return c.proposals(nil, func(ctx context.Context, api *client) []string { return api.variantNames(ctx, args[0]) }), noFiles
}

// completePool completes the pool, then one of its endpoints.
func (c *cli) completePool(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return c.proposals(nil, func(ctx context.Context, api *client) []string { return api.poolNames(ctx) }), noFiles
	case 1:
		return c.proposals(nil, func(ctx context.Context, api *client) []string { return api.endpointNames(ctx, args[0]) }), noFiles
	}
	return nil, noFiles
}

// completeGeneration proposes those of the history, the latest first, each with what it did.
func (c *cli) completeGeneration(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return c.proposals(nil, func(ctx context.Context, api *client) (words []string) {
		const most = 20
		changes, _ := api.history(ctx, most) // none where it cannot be had
		slices.Reverse(changes)
		for _, change := range changes {
			words = append(words, fmt.Sprintf("%d\t%s by %s: %s", change.Generation, change.Kind, printable(change.By), printable(strings.Join(changeLines(change), "; "))))
		}
		return words
	}), noFiles | cobra.ShellCompDirectiveKeepOrder
}
