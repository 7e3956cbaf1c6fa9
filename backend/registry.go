package backend

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"weir/internal/telemetry"
)

// registry changes which models are served. A change loads and warms what is new first, then puts
// all of it in the place of what was there at once; requests that run end on the model they began
// on, which closes behind the last of them. A change that fails changes nothing.
type registry struct {
	s *Server

	// changing is held by the one change there is at a time.
	changing sync.Mutex
	// refused are the stamps of sources that a poll could not load, which it need not try again.
	refused map[modelVersion]string
	// closing are the models that are no longer served and still run.
	closing sync.WaitGroup

	mu sync.Mutex
	// order are the names in the order in which they were first known: that of /predict.
	order []string
	// notes is what is known of versions that are not served, by name and version.
	notes map[modelVersion]note
	// wishes of the API, by name; without one the configuration and the folder decide.
	wishes map[string]wish
}

type modelVersion struct{ name, version string }

type note struct{ state, reason string }

// The states of a model in the repository index, which are Triton's.
const (
	stateReady       = "READY"
	stateLoading     = "LOADING"
	stateUnavailable = "UNAVAILABLE"
)

// wish is what the API asked for.
type wish struct {
	unloaded bool
	versions []string // the first is the default; none: as the configuration has it
}

func newRegistry(s *Server) *registry {
	g := &registry{
		s: s, notes: make(map[modelVersion]note), wishes: make(map[string]wish), refused: make(map[modelVersion]string),
	}
	for i := range s.options.Models {
		g.know(s.options.Models[i].Name)
	}
	return g
}

// sources are all models there are, served or not, those of one name side by side.
func (g *registry) sources() ([]Source, error) {
	all := slices.Clone(g.s.options.Models)
	if g.s.options.Folder == nil {
		return all, nil
	}
	found, err := g.s.options.Folder.list()
	if err != nil {
		return nil, err
	}
	for i := range found {
		if slices.ContainsFunc(g.s.options.Models, func(s Source) bool { return s.Name == found[i].Name }) {
			return nil, fmt.Errorf("the model %s is both in the configuration and in the folder %s; give one another name", found[i].Name, g.s.options.Folder.Path)
		}
	}
	return append(all, found...), nil
}

// of are the sources of one name, in the order in which requests without a version choose.
func of(sources []Source, name string) []Source {
	return slices.DeleteFunc(slices.Clone(sources), func(s Source) bool { return s.Name != name })
}

// chosen are those of the sources of one model that shall be served.
func (g *registry) chosen(sources []Source, w wish) ([]Source, error) {
	if w.unloaded || len(sources) == 0 {
		return nil, nil
	}
	if len(w.versions) == 0 {
		f := g.s.options.Folder
		if f == nil || f.Versions < 0 || slices.ContainsFunc(g.s.options.Models, func(s Source) bool { return s.Name == sources[0].Name }) {
			return sources, nil
		}
		return sources[:min(len(sources), max(f.Versions, 1))], nil
	}
	var picked []Source
	for _, version := range w.versions {
		at := slices.IndexFunc(sources, func(s Source) bool { return g.versionOf(&s) == version })
		if at < 0 {
			have := make([]string, len(sources))
			for i := range sources {
				have[i] = g.versionOf(&sources[i])
			}
			return nil, &fault{status: fasthttp.StatusNotFound, kind: faultNone,
				message: fmt.Sprintf("model %s has no version %s (have %s)", sources[0].Name, clip(version), strings.Join(have, ", "))}
		}
		picked = append(picked, sources[at])
	}
	return picked, nil
}

// versionOf is the version of a source; where its file has the word, the one that is served of it.
func (g *registry) versionOf(s *Source) string {
	if models := g.s.repository.Load(); s.Version == "" && models != nil {
		for _, m := range models.models {
			if m.Name == s.Name && m.path == s.Path {
				return m.Version
			}
		}
	}
	return s.Version
}

// loadAll loads everything, or nothing.
func (g *registry) loadAll() error {
	g.changing.Lock()
	defer g.changing.Unlock()
	sources, err := g.sources()
	if err != nil {
		return err
	}
	models := &repository{}
	for i := range sources {
		name := sources[i].Name
		g.know(name)
		if i > 0 && slices.ContainsFunc(sources[:i], func(s Source) bool { return s.Name == name }) {
			continue
		}
		var opened []*Model
		chosen, err := g.chosen(of(sources, name), wish{})
		if err == nil {
			opened, err = g.open(chosen, nil)
		}
		if err != nil {
			return errors.Join(err, models.close())
		}
		models.models = append(models.models, opened...)
	}
	for _, m := range models.models {
		g.install(m)
	}
	g.s.repository.Store(models)
	return nil
}

