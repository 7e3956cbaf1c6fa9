package process

import (
	"fmt"
	"net"
)

// FreeAddress returns 127.0.0.1:port when nothing listens there, else one with a free port. The
// port is free now; whoever listens on it first has it.
func FreeAddress(port int) (address string, preferred bool, err error) {
	for _, try := range []int{port, 0} {
		ln, listenErr := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", try))
		if listenErr != nil {
			err = listenErr
			continue
		}
		address = ln.Addr().String()
		return address, try == port, ln.Close()
	}
	return "", false, err
}
