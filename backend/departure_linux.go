package backend

import "golang.org/x/sys/unix"

// hangup is what poll shall tell beside errors and the end of a connection, which it always tells:
// that the other side sends no more.
const hangup = unix.POLLRDHUP
