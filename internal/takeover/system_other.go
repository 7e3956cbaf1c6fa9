//go:build !linux

package takeover

import (
	"net"
	"os"
)

func listen(string) (*net.UnixListener, error)  { return nil, ErrSystem }
func connect(string) (*net.UnixConn, error)     { return nil, ErrSystem }
func trusted(*net.UnixConn) (int, error)        { return 0, ErrSystem }
func rights([]*os.File) ([]byte, func(), error) { return nil, nil, ErrSystem }
func received([]byte, int) ([]*os.File, error)  { return nil, ErrSystem }
func rightsSpace(int) int                       { return 0 }
func isInUse(error) bool                        { return false }
func isRefused(error) bool                      { return false }
func isReset(error) bool                        { return false }
