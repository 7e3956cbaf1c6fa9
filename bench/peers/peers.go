// Package peers holds the configurations of the proxies that weir is compared with, and weir's
// own for the comparison: the same work for all, each tuned as its documentation advises.
package peers

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed nginx.conf haproxy.cfg weir.yaml
var files embed.FS

// Addresses in the files. Those who start the peers may put others in their place.
const (
	Blue      = "127.0.0.1:19001" // endpoint of the pool blue
	Green     = "127.0.0.1:19002" // endpoint of the pool green
	Weir      = "127.0.0.1:19110"
	WeirAdmin = "127.0.0.1:19111"
	Nginx     = "127.0.0.1:19120"
	HAProxy   = "127.0.0.1:19130"
)

// Dir stands in the files for the folder that a peer may write to.
const Dir = "@DIR@"

// Config returns the file called name with everything replaced as given, in pairs of old and new.
func Config(name string, oldNew ...string) ([]byte, error) {
	text, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("no configuration of a peer: %w", err)
	}
	return []byte(strings.NewReplacer(oldNew...).Replace(string(text))), nil
}
