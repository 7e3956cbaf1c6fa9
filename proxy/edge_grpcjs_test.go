package proxy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"weir/backend/backendtest"
	"weir/config"
)

// TestEdgeGRPCOfJavaScript: the client that programs on Node.js have, whose HTTP/2 is another than grpc-go's.
func TestEdgeGRPCOfJavaScript(t *testing.T) {
	modules, err := filepath.Abs("../.cache/grpcjs/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("@grpc/grpc-js is not there: scripts/setup.sh grpcjs installs it (%v)", err)
	}
	g := backendtest.NewGRPC(t, backendtest.GRPCBehaviour{Respond: func(call *backendtest.Call) backendtest.GRPCBehaviour {
		switch call.Method {
		case "/test.Echo/NotFound":
			return backendtest.GRPCBehaviour{Code: codes.NotFound, Status: "no: ü"}
		case "/test.Echo/Hang":
			return backendtest.GRPCBehaviour{Fault: backendtest.FaultHangBeforeHead}
		case "/test.Echo/Down":
			return backendtest.GRPCBehaviour{Messages: 3, Pause: time.Millisecond}
		case "/test.Echo/Endless":
			return backendtest.GRPCBehaviour{Messages: 1 << 30, Pause: time.Millisecond}
		case "/test.Echo/Up":
			return backendtest.GRPCBehaviour{Messages: 1}
		}
		return backendtest.GRPCBehaviour{}
	}})
	r, _ := overGRPC(t, setup{change: func(cfg *config.Config) {
		cfg.Routes[0].Match.GRPC = &config.Method{Service: "test.Echo"}
	}}, g)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "testdata/grpcjs.js", r.addr)
	node.Env = append(os.Environ(), "NODE_PATH="+modules)
	node.Stderr = os.Stderr
	out, err := node.Output()
	if err != nil {
		t.Errorf("node: %v", err)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	many := got[:0:0]
	kept := got[:0:0]
	for _, line := range got {
		if strings.HasPrefix(line, `{"name":"many"`) {
			many = append(many, line)
		} else {
			kept = append(kept, line)
		}
	}
	sort.Strings(many)
	if len(many) != 50 || strings.Count(strings.Join(many, ""), `"same":true`) != 50 {
		t.Errorf("of 50 calls at once: %q", many)
	}
	want := []string{
		`{"name":"unary","size":3,"same":true,"head":["1"],"trailer":["2"],"variant":["blue"]}`,
		`{"name":"large","size":3145728,"same":true,"head":[],"trailer":[],"variant":["blue"]}`,
		`{"name":"status","code":"NOT_FOUND","details":"no: ü"}`,
		`{"name":"deadline","code":"DEADLINE_EXCEEDED"}`,
		`{"name":"refused","code":"UNIMPLEMENTED","details":"no route matches this request"}`,
		`{"name":"duplex","code":"OK","got":[1,2,100000,4]}`,
		`{"name":"down","code":"OK","got":["down","down","down"]}`,
		`{"name":"canceled","code":"CANCELLED"}`,
		`{"name":"up","answer":"abc"}`,
	}
	for i, line := range kept {
		if strings.HasPrefix(line, `{"name":"deadline","code":"DEADLINE_EXCEEDED"`) { // the rest tells of times
			kept[i] = want[3]
		}
	}
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	g.Await("the end of what the client gave up", func(n backendtest.GRPCCounts) bool { return n.Canceled == 2 && n.Ended == n.Calls })
}
