package gpu

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// tree writes files under a new root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		path = filepath.Join(root, "sys/class/drm", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestAMD reads files as a kernel has them: a large card, an old one and another vendor's.
func TestAMD(t *testing.T) {
	root := tree(t, map[string]string{
		"card10/device/vendor":                     "0x1002\n",
		"card10/device/device":                     "0x66af\n",
		"card10/device/gpu_busy_percent":           "99\n",
		"card10/device/hwmon/hwmon3/temp1_input":   "45000\n",
		"card10/device/hwmon/hwmon3/power1_input":  "90500000\n",
		"card2/device/vendor":                      "0x1002\n",
		"card2/device/product_name":                "AMD Instinct MI210\n",
		"card2/device/unique_id":                   "a1b2c3d4e5f60718\n",
		"card2/device/gpu_busy_percent":            "37\n",
		"card2/device/mem_info_vram_used":          "8589934592\n",
		"card2/device/mem_info_vram_total":         "68702699520\n",
		"card2/device/ras/umc_err_count":           "ue: 0\nce: 12\n",
		"card2/device/hwmon/hwmon1/temp1_input":    "52000\n",
		"card2/device/hwmon/hwmon1/temp1_label":    "edge\n",
		"card2/device/hwmon/hwmon1/temp2_input":    "61500\n",
		"card2/device/hwmon/hwmon1/temp2_label":    "junction\n",
		"card2/device/hwmon/hwmon1/power1_average": "187000000\n",
		"card0/device/vendor":                      "0x8086\n",
		"card0/device/gpu_busy_percent":            "1\n",
		"card2-DP-1/device/vendor":                 "0x1002\n",
		"renderD128/device/vendor":                 "0x1002\n",
	})
	a := NewAMD(root)
	got, err := a.Read()
	if err != nil {
		t.Fatal(err)
	}
	nan := math.NaN()
	want := []Device{
		{
			Index: 0, Name: "AMD Instinct MI210", UUID: "a1b2c3d4e5f60718", MemoryUsed: 8589934592, MemoryTotal: 68702699520,
			Utilization: 37, Temperature: 61.5, Power: 187, ECCUncorrected: 0,
		},
		{Index: 1, Name: "AMD 0x66af", Utilization: 99, Temperature: 45, Power: 90.5, ECCUncorrected: nan},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateNaNs()); diff != "" {
		t.Error(diff)
	}

	count := filepath.Join(root, "sys/class/drm/card2/device/ras/umc_err_count")
	if err := os.WriteFile(count, []byte("ue: 4\nce: 12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "sys/class/drm/card10")); err != nil {
		t.Fatal(err)
	}
	got, err = a.Read()
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "GPU 0: ECC could not correct 4 memory errors") ||
		!strings.Contains(err.Error(), "GPU 1 (card10): the GPU is gone") {
		t.Errorf("with faults: %v, %v", got, err)
	}
}

func TestNoAMD(t *testing.T) {
	for name, root := range map[string]string{
		"no sysfs": t.TempDir(), "another vendor's": tree(t, map[string]string{"card0/device/vendor": "0x10de\n"}),
	} {
		if got, err := NewAMD(root).Read(); len(got) != 0 || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestAMDThatSaysNothing: files that are missing or hold no number are not told, and are no fault.
func TestAMDThatSaysNothing(t *testing.T) {
	root := tree(t, map[string]string{"card1/device/vendor": "0x1002", "card1/device/gpu_busy_percent": "busy"})
	got, err := NewAMD(root).Read()
	want := newDevice(0)
	want.Name = "AMD"
	if diff := cmp.Diff([]Device{want}, got, cmpopts.EquateNaNs()); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// TestMachine: AMD's GPUs are read where there are none of NVIDIA's, and only those asked for.
func TestMachine(t *testing.T) {
	root := tree(t, map[string]string{"card1/device/vendor": "0x1002"})
	f := func(m *Machine, want ...string) {
		t.Helper()
		got, err := m.Read()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range got {
			names = append(names, d.Name)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Error(diff)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	nvidia := func() *Reader { return (&machine{gpus: []*mock.Device{a100(1, 1)}}).reader() }
	f(&Machine{amd: NewAMD(root)}, "AMD")
	f(&Machine{nvidia: nvidia(), amd: NewAMD(root)}, "NVIDIA A100")
	f(&Machine{nvidia: (&machine{}).reader(), amd: NewAMD(root)}, "AMD")
	f(&Machine{nvidia: nvidia()}, "NVIDIA A100")
}
