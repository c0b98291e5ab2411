package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"reuseportd/internal/rig"
)

// relayRole is the first argument of this program where it is the relay.
const relayRole = "relay"

// relaying is this program as the proxy that one writes in ten lines.
func relaying(_ context.Context, p place) (*contender, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	s := &rig.Server{
		Address: address,
		Args:    []string{path, relayRole, address, p.behind.bulk},
		Quit:    syscall.SIGTERM,
		Log:     filepath.Join(p.dir, "relay.log"),
	}
	return &contender{Server: s, doors: map[door]string{doorBulk: address}}, ownBinary(s, p.dir)
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
