package upstream

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// nameServer is a DNS server (RFC 1035) for one name, whatever is asked for.
type nameServer struct {
	conn  *net.UDPConn
	mu    sync.Mutex
	rcode byte
	addrs []netip.Addr
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{conn: conn}
	var done sync.WaitGroup
	done.Go(n.serve)
	t.Cleanup(func() {
		_ = conn.Close()
		done.Wait()
	})
	return n
}

// resolver asks the server and nobody else.
func (n *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func (n *nameServer) answer(rcode byte, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rcode, n.addrs = rcode, nil
	for _, a := range addrs {
		n.addrs = append(n.addrs, netip.MustParseAddr(a))
	}
}

func (n *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if msg := n.reply(buf[:size]); msg != nil {
			_, _ = n.conn.WriteToUDP(msg, from)
		}
	}
}

// reply answers the question with the addresses of its type.
func (n *nameServer) reply(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	kind := binary.BigEndian.Uint16(query[end-4:])
	n.mu.Lock()
	defer n.mu.Unlock()
	msg := append([]byte(nil), query[:end]...)
	msg[2], msg[3] = 0x84, 0x80|n.rcode // an answer, authoritative
	copy(msg[6:12], []byte{0, 0, 0, 0, 0, 0})
	for _, a := range n.addrs {
		if a.Is4() && kind != 1 || a.Is6() && kind != 28 {
			continue
		}
		msg[7]++
		msg = append(msg, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 1, 0, byte(a.BitLen()/8))
		msg = append(msg, a.AsSlice()...)
	}
	return msg
}
