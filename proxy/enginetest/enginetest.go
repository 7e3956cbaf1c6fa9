// Package enginetest runs the tests of a package on both engines.
package enginetest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"weir/config"
)

// Variable is the environment variable that names the engine the tests run on. Tests that start weir
// as a program write it into their weir.yaml: engine: "${WEIR_TEST_ENGINE:-auto}".
const Variable = "WEIR_TEST_ENGINE"

// parallel is how many of the tests that say t.Parallel run at once: they wait rather than compute.
const parallel = 8

// Name returns the engine that the tests run on; auto where none was chosen.
func Name() string {
	if e := os.Getenv(Variable); e != "" {
		return e
	}
	return config.EngineAuto
}

// Run is for TestMain: it runs the tests on each engine in a process of its own, both at once since most of them
// wait, and returns the exit status. With Variable set, and for benchmarks, fuzzing, lists and coverage, it calls run instead.
func Run(run func() int) int {
	flag.Parse()
	if p := flag.Lookup("test.parallel"); p.Value.String() == p.DefValue {
		_ = p.Value.Set(strconv.Itoa(parallel))
	}
	if os.Getenv(Variable) != "" || once("test.bench", "test.fuzz", "test.list", "test.coverprofile") {
		return run()
	}
	type result struct {
		engine string
		output bytes.Buffer
		err    error
	}
	results := make(chan *result)
	engines := []string{config.EngineLoop, config.EngineGoroutine}
	for _, engine := range engines {
		go func() {
			r := &result{engine: engine}
			again := exec.Command(os.Args[0], os.Args[1:]...)
			again.Env = append(os.Environ(), Variable+"="+engine)
			again.Stdout, again.Stderr = &r.output, &r.output
			r.err = again.Run()
			results <- r
		}()
	}
	status := 0
	for range engines {
		r := <-results
		_, _ = os.Stdout.Write(r.output.Bytes())
		if r.err != nil {
			fmt.Fprintf(os.Stderr, "on engine %s: %v\n", r.engine, r.err)
			status = 1
		}
	}
	return status
}

// once reports whether a flag asks for something that is done once.
func once(names ...string) bool {
	for _, n := range names {
		if f := flag.Lookup(n); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return false
}

// Scaled is how large something is in a test: full, and less under the race detector.
func Scaled(full, underRace int) int {
	if UnderRace {
		return underRace
	}
	return full
}
