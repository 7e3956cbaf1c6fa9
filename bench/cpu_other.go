//go:build !unix

package bench

import "time"

// cpuTime is known on Unix only.
func cpuTime() time.Duration { return 0 }
