package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

// behind are the servers that the proxies pass everything on to.
type behind struct {
	web      *rig.Server // a reuseportd of its own, with echo
	iperf    *rig.Server
	bulk     string // iperf3's address
	http     string
	echoPort string
	given    int
}

// newBehind configures them; binary is reuseportd's.
func newBehind(ctx context.Context, dir, binary string) (*behind, error) {
	dir = filepath.Join(dir, "behind")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	r, err := rig.NewReuseportd(ctx, dir, binary)
	if err != nil {
		return nil, err
	}
	port, err := rig.FreePort()
	if err != nil {
		return nil, err
	}
	b := &behind{web: r.Server, http: r.Address, echoPort: fmt.Sprint(port)}
	r.Name, r.EchoAddress = "the server behind", "0.0.0.0:"+b.echoPort
	if err := r.Configure(1, time.Second); err != nil {
		return nil, err
	}
	b.iperf, err = newIperf(dir)
	if err == nil {
		b.bulk = b.iperf.Address
	}
	return b, err
}

// echo returns an address of the echo that no other proxy has: ports that one has
// left in TIME_WAIT are not in the next one's way.
func (b *behind) echo() string {
	b.given++
	return fmt.Sprintf("127.0.0.%d:%s", b.given, b.echoPort)
}

func newIperf(dir string) (*rig.Server, error) {
	path, err := exec.LookPath("iperf3")
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	return &rig.Server{
		Name:    "iperf3",
		Version: rig.FirstLine(exec.Command(path, "-v")),
		Address: address,
		Args:    []string{path, "-s", "-B", host, "-p", port},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "iperf3.log"),
	}, nil
}

// relayRole is the first argument of this program where it is the relay.
const relayRole = "relay"

// newRelay is this program as the proxy that one writes in ten lines.
func newRelay(dir, to string) (*rig.Server, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	return &rig.Server{
		Name:    "io.Copy",
		Address: address,
		Args:    []string{path, relayRole, address, to},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "relay.log"),
	}, err
}

// relay passes every connection on, until it can't.
func relay(listen, to string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer server.Close()
			back := make(chan struct{})
			go func() {
				pass(client, server)
				close(back)
			}()
			pass(server, client)
			<-back
		}()
	}
}

// pass copies until the end of one side and tells the other of it. Between TCP
// connections, io.Copy is splice(2).
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}
