// Weir is the proxy, and the command line that steers a running one.
package main

import (
	"os"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	os.Exit(newCLI(os.Stdout, os.Stderr, os.Getenv).run(os.Args[1:]))
}
