// Package kubernetes holds the tests of docker/kubernetes: what the overlays come to, and that it fits together.
package kubernetes
