// Command again runs go test, and a test that failed once more by itself: one hiccup of a shared machine does not fail
// a run of thousands of tests. It hides nothing: what it ran again it says at the end in capital letters, and the run
// fails all the same when a test fails twice, when more than three fail, on any data race, and when a package failed in
// a way that no failed test explains (it does not build, it crashed, its time was up, its TestMain found a leak).
//
//	go run ./scripts/again [go test flags] packages
//
// A flag is one word ("-timeout=20m"). gotestsum, which is made for this, does not fit: it runs no test of a package
// whose TestMain has failed "again", and calls that passed; it looks for data races at the start of lines only.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// most is how many tests may fail in a run of which each is run again: more are no hiccup.
const most = 3

func main() {
	os.Exit(run(".", os.Args[1:], os.Stdout))
}

// goTest runs go test -json in a folder, and gives its events to add.
func goTest(dir string, args []string, add func(io.Reader) error) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	read := add(events)
	_, _ = io.Copy(io.Discard, events) // so that it does not wait for a reader
	return errors.Join(cmd.Wait(), read)
}

// run tests what is in a folder, writes what a reader wants to know of it to w, and returns the exit status.
func run(dir string, args []string, w io.Writer) int {
	first := newTests(w)
	if err := goTest(dir, args, first.add); err == nil && first.passed() {
		return 0
	}
	if why := first.hopeless(); why != "" {
		fmt.Fprintf(w, "FAIL: nothing is run again: %s\n", why)
		return 1
	}
	var flags []string
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			flags = append(flags, a)
		}
	}
	status := 0
	for _, f := range first.failed {
		fmt.Fprintf(w, "\nonce more, by itself: %s of %s\n", f.test, f.pkg)
		second := newTests(w)
		err := goTest(dir, append(flags[:len(flags):len(flags)], "-count=1", "-run=^"+regexp.QuoteMeta(f.test)+"$", f.pkg), second.add)
		if err != nil || !second.passed() || second.ran[f] == 0 {
			fmt.Fprintf(w, "FAIL: %s of %s failed twice\n", f.test, f.pkg)
			status = 1
		}
	}
	fmt.Fprintf(w, "\nTESTS THAT FAILED AND WERE RUN AGAIN BY THEMSELVES (WHAT THEY SAID IS ABOVE): %d\n", len(first.failed))
	for _, f := range first.failed {
		fmt.Fprintf(w, "    %s %s\n", f.pkg, f.test)
	}
	if status == 0 {
		fmt.Fprintln(w, "ALL OF THEM HAVE PASSED THIS TIME. A TEST THAT FAILS NOW AND THEN IS A FAULT: FIND ITS CAUSE.")
	}
	return status
}
