package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// TestEdgeTunnelOverTLS: a tunnel from a client that speaks TLS is as any other.
func TestEdgeTunnelOverTLS(t *testing.T) {
	k := newKeeper(t)
	ep := tunnelEndpoint(t, echoBytes)
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	dial := func() *client {
		c := r.dialTLS(t, k.client())
		c.send(upgradeRequest)
		if m, err := c.readHead(); err != nil || m.status() != 101 {
			t.Fatalf("no tunnel: %+v, %v", m, err)
		}
		return c
	}
	c := dial()
	if got := ep.last(t).get("X-Forwarded-Proto"); got != "https" {
		t.Errorf("X-Forwarded-Proto: %s", got)
	}
	sent := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(sent)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c.br, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("not the bytes that were sent: %v", err)
	}
	// The end of the client's side is passed on, and so is the endpoint's that follows.
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c.br); err != nil || len(b) > 0 {
		t.Errorf("%d bytes and %v instead of the end", len(b), err)
	}
	eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })

	c = dial()
	_ = c.Conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0)
	_ = c.Conn.(*tls.Conn).NetConn().Close()
	ep.noneOpen(t)
	eventually(t, "the end of the tunnel", func() bool { return r.openTunnels(t) == 0 })
}

// TestEdgeTunnelOverTLSReset: an endpoint that breaks off is not taken for one that has ended.
func TestEdgeTunnelOverTLSReset(t *testing.T) {
	k := newKeeper(t)
	ep := tunnelEndpoint(t, func(s *served) {
		_, _ = s.br.ReadByte()
		_ = s.Conn.(*net.TCPConn).SetLinger(0)
	})
	r := secured(t, k, "", setup{endpoints: []string{ep.addr}})
	c := r.dialTLS(t, k.client())
	c.send(upgradeRequest)
	if m, err := c.readHead(); err != nil || m.status() != 101 {
		t.Fatalf("no tunnel: %+v, %v", m, err)
	}
	c.send("x")
	if _, err := c.br.ReadByte(); !errors.Is(err, syscall.ECONNRESET) && err != io.ErrUnexpectedEOF {
		t.Errorf("the client met %v", err)
	}
}

// TestEdgeWebSocketOverTLS: wss, with a client and a server that are not weir's.
func TestEdgeWebSocketOverTLS(t *testing.T) {
	k := newKeeper(t)
	s := webSocketServer(t, nil, echoMessages)
	r := secured(t, k, "", setup{endpoints: []string{address(s)}})
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://"+r.addr+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: k.client()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for _, size := range []int{1, 1_000, 1 << 20} {
		sent := bytes.Repeat([]byte("x"), size)
		go func() { _ = c.Write(ctx, websocket.MessageText, sent) }()
		if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back as %d (%v)", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

// TestEdgeUpgradeToHTTP2: there is no Upgrade in HTTP/2 (RFC 9113, 8.6), so that its endpoints get a plain request.
func TestEdgeUpgradeToHTTP2(t *testing.T) {
	e := newH2C(t, func(w http.ResponseWriter, q *http.Request) {
		fmt.Fprintf(w, "%q", q.Header.Get("Upgrade")+q.Header.Get("Connection"))
	})
	c := overH2(t, e, setup{}).dial(t)
	for range 2 {
		c.send(upgradeRequest)
		if m := c.answer("GET"); m.status() != 200 || string(m.body) != `""` {
			t.Errorf("answered with %+v, %s", m, m.body)
		}
	}
}
