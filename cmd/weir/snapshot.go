package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"weir/config"
	"weir/proxy"
)

// snapshotFormat is the number that a snapshot begins with; another one is of another version of weir.
const snapshotFormat = 1

// snapshot is what "weir restore" brings back: what a file said and what lay over it, at one moment.
type snapshot struct {
	Format     int                           `json:"weir_snapshot"`
	Taken      time.Time                     `json:"taken"`
	Weir       string                        `json:"weir"` // its version
	Generation uint64                        `json:"generation"`
	Routes     map[string]map[string]float64 `json:"routes"` // the weights in force
	Drains     []drainOf                     `json:"drains"`
	Pools      map[string]resolved           `json:"pools"`
	File       string                        `json:"file"`   // that the configuration was read from
	Config     string                        `json:"config"` // its text, variables and all
}

type drainOf struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint,omitempty"` // absent: the pool as a whole
}

// resolved is what the names of a pool stood for: its version once variables were replaced, and its endpoints, those that were
// found by a name included. It is for people; nothing of it is restored.
type resolved struct {
	Version   string   `json:"version"`
	Endpoints []string `json:"endpoints"`
}

func (c *cli) snapshot() *cobra.Command {
	var file, as string
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Print what is in force, for \"weir restore\"", Args: noArgs(""),
		Long: "Print the text of the file, the weights and drains that lie over it, and which versions and endpoints it\n" +
			"came to, as YAML (JSON with -o json). \"weir restore\" brings it back. The file holds no secrets that weir.yaml does not hold:\n" +
			"variables are not replaced.\n\n" +
			"It is refused (exit status 1) when the file is not what the running weir has in force: a snapshot of it\n" +
			"would bring back something else. Where weir runs elsewhere, --as names the path that the file has there.",
		Example: "  weir snapshot >before.yaml\n  weir snapshot -c /etc/weir/weir.yaml >before.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.takeSnapshot(cmd.Context(), file, as)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return writeJSON(c.stdout, s)
			}
			return writeYAML(c.stdout, s)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "the file that the running weir reads")
	cmd.Flags().StringVar(&as, "as", "", "path that the file has where weir runs, for the relative paths in it (default: where it is)")
	return cmd
}

func (c *cli) takeSnapshot(ctx context.Context, file, as string) (*snapshot, error) {
	cfg, err := loadAs(file, as)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	api, err := c.client()
	if err != nil {
		return nil, err
	}
	found, err := api.diff(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if n := len(found.Differences); n > 0 {
		return nil, fmt.Errorf("%s is not what is in force: %s (weir diff shows them; weir reload puts the file in force)", file, plural(n, "difference"))
	}
	var status proxy.Status
	if err := api.call(ctx, http.MethodGet, "/api/v1/status", nil, &status); err != nil {
		return nil, err
	}
	s := &snapshot{
		Format: snapshotFormat, Taken: time.Now().UTC().Truncate(time.Second), Weir: status.Version, Generation: status.Generation,
		Routes: map[string]map[string]float64{}, Drains: drainsOf(status.Pools), Pools: map[string]resolved{}, File: cfg.File, Config: string(text),
	}
	for _, r := range status.Routes {
		if len(r.Variants) > 0 {
			s.Routes[r.Name] = weightsOf(r)
		}
	}
	for _, p := range status.Pools {
		of := resolved{Version: p.Version, Endpoints: []string{}}
		for _, e := range p.Endpoints {
			of.Endpoints = append(of.Endpoints, e.Address)
		}
		s.Pools[p.Name] = of
	}
	return s, nil
}

func weightsOf(r proxy.RouteStatus) map[string]float64 {
	weights := map[string]float64{}
	for _, v := range r.Variants {
		weights[v.Pool] = v.Weight
	}
	return weights
}

// drainsOf are those of pools, and of endpoints that drain by themselves as far as that shows: with their pool, it does not.
func drainsOf(pools []proxy.PoolStatus) []drainOf {
	drains := []drainOf{}
	for _, p := range pools {
		if p.Draining {
			drains = append(drains, drainOf{Pool: p.Name})
			continue
		}
		for _, e := range p.Endpoints {
			if e.Draining {
				drains = append(drains, drainOf{p.Name, e.Address})
			}
		}
	}
	return drains
}

// restored is what -o json prints.
type restored struct {
	Generation uint64   `json:"generation"` // in force now
	Changes    []string `json:"changes"`
}

func (c *cli) restore() *cobra.Command {
	var flags changeFlags
	var file, as string
	var keep bool
	cmd := &cobra.Command{
		Use: "restore SNAPSHOT", Short: "Bring back what a snapshot has: file, weights and drains", Args: wantArgs(1, 1),
		Long: "Bring back what \"weir snapshot\" printed: write the file, have the running weir read it, and give routes and\n" +
			"pools the weights and drains of then. Everything is checked first. A file that the running weir refuses is\n" +
			"put back as it was, and nothing else is changed; requests notice nothing either way.\n\n" +
			"--keep-config leaves the file alone, where something else manages it (a ConfigMap, a repository): bring\n" +
			"the text of then back there first. What \"weir shift\" would be refused is refused here unless --force is given,\n" +
			"as are weights of a route that a rollout is at work on.\n\n" +
			"With -o json or yaml it prints {generation, changes}.",
		Example: "  weir restore before.yaml --reason 'v2 answers 500'\n  weir restore before.yaml --keep-config",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSnapshot(args[0])
			if err != nil {
				return err
			}
			r, err := c.putBack(cmd.Context(), s, restoring{file: file, as: as, keep: keep, flags: &flags})
			if err != nil {
				return err
			}
			return c.print(r, r.write)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "the file that the running weir reads")
	cmd.Flags().StringVar(&as, "as", "", "path that the file has where weir runs, for the relative paths in it (default: where it is)")
	cmd.Flags().BoolVar(&keep, "keep-config", false, "leave the file alone: restore weights and drains")
	cmd.Flags().StringVar(&flags.reason, "reason", "", "why, for the log and the history (default: that it is a snapshot)")
	cmd.Flags().BoolVar(&flags.force, "force", false, "do it whatever the health and the capacity of the endpoints")
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions) // fails for a flag that is not there
	return cmd
}

