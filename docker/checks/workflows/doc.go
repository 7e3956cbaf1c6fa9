// Package workflows holds the tests of .github/workflows and of docker/pipeline/deploy.yaml: that GitHub would take them,
// that each job runs when it should, and that what their steps name is there.
package workflows
