package auth

import lru "github.com/hashicorp/golang-lru/v2"

// recent keeps what was asked for last, by its digest.
type recent[V any] = lru.Cache[digest, V]

type digest = [32]byte

// newRecent returns one that keeps most of them, at least 1.
func newRecent[V any](most int) *recent[V] {
	c, _ := lru.New[digest, V](most) // fails below 1 only
	return c
}
