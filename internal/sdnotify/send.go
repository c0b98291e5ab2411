package sdnotify

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// maxBehind bounds the messages that wait for the service manager.
const maxBehind = 64

// behind are the messages for which the service manager's socket had no room, oldest first. While there
// are any, a goroutine sends them.
var behind struct {
	sync.Mutex
	states []string
	sent   chan struct{} // closed when none is left
}

// send sends a message, or has it wait for its turn.
func send(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	behind.Lock()
	defer behind.Unlock()
	var err error
	if len(behind.states) == 0 {
		if err = sendNow(name, state); err == nil {
			return nil
		}
	}
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("tell the service manager %q: %w", state, err)
	}
	if len(behind.states) == maxBehind {
		return fmt.Errorf("tell the service manager %q: it has taken none of the last %d messages", state, maxBehind)
	}
	if behind.states = append(behind.states, state); len(behind.states) == 1 {
		behind.sent = make(chan struct{})
		go catchUp()
	}
	return nil
}

// sendNow sends a message if there is room for it, else it returns EAGAIN.
func sendNow(name, state string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: name})
}

// catchUp sends what waits, and waits for the service manager.
func catchUp() {
	behind.Lock()
	defer behind.Unlock()
	for len(behind.states) > 0 {
		state := behind.states[0]
		behind.Unlock()
		_, _ = daemon.SdNotify(false, state) // if it fails, nobody is there to hear it
		behind.Lock()
		behind.states = behind.states[1:]
	}
	close(behind.sent)
}

// Flush waits until the service manager has what it was told, but at most for a time.
func Flush(within time.Duration) {
	behind.Lock()
	sent, n := behind.sent, len(behind.states)
	behind.Unlock()
	if n == 0 {
		return
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
	}
}
