// Package auth tells who asks, by what a request brings: a name and a password, a key, or a signed token. It
// knows nothing of requests; what it checks against comes from files and addresses that it follows.
package auth
