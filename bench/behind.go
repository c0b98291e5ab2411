package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

// behind are the servers to which proxies pass everything on.
type behind struct {
	servers  []*rig.Server // a reuseportd with HTTP and echo; iperf3
	http     string
	bulk     string // iperf3's address
	echoPort string
	given    int
}

func newBehind(ctx context.Context, dir, binary string) (*behind, error) {
	dir = filepath.Join(dir, "behind")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	web, echo, err := newWeb(ctx, dir, binary)
	if err != nil {
		return nil, err
	}
	b := &behind{servers: []*rig.Server{web.Server}, http: web.Address, echoPort: echo}
	iperf, err := newIperf(dir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: nothing to send bulk to: %v\n", err)
		b.bulk, err = rig.FreeAddress()
		return b, err
	}
	b.servers, b.bulk = append(b.servers, iperf), iperf.Address
	return b, nil
}

// newWeb is a reuseportd with one worker and an echo on all addresses of a port.
func newWeb(ctx context.Context, dir, binary string) (r *rig.Reuseportd, echoPort string, err error) {
	if r, err = rig.NewReuseportd(ctx, dir, binary); err != nil {
		return nil, "", err
	}
	port, err := rig.FreePort()
	if err != nil {
		return nil, "", err
	}
	echoPort = fmt.Sprint(port)
	r.EchoAddress = "0.0.0.0:" + echoPort
	return r, echoPort, r.Configure(1, time.Second)
}

// echo returns an address of the echo that no other proxy has: ports that one has
// left in TIME_WAIT are not in the next one's way.
func (b *behind) echo() string {
	b.given++
	return fmt.Sprintf("127.0.0.%d:%s", b.given, b.echoPort)
}

func (b *behind) start(ctx context.Context) error {
	for _, s := range b.servers {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *behind) stop() {
	for _, s := range b.servers {
		s.Stop()
	}
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
	host, port, err := net.SplitHostPort(address)
	return &rig.Server{
		Name:    "iperf3",
		Version: rig.FirstLine(exec.Command(path, "-v")),
		Address: address,
		Args:    []string{path, "-s", "-B", host, "-p", port},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(dir, "iperf3.log"),
	}, err
}