func (r *restored) write(w io.Writer) {
	for _, line := range r.Changes {
		fmt.Fprintln(w, printable(line))
	}
	if len(r.Changes) == 0 {
		fmt.Fprint(w, "nothing has changed; ")
	}
	fmt.Fprintf(w, "generation %d is in force\n", r.Generation)
}

// restoring is how a snapshot is to be brought back.
type restoring struct {
	file, as string
	keep     bool
	flags    *changeFlags
}

func (c *cli) putBack(ctx context.Context, s *snapshot, how restoring) (*restored, error) {
	api, err := c.client()
	if err != nil {
		return nil, err
	}
	if how.flags.reason == "" {
		how.flags.reason = fmt.Sprintf("snapshot of generation %d, %s", s.Generation, s.Taken.Format(time.RFC3339))
	}
	r := &restored{Changes: []string{}}
	if !how.keep {
		if err := api.putFileBack(ctx, s, how, r); err != nil {
			return nil, err
		}
	}
	var status proxy.Status
	if err := api.call(ctx, http.MethodGet, "/api/v1/status", nil, &status); err != nil {
		return nil, err
	}
	if err := s.fits(status); err != nil {
		return nil, err
	}
	// Drains that end come first and those that begin last, so that at no moment less is usable than before and after.
	now := drainsOf(status.Pools)
	for _, d := range now {
		if !slices.Contains(s.Drains, d) {
			if err := api.setDrain(ctx, d, "undrain", how.flags, r); err != nil {
				return nil, err
			}
		}
	}
	for _, route := range status.Routes {
		want, saved := s.Routes[route.Name]
		if !saved || same(want, weightsOf(route)) {
			continue
		}
		var after proxy.RouteStatus
		body := struct {
			Weights map[string]float64 `json:"weights"`
			change
		}{want, how.flags.change()}
		if err := how.flags.send(ctx, api, http.MethodPut, routePath(route.Name)+"/weights", body, &after); err != nil {
			return nil, fmt.Errorf("route %s: %w", route.Name, err)
		}
		r.Changes = append(r.Changes, route.Name+": "+weightsText(route)+" → "+weightsText(after))
	}
	for _, d := range s.Drains {
		if !slices.Contains(now, d) {
			if err := api.setDrain(ctx, d, "drain", how.flags, r); err != nil {
				return nil, err
			}
		}
	}
	if err := api.call(ctx, http.MethodGet, "/api/v1/status", nil, &status); err != nil {
		return nil, err
	}
	r.Generation = status.Generation
	return r, nil
}

func same(a, b map[string]float64) bool {
	for pool, weight := range a {
		if now, ok := b[pool]; !ok || now != weight {
			return false
		}
	}
	return len(a) == len(b)
}

