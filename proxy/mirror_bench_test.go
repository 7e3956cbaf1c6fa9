package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/backend/backendtest"
)

// BenchmarkMirror is what a client notices of a mirror: the quantiles of its latency without one, and while the
// shadow hangs, answers, and is compared. Compare runs that are interleaved: -count.
func BenchmarkMirror(b *testing.B) {
	answer := backendtest.Behaviour{Body: []byte(`{"prediction":[0.1,0.7,0.2]}`), Latency: 2 * time.Millisecond}
	hangs := answer
	hangs.Fault = backendtest.FaultHangBeforeHead
	for _, c := range []struct {
		name    string
		shadow  backendtest.Behaviour
		percent float64
	}{{"without", answer, -1}, {"hangs", hangs, 100}, {"answers", answer, 100}, {"five percent", answer, 5}} {
		for _, size := range []int{1 << 10, 200 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", c.name, size>>10), func(b *testing.B) {
				primary, shadow := backendtest.NewServer(b, answer), backendtest.NewServer(b, c.shadow)
				s := setup{endpoints: []string{primary.Addr()}, pool: "outlier: off\n"}
				if c.percent >= 0 {
					m := comparing()
					m.Percent, m.Timeout = c.percent, time.Second
					s.change = mirroring(m, shadow.Addr())
				}
				r := start(b, s)
				const clients = 8
				request := post("/predict", strings.Repeat("x", size), false)
				var mu sync.Mutex
				var all []time.Duration
				var running sync.WaitGroup
				for range clients {
					c := r.dial(b)
					c.SetDeadline(time.Time{})
					running.Go(func() {
						var own []time.Duration
						for range b.N / clients {
							begin := time.Now()
							c.send(request)
							if m, _, err := c.readResponse("POST"); err != nil || m.status() != 200 {
								b.Error(err)
								return
							}
							own = append(own, time.Since(begin))
							time.Sleep(10 * time.Millisecond) // it is the latency of a machine that has time
						}
						mu.Lock()
						defer mu.Unlock()
						all = append(all, own...)
					})
				}
				running.Wait()
				slices.Sort(all)
				if len(all) == 0 {
					return
				}
				for q, name := range map[float64]string{.5: "p50-ms", .99: "p99-ms"} {
					b.ReportMetric(float64(all[int(q*float64(len(all)-1))].Microseconds())/1000, name)
				}
				if c.percent >= 0 {
					m := r.mirror(b)
					b.ReportMetric(float64(m.Sent), "sent")
					b.ReportMetric(float64(m.Skipped), "skipped")
				}
			})
		}
	}
}
