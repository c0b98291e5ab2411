package handshake

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"reuseportd/internal/tls/record"
)

// speak does what an event loop does for a connection to a server: a handshake, then sent goes out, and as many bytes come
// back. Records in front of those are shown to crypto/tls.
func speak(conn net.Conn, base *tls.Config, sessions *Sessions, cut int, sent []byte) (got []byte, state tls.ConnectionState, err error) {
	defer conn.Close()
	s := Client(base, sessions)
	defer s.Close()
	var in, out []byte
	buf := make([]byte, 64<<10)
	read := func() error {
		k, err := conn.Read(buf[:cut])
		in = append(in, buf[:k]...)
		return err
	}
	for {
		var n int
		var st State
		out, n, st, err = s.Step(out[:0], in)
		in = in[n:]
		if len(out) > 0 {
			if _, werr := conn.Write(out); werr != nil && err == nil {
				return nil, state, werr
			}
		}
		switch {
		case err != nil:
			return nil, state, err
		case st == Works:
			s.Job()()
			continue
		case st == Waits:
			if err := read(); err != nil {
				return nil, state, err
			}
			continue
		}
		break
	}
	c, state, err := s.Result(new(record.Room))
	if err != nil {
		return nil, state, err
	}
	if _, err := conn.Write(c.Seal(nil, sent, nil)); err != nil {
		return nil, state, err
	}
	to := make([]byte, record.MaxPlain)
	for len(got) < len(sent) {
		size := Whole(in)
		if size == 0 {
			if err := read(); err != nil {
				return got, state, err
			}
			continue
		}
		rec := append([]byte(nil), in[:size]...)
		_, n, used, err := c.Open(nil, to, in[:size])
		if err != nil || used != size {
			return got, state, fmt.Errorf("%d of %d bytes opened: %w", used, size, err)
		}
		in = in[size:]
		if n == 0 && s.Tickets() {
			s.Ticket(rec)
		}
		got = append(got, to[:n]...)
	}
	return got, state, nil
}

// TestClient: in both versions, with a client's certificate whose key signs beside the loop, fresh and resumed, with a ticket that
// comes behind the handshake, from a server of crypto/tls.
func TestClient(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, cut := range []int{64 << 10, 1} {
			t.Run(fmt.Sprintf("%x/%d", version, cut), func(t *testing.T) {
				own := rsaCertificate(t)
				server := &tls.Config{Certificates: []tls.Certificate{ecCertificate(t)}, MaxVersion: version, ClientAuth: tls.RequireAnyClientCert}
				server.SetSessionTicketKeys([][32]byte{{1}})
				client := &tls.Config{
					InsecureSkipVerify: true, ServerName: "a.example", CipherSuites: record.Suites(),
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
				}
				sessions := new(Sessions)
				for round := range 4 {
					a, b := pipe(t)
					resumed := make(chan bool, 1)
					go func() {
						defer a.Close()
						conn := tls.Server(a, server)
						_, err := io.Copy(conn, conn)
						if state := conn.ConnectionState(); err == nil && len(state.PeerCertificates) != 1 {
							t.Error("the server has no certificate of the client's")
						}
						resumed <- conn.ConnectionState().DidResume
					}()
					sent := make([]byte, 40_000)
					_, _ = rand.Read(sent)
					if cut == 1 {
						sent = sent[:2000]
					}
					got, state, err := speak(b, client, sessions, cut, sent)
					if err != nil || !bytes.Equal(got, sent) {
						t.Fatalf("round %d: %d bytes came back, %v", round, len(got), err)
					}
					if theirs := <-resumed; state.Version != version || state.DidResume != (round > 0) || theirs != state.DidResume {
						t.Errorf("round %d: version %x, resumed %v, by the server's word %v", round, state.Version, state.DidResume, theirs)
					}
				}
			})
		}
	}
}

// TestClientRefuses: a server that can't prove who it is.
func TestClientRefuses(t *testing.T) {
	a, b := pipe(t)
	go func() {
		defer a.Close()
		_ = tls.Server(a, &tls.Config{Certificates: []tls.Certificate{ecCertificate(t)}}).Handshake()
	}()
	_, _, err := speak(b, &tls.Config{ServerName: "a.example", RootCAs: nil}, nil, 64<<10, nil)
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("error %v", err)
	}
}

// TestSessionsAreBounded: the oldest are forgotten.
func TestSessionsAreBounded(t *testing.T) {
	var s Sessions
	for i := range 3 * maxSessions {
		s.put(fmt.Sprint(i), session{state: new(tls.ClientSessionState)})
	}
	if len(s.named) != maxSessions || len(s.order) != maxSessions {
		t.Errorf("%d sessions, %d names", len(s.named), len(s.order))
	}
	if _, ok := s.get(fmt.Sprint(3*maxSessions - 1)); !ok {
		t.Error("the newest is forgotten")
	}
}
