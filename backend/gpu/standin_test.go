package gpu

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// childVariable makes the test program one that reads GPUs: once for each line of its input.
const childVariable = "READ_GPUS"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		readForParent()
		return
	}
	os.Exit(m.Run())
}

// reading is what the child found.
type reading struct {
	Devices []string // what fmt makes of them: JSON has no NaN
	Fault   string
}

func readForParent() {
	machine := NewMachine(NVIDIA)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		devices, err := machine.Read()
		r := reading{}
		for _, d := range devices {
			r.Devices = append(r.Devices, fmt.Sprintf("%+v", d))
		}
		if err != nil {
			r.Fault = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			panic(err)
		}
	}
	if err := machine.Close(); err != nil {
		panic(err)
	}
}

// child is a process that reads through the stand-in library.
type child struct {
	t     *testing.T
	state string
	in    io.WriteCloser
	out   *json.Decoder
}

// startChild builds the stand-in and starts a process that finds it as it would find NVIDIA's.
func startChild(t *testing.T) *child {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", filepath.Join(dir, "libnvidia-ml.so.1"), "testdata/nvml.c")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("gcc cannot build the stand-in: %v\n%s", err, said)
	}
	c := &child{t: t, state: filepath.Join(dir, "state")}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1", "LD_LIBRARY_PATH="+dir, "STANDIN_NVML="+c.state)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the child did not end well: %v", err)
		}
	})
	c.in, c.out = in, json.NewDecoder(out)
	return c
}

// read has the child read while the stand-in is in this state.
func (c *child) read(state string) reading {
	c.t.Helper()
	if err := os.WriteFile(c.state, []byte(state), 0o600); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatal(err)
	}
	var r reading
	if err := c.out.Decode(&r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// TestStandIn loads a library by the name of NVIDIA's and reads through it: dlopen, versioned
// symbols and the memory layout of what is passed are go-nvml's own.
func TestStandIn(t *testing.T) {
	c := startChild(t)
	const (
		first  = "{Index:0 MIG:false Instance:0 Name:Stand-in UUID:GPU-0 MemoryUsed:4294967296 MemoryTotal:17179869184 Utilization:20 Temperature:50 Power:120.25 ECCUncorrected:0 XIDs:map[]}"
		second = "{Index:1 MIG:false Instance:0 Name:Stand-in UUID:GPU-1 MemoryUsed:4294967296 MemoryTotal:17179869184 Utilization:80 Temperature:51 Power:121.25 ECCUncorrected:0 XIDs:map[]}"
		part   = "{Index:0 MIG:true Instance:%d Name:Stand-in MIG UUID:MIG-0-%[1]d MemoryUsed:1073741824 MemoryTotal:8589934592 Utilization:NaN Temperature:NaN Power:NaN ECCUncorrected:NaN XIDs:map[]}"
		after  = "GPU 1: XID error 79; reset the GPU and restart"
	)
	with := func(device, old, new string) string {
		if !strings.Contains(device, old) {
			t.Fatalf("%s is not in %s", old, device)
		}
		return strings.Replace(device, old, new, 1)
	}
	broken := with(first, "ECCUncorrected:0", "ECCUncorrected:3")
	split := with(first, "Utilization:20", "Utilization:NaN")
	user := with(first, "map[]", "map[31:1]")
	failed := with(second, "map[]", "map[79:1]")
	f := func(state, fault string, devices ...string) {
		t.Helper()
		if diff := cmp.Diff(reading{devices, fault}, c.read(state)); diff != "" {
			t.Errorf("state %q: %s", state, diff)
		}
	}
	f("", "", first, second)
	f("lost", "GPU 1: memory: GPU is lost", first)
	f("gone", "1 of 2 GPUs are left", first)
	f("ecc", "GPU 0: ECC could not correct 3 memory errors; reset the GPU", broken, second)
	f("mig", "", split, fmt.Sprintf(part, 0), fmt.Sprintf(part, 1), second)
	f("xid31", "", user, second)
	f("xid79", after, user, failed)
	f("", after, user, failed)
}
