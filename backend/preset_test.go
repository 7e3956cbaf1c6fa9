package backend

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/backend/load"
)

// TestPresetReadsThisServer: the proxy's preset weir finds the signals in what this server really exposes.
func TestPresetReadsThisServer(t *testing.T) {
	var xids atomic.Uint64
	gpu := func() ([]GPUDevice, error) {
		return []GPUDevice{{MemoryUsed: 1 << 30, MemoryTotal: 4 << 30, Utilization: 35, XIDs: map[int]uint64{13: 5 * xids.Load(), 79: xids.Load()}}}, nil
	}
	r := start(t, Options{Models: []Source{source("m", "v1", doubler())}, GPU: gpu}, true)
	r.await(`ml_gpu_utilization_percent{device_id="0"} 35`)
	reader, now := load.NewReader("weir", nil), time.Now()
	read := func() load.Reading {
		got, err := reader.Read(strings.NewReader(r.get("/metrics").body), make([]byte, 64<<10), 1<<20, now)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	predict := func() {
		if got := r.post("/predict", `{"features":[1,2]}`); got.status != 200 {
			t.Fatal(got.status, got.body)
		}
	}
	predict()
	read()
	for range 10 {
		predict()
	}
	now = now.Add(2 * time.Second)
	reading := read()
	got := reading.Report
	if got.RPS != 5 || got.EPS != 0 {
		t.Errorf("%v requests, %v errors a second, want 5 and 0", got.RPS, got.EPS)
	}
	for name, want := range map[string]float64{"in_flight": 0, "queue": 0, "gpu_utilization": 0.35, "memory_utilization": 0.25} {
		if v, ok := load.Find(got.Named, name); !ok || math.Abs(v-want) > 1e-9 {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if v, ok := load.Find(got.Named, "queue_ms"); !ok || v < 0 {
		t.Errorf("queue_ms is %v (%v)", v, ok)
	}
	if reading.Events != nil || reading.Standing != nil {
		t.Errorf("faults: %v, %v", reading.Events, reading.Standing)
	}
	xids.Store(1)
	r.await(`ml_gpu_xid_errors_total{device_id="0",xid="79"} 1`)
	if events := read().Events; !slices.Equal(events, []string{"GPU 0: XID 79"}) {
		t.Errorf("events: %q", events)
	}
}

// TestPresetReadsTheQueue: what waits for 400 ms in this server is 400 ms to the preset weir.
func TestPresetReadsTheQueue(t *testing.T) {
	c := newClock()
	m, entered, proceed := gated()
	r := start(t, Options{Models: []Source{source("m", "v1", m)}, Workers: 1, Now: c.now}, true)
	reader := load.NewReader("weir", nil)
	read := func() *load.Report {
		t.Helper()
		got, err := reader.Read(strings.NewReader(r.get("/metrics").body), make([]byte, 64<<10), 1<<20, c.now())
		if err != nil {
			t.Fatal(err)
		}
		return got.Report
	}
	read()
	var asking sync.WaitGroup
	predict := func() {
		asking.Go(func() {
			if got := r.post("/predict", `{"features":[1,2]}`); got.status != 200 {
				t.Error(got.status, got.body)
			}
		})
	}
	predict()
	<-entered
	predict()
	predict()
	r.await("ml_queued_requests 2")
	c.advance(400 * time.Millisecond)
	if v, ok := load.Find(read().Named, "queue"); !ok || v != 2 {
		t.Errorf("queue is %v (%v), want 2", v, ok)
	}
	for range 2 {
		proceed <- struct{}{}
		<-entered
	}
	if v, ok := load.Find(read().Named, "queue_ms"); !ok || math.Abs(v-400) > 1e-6 {
		t.Errorf("queue_ms is %v (%v), want 400", v, ok)
	}
	proceed <- struct{}{}
	asking.Wait()
}
