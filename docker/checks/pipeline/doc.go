// Package pipeline holds the tests of docker/pipeline and of docker/kubernetes/rollback.sh: the scripts run as a pipeline
// or an operator runs them, against real weirs, with a stand-in for kubectl that has them in the place of pods.
package pipeline
