package proxy

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"weir/config"
)

// engineVariable names the engine that the tests run on. Without it they run on both, one after the
// other.
const engineVariable = "WEIR_TEST_ENGINE"

func testEngine() string {
	if e := os.Getenv(engineVariable); e != "" {
		return e
	}
	return config.EngineAuto
}

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(engineVariable) != "" || only("test.bench", "test.fuzz", "test.list", "test.coverprofile") {
		os.Exit(m.Run())
	}
	failed := false
	for _, engine := range []string{config.EngineLoop, config.EngineGoroutine} {
		fmt.Fprintln(os.Stderr, "engine:", engine)
		again := exec.Command(os.Args[0], os.Args[1:]...)
		again.Env = append(os.Environ(), engineVariable+"="+engine)
		again.Stdout, again.Stderr = os.Stdout, os.Stderr
		if err := again.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "engine %s: %v\n", engine, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// only reports whether a flag asks for something that is done once.
func only(names ...string) bool {
	for _, n := range names {
		if f := flag.Lookup(n); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return false
}
