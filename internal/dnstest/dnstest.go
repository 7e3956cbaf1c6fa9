// Package dnstest is a name server for tests: a real one, on a port of 127.0.0.1 over UDP, whose answers change while it
// runs.
package dnstest

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// SRV is a record of a service.
type SRV struct {
	Priority, Weight, Port uint16
	Target                 string // without the last dot
}

// Server is a running name server.
type Server struct {
	conn *net.UDPConn

	mu        sync.Mutex
	addrs     map[string][]netip.Addr
	services  map[string][]SRV
	refusing  bool
	questions map[string]int
}

// New starts a server that knows no name. It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{conn: conn, addrs: map[string][]netip.Addr{}, services: map[string][]SRV{}, questions: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

// Addr is the server's IP:PORT.
func (s *Server) Addr() string { return s.conn.LocalAddr().String() }

// Answer sets the addresses of a host, A and AAAA.
func (s *Server) Answer(host string, addrs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[host] = nil
	for _, a := range addrs {
		s.addrs[host] = append(s.addrs[host], netip.MustParseAddr(a))
	}
}

// AnswerSRV sets the records of a service.
func (s *Server) AnswerSRV(name string, records ...SRV) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.services[name] = records
}

// Refuse has every question answered by SERVFAIL, or no more.
func (s *Server) Refuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = refuse
}

// Questions is how often a name was asked for, whatever the type.
func (s *Server) Questions(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.questions[name]
}

func (s *Server) serve() {
	b := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		head, err := p.Start(b[:n])
		if err != nil {
			continue
		}
		q, err := p.Question()
		if err != nil {
			continue
		}
		if answer, err := s.answer(head, q); err == nil {
			_, _ = s.conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

// answer is what the server says to a question.
func (s *Server) answer(head dnsmessage.Header, q dnsmessage.Question) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.questions[name]++
	addrs, host := s.addrs[name]
	records, service := s.services[name]
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired},
		Questions: []dnsmessage.Question{q},
	}
	switch {
	case s.refusing:
		m.RCode = dnsmessage.RCodeServerFailure
		return m.Pack()
	case !host && !service:
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	add := func(body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: body})
	}
	for _, a := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			add(&dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			add(&dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	for _, r := range records {
		target, err := dnsmessage.NewName(r.Target + ".")
		if err != nil {
			return nil, err
		}
		if q.Type == dnsmessage.TypeSRV {
			add(&dnsmessage.SRVResource{Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: target})
		}
	}
	return m.Pack()
}
