package gpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// AMD reads AMD's GPUs from the files that the driver amdgpu keeps in sysfs. It is for one
// goroutine.
type AMD struct {
	root string
	seen []string // the cards there were, in their order
}

// NewAMD returns a reader of the GPUs under root's sys/class/drm; root is "/" but in tests.
func NewAMD(root string) *AMD { return &AMD{root: root} }

// amdVendor is AMD's number in PCI.
const amdVendor = "0x1002"

// Read returns the GPUs there are, in the order of their cards. A card that was there before and
// is not any more, one whose device does not answer, and memory errors that were not corrected
// (in HBM or GDDR, as the file ras/umc_err_count has them) are faults, as for [Reader.Read].
func (a *AMD) Read() ([]Device, error) {
	for _, card := range a.cards() {
		if !slices.Contains(a.seen, card) {
			a.seen = append(a.seen, card)
		}
	}
	slices.SortFunc(a.seen, func(x, y string) int { return number(x) - number(y) })
	var devices []Device
	var faults []error
	for i, card := range a.seen {
		d, err := a.device(i, card)
		if err != nil {
			faults = append(faults, fmt.Errorf("GPU %d (%s): %w", i, filepath.Base(card), err))
			continue
		}
		if d.ECCUncorrected > 0 {
			faults = append(faults, fmt.Errorf("GPU %d: ECC could not correct %.0f memory errors; reset the GPU", i, d.ECCUncorrected))
		}
		devices = append(devices, d)
	}
	return devices, errors.Join(faults...)
}

// cards are the folders of AMD's cards, connectors (card0-DP-1) not among them.
func (a *AMD) cards() []string {
	all, err := filepath.Glob(filepath.Join(a.root, "sys/class/drm/card*"))
	if err != nil {
		panic("BUG: the pattern of cards is malformed: " + err.Error())
	}
	return slices.DeleteFunc(all, func(card string) bool {
		if number(card) < 0 {
			return true
		}
		vendor, err := word(filepath.Join(card, "device/vendor"))
		return err != nil || vendor != amdVendor
	})
}

// number is the card's, -1 when it is not one.
func number(card string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(card), "card"))
	if err != nil {
		return -1
	}
	return n
}

func (a *AMD) device(index int, card string) (Device, error) {
	d := newDevice(index)
	dir := filepath.Join(card, "device")
	if _, err := word(filepath.Join(dir, "vendor")); err != nil {
		return d, fmt.Errorf("the GPU is gone: %w", err)
	}
	var gone error
	read := func(path string, scale float64, into *float64) {
		v, err := value(path)
		switch {
		case err == nil:
			*into = v / scale
		case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.EIO):
			gone = errors.Join(gone, fmt.Errorf("the GPU does not answer: %w", err))
		}
	}
	var used, total float64
	read(filepath.Join(dir, "gpu_busy_percent"), 1, &d.Utilization)
	read(filepath.Join(dir, "mem_info_vram_used"), 1, &used)
	read(filepath.Join(dir, "mem_info_vram_total"), 1, &total)
	if total > 0 {
		d.MemoryUsed, d.MemoryTotal = uint64(used), uint64(total)
	}
	if monitor := monitorOf(dir); monitor != "" {
		read(temperatureOf(monitor), 1000, &d.Temperature)          // millidegrees
		read(filepath.Join(monitor, "power1_input"), 1e6, &d.Power) // microwatts, of the moment
		read(filepath.Join(monitor, "power1_average"), 1e6, &d.Power)
	}
	d.ECCUncorrected = uncorrected(filepath.Join(dir, "ras/umc_err_count"), d.ECCUncorrected)
	// A name is not worth a fault.
	if d.Name, _ = word(filepath.Join(dir, "product_name")); d.Name == "" {
		product, _ := word(filepath.Join(dir, "device"))
		d.Name = strings.TrimSpace("AMD " + product)
	}
	d.UUID, _ = word(filepath.Join(dir, "unique_id"))
	return d, gone
}

// monitorOf is the folder of the device's sensors, "" when it has none.
func monitorOf(dir string) string {
	all, err := filepath.Glob(filepath.Join(dir, "hwmon/hwmon*"))
	if err != nil || len(all) == 0 {
		return ""
	}
	return all[0]
}

// temperatureOf is the file of the hottest place of the chip ("junction"), which every card that
// has it throttles by, else the first sensor's.
func temperatureOf(monitor string) string {
	labels, _ := filepath.Glob(filepath.Join(monitor, "temp*_label")) // the pattern is well formed
	for _, label := range labels {
		if name, err := word(label); err == nil && name == "junction" {
			return strings.TrimSuffix(label, "_label") + "_input"
		}
	}
	return filepath.Join(monitor, "temp1_input")
}

// uncorrected is the number in a line "ue: 2" of the file, unknown where there is none.
func uncorrected(path string, unknown float64) float64 {
	raw, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "ue:"); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil {
				return n
			}
		}
	}
	return unknown
}

func word(path string) (string, error) {
	raw, err := os.ReadFile(path)
	return strings.TrimSpace(string(raw)), err
}

// value is the file's one number, at least 0.
func value(path string) (float64, error) {
	text, err := word(path)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds %q; want a number: %w", path, text, fs.ErrInvalid)
	}
	return float64(v), nil
}