// fits says what of a snapshot is not there any more, so that nothing of it is restored in part.
func (s *snapshot) fits(status proxy.Status) error {
	routes, pools := map[string]proxy.RouteStatus{}, map[string]proxy.PoolStatus{}
	for _, r := range status.Routes {
		routes[r.Name] = r
	}
	for _, p := range status.Pools {
		pools[p.Name] = p
	}
	for name, weights := range s.Routes {
		r, ok := routes[name]
		if !ok {
			return fmt.Errorf("the snapshot has route %s, which the running weir has not; without --keep-config its file is restored, too", name)
		}
		for pool := range weights {
			if _, ok := weightsOf(r)[pool]; !ok || len(r.Variants) != len(weights) {
				return fmt.Errorf("route %s has other variants in the snapshot (%d) than in the running weir (%s); without --keep-config its file is restored, too",
					name, len(weights), weightsText(r))
			}
		}
	}
	for _, d := range s.Drains {
		p, ok := pools[d.Pool]
		if ok && (d.Endpoint == "" || slices.ContainsFunc(p.Endpoints, func(e proxy.EndpointStatus) bool { return e.Address == d.Endpoint })) {
			continue
		}
		return fmt.Errorf("the snapshot drains %s, which the running weir has not", drained(d.Pool, d.Endpoint))
	}
	return nil
}

func (a *client) setDrain(ctx context.Context, d drainOf, verb string, flags *changeFlags, r *restored) error {
	path := poolPath(d.Pool)
	if d.Endpoint != "" {
		path = endpointPath(d.Pool, d.Endpoint)
	}
	var after proxy.PoolStatus
	if err := flags.send(ctx, a, http.MethodPost, path+"/"+verb, flags.change(), &after); err != nil {
		return fmt.Errorf("%s: %w", drained(d.Pool, d.Endpoint), err)
	}
	r.Changes = append(r.Changes, drained(d.Pool, d.Endpoint)+map[string]string{"drain": " drains", "undrain": " drains no more"}[verb])
	return nil
}

// putFileBack writes the file of a snapshot and has it read; where it is refused, the file is as it was.
func (a *client) putFileBack(ctx context.Context, s *snapshot, how restoring, r *restored) error {
	path := how.file
	if how.as != "" {
		path = how.as
	}
	next, err := config.Parse(path, []byte(s.Config))
	if err != nil {
		return fmt.Errorf("the snapshot's configuration is not valid here: %w", err)
	}
	before, err := os.ReadFile(how.file)
	if err != nil {
		return err
	}
	if string(before) != s.Config {
		if err := replaceFile(how.file, []byte(s.Config)); err != nil {
			return fmt.Errorf("%w; where something else manages the file, restore it there and use --keep-config", err)
		}
	}
	var answer reloaded
	if err := a.call(ctx, http.MethodPost, "/api/v1/reload", nil, &answer); err != nil {
		if string(before) != s.Config {
			if failed := replaceFile(how.file, before); failed != nil {
				return fmt.Errorf("%w; and %s could not be put back as it was: %w", err, how.file, failed)
			}
		}
		return fmt.Errorf("%w\nNothing was changed: %s is as it was", err, how.file)
	}
	r.Changes = append(r.Changes, answer.Changes...)
	found, err := a.diff(ctx, next)
	if err != nil {
		return err
	}
	if n := len(found.Differences); n > 0 {
		return fmt.Errorf("%s was written, but what is in force differs from it (%s): the running weir reads another file; name it with --config", how.file, plural(n, "difference"))
	}
	return nil
}

// readSnapshot reads what takeSnapshot made, YAML or JSON.
func readSnapshot(path string) (*snapshot, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Format int `json:"weir_snapshot"`
	}
	s := &snapshot{}
	asJSON, err := jsonOf(text)
	if err == nil {
		err = json.Unmarshal(asJSON, &kind)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is no snapshot: %w", path, err)
	case kind.Format == 0:
		return nil, fmt.Errorf("%s is no snapshot: it has no weir_snapshot; \"weir snapshot\" makes one", path)
	case kind.Format != snapshotFormat:
		return nil, fmt.Errorf("%s is a snapshot of format %d, this weir knows %d", path, kind.Format, snapshotFormat)
	}
	if err := json.Unmarshal(asJSON, s); err != nil {
		return nil, fmt.Errorf("%s is no whole snapshot: %w", path, err)
	}
	if s.Config == "" {
		return nil, fmt.Errorf("%s is no whole snapshot: it has no config", path)
	}
	return s, nil
}