// close ends the service of all models, and waits until they are closed. No request may be running.
func (g *registry) close() {
	g.changing.Lock()
	models := g.s.repository.Swap(nil)
	g.changing.Unlock()
	if models != nil {
		for _, m := range models.models {
			m.release()
		}
	}
	g.closing.Wait()
}

// know notes a name.
func (g *registry) know(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.order, name) {
		g.order = append(g.order, name)
	}
}

// names are all names that were ever known.
func (g *registry) names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.order)
}

// open loads the sources of one model, or none. Of the served ones those are taken as they are whose
// files are still the same.
func (g *registry) open(sources []Source, served []*Model) (models []*Model, err error) {
	var opened []*Model
	for i := range sources {
		s := &sources[i]
		if at := slices.IndexFunc(served, func(m *Model) bool { return m.path == s.Path && m.stamp == s.stamp() }); at >= 0 {
			models = append(models, served[at])
			continue
		}
		m, err := s.load(&g.s.options)
		if err == nil && slices.ContainsFunc(models, func(o *Model) bool { return o.Version == m.Version }) {
			err = errors.Join(fmt.Errorf("model %s: version %s is given twice; give another by --model NAME=PATH@VERSION",
				m.Name, m.Version), m.runner.Close())
		}
		if err != nil {
			for _, m := range opened {
				err = errors.Join(err, m.runner.Close())
			}
			return nil, err
		}
		models, opened = append(models, m), append(opened, m)
	}
	return models, nil
}

// install makes a model ready for requests.
func (g *registry) install(m *Model) {
	g.closing.Add(1)
	m.metrics = g.s.metrics.of(m)
	g.s.watchModel(m)
	m.line = g.s.scheduler.add(m.runner, m.serving, m.metrics)
	m.closed = func() {
		defer g.closing.Done()
		g.s.scheduler.remove(m.line)
		g.s.metrics.features.end(m.watch)
		if err := m.runner.Close(); err != nil {
			g.s.log.Error("a model did not close", zap.String("model", m.Name), zap.String("model_version", m.Version), telemetry.Exception(err))
		}
	}
	g.s.log.Info("model loaded", zap.String("model", m.Name), zap.String("model_version", m.Version),
		zap.String("path", m.path), zap.String("model_type", string(m.reading.kind)),
		zap.Any("metadata", m.signature.Metadata), zap.String("wants", m.wants()))
}

// change serves the chosen sources of the model, and nothing else of it. With keep, what has not
// changed on disk is not loaded again. The caller holds changing.
func (g *registry) change(name string, chosen []Source, keep bool) error {
	models := g.s.repository.Load()
	if models == nil {
		return &fault{status: fasthttp.StatusServiceUnavailable, kind: faultNotReady, message: "the models are being loaded, or the server stops; try again soon"}
	}
	served := models.of(name)
	var kept []*Model
	if keep {
		kept = served
	}
	for i := range chosen {
		g.note(name, g.versionOf(&chosen[i]), note{state: stateLoading})
	}
	opened, err := g.open(chosen, kept)
	for i := range chosen {
		n := note{}
		if err != nil {
			n = note{stateUnavailable, err.Error()}
		}
		g.note(name, g.versionOf(&chosen[i]), n)
	}
	if len(chosen) > 0 {
		g.s.metrics.loaded(name, err == nil)
	}
	if err != nil {
		g.s.log.Error("a model was not loaded; what was served before is served on", zap.String("model", name), telemetry.Exception(err))
		return err
	}
	g.know(name)
	for _, m := range opened {
		if !slices.Contains(served, m) {
			g.install(m)
		}
	}
	next := &repository{}
	for _, n := range g.names() {
		if n == name {
			next.models = append(next.models, opened...)
		} else {
			next.models = append(next.models, models.of(n)...)
		}
	}
	g.s.repository.Store(next)
	for _, m := range served {
		if slices.Contains(opened, m) {
			continue
		}
		if !next.has(name, m.Version) {
			g.note(name, m.Version, note{stateUnavailable, "unloaded"})
		}
		g.s.log.Info("model unloaded", zap.String("model", name), zap.String("model_version", m.Version), zap.Bool("replaced", next.has(name, m.Version)))
		m.release()
	}
	g.s.grpc.health.tell()
	return nil
}

