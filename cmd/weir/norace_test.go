//go:build !race

package main

// underRace says that the program under test is built with the race detector, as the test is.
const underRace = false
