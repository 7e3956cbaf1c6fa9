package takeover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// maxPacket is far more than perPacket names need.
const maxPacket = 128 << 10

// link is a connection of packets between the two processes.
type link struct {
	c *net.UnixConn
}

// refusal is a "no" of the running weir.
type refusal struct{ reason string }

func (r *refusal) Error() string { return "the running weir refuses: " + r.reason }

// errGone says that the peer has ended, or has closed the connection, which it does not do while it lives.
var errGone = errors.New("the other weir has gone")

func (l link) close() { _ = l.c.Close() }

func (l link) send(m message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxPacket {
		return fmt.Errorf("a packet of %d bytes, more than %d", len(data), maxPacket)
	}
	var oob []byte
	if len(files) > 0 {
		var release func()
		if oob, release, err = rights(files); err != nil {
			return err
		}
		defer release()
	}
	_ = l.c.SetWriteDeadline(time.Now().Add(sendWithin))
	_, _, err = l.c.WriteMsgUnix(data, oob, nil)
	return err
}

// receive waits for a packet until ctx or the time is over; both are os.ErrDeadlineExceeded.
func (l link) receive(ctx context.Context, within time.Duration) (message, []*os.File, error) {
	_ = l.c.SetReadDeadline(time.Now().Add(within))
	interrupt := func() { _ = l.c.SetReadDeadline(time.Now()) }
	defer context.AfterFunc(ctx, interrupt)()
	data, oob := make([]byte, maxPacket), make([]byte, rightsSpace(perPacket))
	n, oobn, flags, _, err := l.c.ReadMsgUnix(data, oob)
	if err != nil {
		return message{}, nil, gone(err)
	}
	files, err := received(oob[:oobn], flags)
	if err != nil {
		return message{}, nil, err
	}
	var m message
	if err := json.Unmarshal(data[:n], &m); err != nil {
		closeAll(files)
		return message{}, nil, fmt.Errorf("the other weir sent %.40q: %w", data[:n], err)
	}
	if m.Kind == kindNo {
		closeAll(files)
		return m, nil, &refusal{m.Reason}
	}
	return m, files, nil
}

// expect receives a packet of one kind, without descriptors.
func (l link) expect(ctx context.Context, kind string, within time.Duration) (message, error) {
	m, files, err := l.receive(ctx, within)
	closeAll(files)
	if err == nil && m.Kind != kind {
		err = fmt.Errorf("the other weir says %.40q, want %q", m.Kind, kind)
	}
	return m, err
}

// withdraw tells the peer that there is nothing for it, and returns whether it has said kind before:
// then it is not told, and it counts. After withdraw the peer can say nothing more: the system refuses
// to send it.
func (l link) withdraw(kind, reason string) bool {
	_ = l.c.CloseRead()
	for { // ends: nothing is added any more, and nothing waits
		m, files, err := l.receive(context.Background(), time.Second)
		closeAll(files)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded): // a late interrupt of an earlier receive; this one has not looked
		case err != nil:
			_ = l.send(message{Kind: kindNo, Reason: reason})
			return false
		case m.Kind == kind && kind != "":
			return true
		}
	}
}

// refuse is withdraw before the peer could have said anything that counts. Without taking first what it
// said, closing would be a reset to it, and hide the reason.
func (l link) refuse(reason string) { l.withdraw("", reason) }

// gone names the errors that mean that the peer has ended.
func gone(err error) error {
	if errors.Is(err, io.EOF) || isReset(err) {
		return errGone
	}
	return err
}