func (g *registry) note(name, version string, n note) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n == (note{}) {
		delete(g.notes, modelVersion{name, version})
	} else {
		g.notes[modelVersion{name, version}] = n
	}
}

// load serves these versions of a model, none for those of the configuration, read again from disk.
func (g *registry) load(name string, versions []string) error {
	return g.set(name, wish{versions: versions})
}

// unload takes a model out of service.
func (g *registry) unload(name string) error { return g.set(name, wish{unloaded: true}) }

func (g *registry) set(name string, w wish) error {
	g.changing.Lock()
	defer g.changing.Unlock()
	sources, err := g.sources()
	if err != nil {
		return err
	}
	own := of(sources, name)
	if models := g.s.repository.Load(); len(own) == 0 && (models == nil || len(models.of(name)) == 0) {
		return &fault{status: fasthttp.StatusNotFound, kind: faultNone, message: fmt.Sprintf("there is no model %s in the repository", clip(name))}
	}
	chosen, err := g.chosen(own, w)
	if err == nil {
		err = g.change(name, chosen, false)
	}
	if err == nil {
		g.mu.Lock()
		g.wishes[name] = w
		g.mu.Unlock()
	}
	return err
}

// poll makes what is served what the folder has.
func (g *registry) poll() {
	g.changing.Lock()
	defer g.changing.Unlock()
	models := g.s.repository.Load()
	if models == nil {
		return
	}
	sources, err := g.sources()
	if err != nil {
		g.s.log.Error("the models are not looked after", telemetry.Exception(err))
		return
	}
	for i := range sources {
		g.know(sources[i].Name)
	}
	for _, name := range g.names() {
		if slices.ContainsFunc(g.s.options.Models, func(s Source) bool { return s.Name == name }) {
			continue // the configuration's
		}
		g.mu.Lock()
		w := g.wishes[name]
		g.mu.Unlock()
		chosen, err := g.chosen(of(sources, name), w)
		if err != nil {
			continue // a version that the API asked for is gone: the served ones stay
		}
		if !g.changed(models.of(name), chosen) {
			continue
		}
		if err := g.change(name, chosen, true); err != nil {
			for i := range chosen {
				g.refused[modelVersion{name, chosen[i].Version}] = chosen[i].stamp()
			}
		}
		models = g.s.repository.Load()
		if models == nil {
			return
		}
	}
}

// changed says whether the sources differ from what is served, in a way that was not refused.
func (g *registry) changed(served []*Model, chosen []Source) bool {
	differ := len(served) != len(chosen)
	refused := len(chosen) > 0
	for i := range chosen {
		stamp := chosen[i].stamp()
		differ = differ || served[i].path != chosen[i].Path || served[i].stamp != stamp
		refused = refused && g.refused[modelVersion{chosen[i].Name, chosen[i].Version}] == stamp
	}
	return differ && !refused
}

// pollUntil polls until stop is closed.
func (g *registry) pollUntil(stop <-chan struct{}) {
	tick := time.NewTicker(g.s.options.Folder.Poll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.poll()
		case <-stop:
			return
		}
	}
}

// indexEntry is a version of a model in the repository index.
type indexEntry struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
}

// index is everything there is, only what is served when onlyReady.
func (g *registry) index(onlyReady bool) ([]indexEntry, error) {
	sources, err := g.sources()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for i := range sources {
		g.know(sources[i].Name)
	}
	all := []indexEntry{}
	models := g.s.repository.Load()
	if models == nil {
		models = &repository{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range models.models {
		all = append(all, indexEntry{m.Name, m.Version, stateReady, g.notes[modelVersion{m.Name, m.Version}].reason})
	}
	for i := range sources {
		name, version := sources[i].Name, g.versionOf(&sources[i])
		if onlyReady || models.has(name, version) {
			continue
		}
		n := g.notes[modelVersion{name, version}]
		if n.state == "" {
			n.state = stateUnavailable
		}
		all = append(all, indexEntry{name, version, n.state, n.reason})
	}
	slices.SortStableFunc(all, func(a, b indexEntry) int {
		return slices.Index(g.order, a.Name) - slices.Index(g.order, b.Name)
	})
	return all, nil
}
