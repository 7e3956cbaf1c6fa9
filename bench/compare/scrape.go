package compare

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// scrapeEvery is how often metrics are read: as a monitoring system would, only oftener, because
// a measurement lasts a few seconds.
const scrapeEvery = time.Second

// scrape reads url at once and then again and again, until stop is called, which returns the
// first error.
func scrape(ctx context.Context, url string) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		tick := time.NewTicker(scrapeEvery)
		defer tick.Stop()
		for {
			if err := read(ctx, client, url); err != nil && ctx.Err() == nil {
				done <- fmt.Errorf("read metrics: %w", err)
				return
			}
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() error { cancel(); return <-done }
}

func read(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
