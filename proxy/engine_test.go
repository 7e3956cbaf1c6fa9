package proxy

import (
	"os"
	"testing"

	"weir/proxy/enginetest"
)

func TestMain(m *testing.M) {
	if os.Getenv(exposeVariable) != "" {
		expose()
		return
	}
	os.Exit(enginetest.Run(m.Run))
}
