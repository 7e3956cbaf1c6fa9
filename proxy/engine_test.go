package proxy

import (
	"os"
	"testing"

	"weir/proxy/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Run(m.Run)) }
