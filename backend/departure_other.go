//go:build !linux

package backend

// hangup is what poll shall tell beside errors and the end of a connection, which it always tells.
// Only Linux knows a separate event for the other side's end.
const hangup = 0
