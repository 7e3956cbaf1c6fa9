package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// lookTimeout bounds a look of "weir status -w": a weir that hangs is one that cannot be reached.
const lookTimeout = 5 * time.Second

// What a picture in place needs of a terminal: another screen without a cursor and without wrapped lines,
// and all of that undone.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	leaveScreen = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchStatus shows the state again and again, in place on a terminal, until it is interrupted. A weir
// that cannot be reached may come back; one that refuses at the first look would go on refusing.
func (c *cli) watchStatus(ctx context.Context, api *client, interval time.Duration) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	w := &watcher{cli: c}
	looks := make(chan looked)
	go keepLooking(ctx, api, interval, looks)
	if c.inPlace() {
		signals, forget := notifyTerminal()
		defer forget()
		return w.inPlace(ctx, looks, signals)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-looks:
			if err := w.again(l); err != nil {
				return ended(err)
			}
		}
	}
}

func keepLooking(ctx context.Context, api *client, interval time.Duration, looks chan<- looked) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var l looked
	for {
		within, cancel := context.WithTimeout(ctx, lookTimeout)
		l.look(within, api)
		cancel()
		select {
		case looks <- l:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// watcher is what "weir status -w" has seen.
type watcher struct {
	cli   *cli
	seen  *looked // the last that was seen; nil before there was any
	at    time.Time
	err   error // why there is nothing newer
	since time.Time
}

// note takes a look. Its error is that watching makes no sense.
func (w *watcher) note(l looked, now time.Time) error {
	var refused *apiError
	if l.err == nil {
		w.seen, w.at, w.err = &l, now, nil
		return nil
	}
	if w.seen == nil && errors.As(l.err, &refused) && refused.status < 500 {
		return l.err
	}
	if w.err == nil {
		w.since = now
	}
	w.err = l.err
	return nil
}

// again prints a look after those before.
func (w *watcher) again(l looked) error {
	now := time.Now()
	if err := w.note(l, now); err != nil {
		return err
	}
	if w.err != nil {
		w.cli.complain(w.err)
		return nil
	}
	v := w.cli.view(l, now)
	if w.cli.output == "yaml" {
		if _, err := io.WriteString(w.cli.stdout, "---\n"); err != nil {
			return err
		}
	}
	return w.cli.print(l.status, func(out io.Writer) {
		fmt.Fprintf(out, "--- %s\n%s\n", now.Format(time.DateTime), strings.Join(v.live(), "\n"))
	})
}

// inPlace draws over what it drew before: at every look, and when the terminal has another size. While the
// program is suspended the terminal is the shell's.
func (w *watcher) inPlace(ctx context.Context, looks <-chan looked, signals <-chan os.Signal) (err error) {
	write := func(text string) {
		if err == nil {
			_, err = io.WriteString(w.cli.stdout, text)
		}
	}
	write(enterScreen)
	defer func() { _, _ = io.WriteString(w.cli.stdout, leaveScreen) }() // whatever err says, which is told anyway
	away := false
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case l := <-looks:
			if err := w.note(l, time.Now()); err != nil {
				return err
			}
		case s := <-signals:
			switch {
			case isSuspend(s):
				write(leaveScreen)
				suspend() // takes a moment; nothing is drawn until the shell goes on with it
				away = true
			case isContinue(s) && away:
				write(enterScreen)
				away = false
			}
		}
		if away {
			continue
		}
		width, height := w.cli.size()
		write(inPlace(w.picture(time.Now(), width), width, height))
	}
	return err
}

// picture is what was seen last, under the news that there is nothing newer.
func (w *watcher) picture(now time.Time, width int) (lines []string) {
	if w.err != nil {
		text := "cannot be reached for " + about(now.Sub(w.since)) + ", trying again"
		if w.seen != nil {
			text += "; this is of " + shortTime(w.at, now)
		}
		for line := range strings.Lines(text + "\n" + w.err.Error()) {
			for _, line := range wrap(printable(strings.TrimSuffix(line, "\n")), width) {
				lines = append(lines, paint(line, red, w.cli.colours()))
			}
		}
		lines = append(lines, "")
	}
	if w.seen == nil {
		return lines
	}
	v := w.cli.view(*w.seen, now)
	v.width = width
	if w.err != nil {
		v.now = w.at
	}
	return append(lines, v.live()...)
}

// inPlace are the lines as they overwrite those before, which does not flicker; what is below the
// terminal's last line is left out.
func inPlace(lines []string, width, height int) string {
	if len(lines) > height && height > 0 {
		left := fmt.Sprintf("… %s more; a larger window shows all", plural(len(lines)-height+1, "line"))
		lines = append(lines[:height-1:height-1], clip(left, width))
	}
	picture := home
	for i, line := range lines {
		if i > 0 {
			picture += "\r\n"
		}
		if picture += line; cells(line) < width { // behind a full line it would clear the last letter
			picture += clearLine
		}
	}
	return picture + clearBelow
}

// ended is nil where the reader, such as head, has seen enough.
func ended(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
