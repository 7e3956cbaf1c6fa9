package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weir/backend/backendtest"
	"weir/internal/certificate/certificatetest"
)

// The world of docs/operations.md: users, model servers, a disk, and what happens to them.

// happen makes something happen that the page tells of in prose.
func (o *operator) happen(what string) {
	o.t.Helper()
	w := o.running[mainFile]
	left := filepath.Join(o.dir, "weir.state.json.tmp", "x")
	switch what {
	case "a thousand users ask":
		o.traffic()
	case "green does not answer its probes":
		o.behave("8003", 503)
		eventually(o.t, "weir notices", func() bool { return w.state().Degraded })
	case "green answers its probes":
		o.behave("8003", 0)
		eventually(o.t, "weir notices", func() bool { return !w.state().Degraded })
	case "two requests take a while":
		for range 2 {
			go func() { o.slow <- o.get("/predict?slow", "user-1") }()
		}
		eventually(o.t, "they are under way", func() bool {
			p := w.state().Pools[0]
			return p.Endpoints[0].Inflight == 1 && p.Endpoints[1].Inflight == 1
		})
	case "they have ended":
		for range 2 {
			if err := <-o.slow; err != nil {
				o.t.Error(err)
			}
		}
	case "the rollout is at a step":
		eventually(o.t, "the rollout is at a step", func() bool {
			return strings.Contains(o.shell("weir rollout status predict -o json"), `"phase": "progressing"`)
		})
	case "the file is in force":
		o.inForce()
	case "the disk is full":
		if err := os.MkdirAll(left, 0o700); err != nil {
			o.t.Fatal(err)
		}
	case "the disk has room":
		if err := os.RemoveAll(filepath.Dir(left)); err != nil {
			o.t.Fatal(err)
		}
	case "half of the state file is gone":
		o.shell("head -c 200 weir.state.json > torn && mv torn weir.state.json")
	case "there are certificates":
		ca := certificatetest.New(o.t)
		ca.Issue(o.t, time.Hour).Write(o.t, o.dir)
		writeFile(o.t, filepath.Join(o.dir, "ca.crt"), string(ca.PEM()))
	case "requests come all the time":
		o.keepAsking()
	case "the registry has heard of it":
		eventually(o.t, "the alias is back", func() bool { return strings.Contains(o.registry.State(), "champion=1") })
	default:
		o.t.Fatalf("%s: nobody knows how to make happen: %s", o.page, what)
	}
}

// note remembers what was read of files before the last command, for inForce.
func (o *operator) note() { o.read = o.reads() }

// reads is another text whenever weir has read its file or its tokens.
func (o *operator) reads() (text string) {
	o.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(o.running)) {
		w := o.running[name]
		text += fmt.Sprint(len(w.log.find(o.t, "was rejected")), len(w.log.find(o.t, "tokens are in force")), " ")
		select {
		case <-w.ended:
			continue
		default:
		}
		if name != mainFile {
			continue
		}
		for line := range strings.SplitSeq(w.metrics(), "\n") {
			if strings.HasPrefix(line, "weir_config_last_reload_timestamp_seconds ") {
				text += line
			}
		}
	}
	return text
}

// inForce waits until weir has read the file that changed, or the tokens in it.
func (o *operator) inForce() {
	o.t.Helper()
	eventually(o.t, "weir reads the file", func() bool { return o.reads() != o.read })
}

// now is the ID of the last event.
func (o *operator) now() string {
	o.t.Helper()
	resp, err := http.Get(o.real("http://127.0.0.1:9901/api/v1/events"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			return id
		}
	}
	o.t.Fatal("the stream of events does not begin with the ID of now")
	return ""
}

// traffic makes one request for each of a thousand users.
func (o *operator) traffic() {
	o.t.Helper()
	for i := range 1000 {
		if err := o.get("/predict", fmt.Sprint("user-", i)); err != nil {
			o.t.Fatal(err)
		}
	}
}

func (o *operator) get(path, user string) error {
	req, err := http.NewRequest("GET", o.real("http://127.0.0.1:8080")+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-User-ID", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != 200 {
		return fmt.Errorf("%s of %s: %s", path, user, resp.Status)
	}
	return nil
}

// behave sets how a model server answers probes, and that it takes two seconds for a request that asks for it.
func (o *operator) behave(port string, health int) {
	o.servers[port].SetBehaviour(backendtest.Behaviour{Health: backendtest.Health{Status: health}, Respond: func(r *backendtest.Request) backendtest.Behaviour {
		b := backendtest.Behaviour{Body: []byte(port)}
		if strings.Contains(r.Target, "slow") {
			b.Latency = 2 * time.Second
		}
		return b
	}})
}
