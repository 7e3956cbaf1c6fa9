//go:build !race

package enginetest

// UnderRace says that the tests are built with the race detector: what is large for the sake of its size alone is smaller
// then, and full in the run without. Ten times slower, it shows what the detector looks for all the same.
const UnderRace = false
