package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxClients bounds the clients that are served at the same time. A person
// needs one; the bound keeps a script gone wild from using up descriptors.
const maxClients = 64

// Variables, so that tests need not wait for them.
var (
	// requestTimeout bounds how long a client may take to send its line.
	requestTimeout = 5 * time.Second
	// responseTimeout bounds how long it may take to read the answer.
	responseTimeout = 5 * time.Second
	// answerGrace is how long requests in progress may go on after Serve was
	// told to end.
	answerGrace = 5 * time.Second
)

// Handler answers requests. Handle is called from many goroutines and may
// block for as long as the change takes. Its context ends only when the master
// is leaving and has waited in vain for the answer.
type Handler interface {
	Handle(ctx context.Context, req Request) Response
}

// Serve answers clients on l until ctx ends, then closes l, lets the requests
// in progress have their answers, and returns nil. It never removes the socket
// from the file system: the next master serves on the same one.
func Serve(ctx context.Context, l *net.UnixListener, h Handler) error {
	l.SetUnlinkOnClose(false)
	s := &server{h: h, idle: map[*net.UnixConn]struct{}{}}
	// Requests outlive ctx by answerGrace: an upgrade's last act is to answer
	// the client that asked for it.
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close(); s.close() })
	defer stop()

	err := s.accept(ctx, l)
	l.Close()
	s.close()
	grace := time.AfterFunc(answerGrace, cancel)
	defer grace.Stop()
	s.wg.Wait()
	return err
}

type server struct {
	h   Handler
	ctx context.Context
	wg  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients int
	// idle holds the clients that wait for no answer. Invariant: empty once
	// closed is set.
	idle map[*net.UnixConn]struct{}
}

func (s *server) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			if s.enter() {
				s.wg.Go(func() { defer s.leave(); s.client(conn) })
			} else {
				refuse(conn, fmt.Sprintf("the master already answers %d clients; try again in a moment", maxClients))
			}
		case ctx.Err() != nil:
			return nil
		case temporary(err):
			// Out of descriptors or memory: the queue keeps the client.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(50 * time.Millisecond):
			}
		default:
			return fmt.Errorf("accept on the control socket %s: %w", l.Addr(), err)
		}
	}
}

func temporary(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// client serves one client to its end.
func (s *server) client(conn *net.UnixConn) {
	defer conn.Close()
	if err := checkPeer(conn); err != nil {
		refuse(conn, err.Error())
		return
	}
	r := bufio.NewReaderSize(conn, maxLine)
	for s.setIdle(conn, true) {
		line, err := readLine(r)
		if !s.setIdle(conn, false) {
			break
		}
		if err != nil {
			if text := explainRead(err, len(line)); text != "" {
				respond(conn, Response{Error: text})
			}
			return
		}
		req, err := ParseRequest(line)
		if err != nil {
			respond(conn, Response{Error: err.Error()})
			return
		}
		if req.Command == "takeover" {
			if err := checkSame(conn); err != nil {
				respond(conn, Response{Error: err.Error()})
				return
			}
		}
		if !respond(conn, s.h.Handle(s.ctx, req)) {
			return
		}
	}
	// The end of the service and a request may have crossed: its client must
	// not be left to guess whether it was begun.
	refuse(conn, ErrSuperseded)
}

// explainRead says what to answer to a request that could not be read, with
// got bytes of it read; "" is nothing.
func explainRead(err error, got int) string {
	switch {
	case errors.Is(err, errTooLong):
		return err.Error()
	case got == 0:
		return "" // gone, or silent: neither awaits an answer
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("the request was not complete after %s; it is one line of JSON", requestTimeout)
	default:
		return "the request ended before its line did"
	}
}

// respond writes one answer and reports whether the client took it.
func respond(conn *net.UnixConn, resp Response) bool {
	return write(conn, resp, responseTimeout)
}

func write(conn *net.UnixConn, resp Response, timeout time.Duration) bool {
	line, err := json.Marshal(resp)
	if err != nil {
		// A NaN or an infinity in a receipt is the only way here.
		line, _ = json.Marshal(Response{Error: "the answer can't be written as JSON: " + err.Error()})
	}
	conn.SetWriteDeadline(time.Now().Add(timeout))
	if resp.File != nil {
		defer resp.File.Close()
		_, _, err = conn.WriteMsgUnix(append(line, '\n'), unix.UnixRights(int(resp.File.Fd())), nil)
		return err == nil
	}
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}

// refuse answers without having read, and closes. The client may not have sent
// its request yet: closing only the writing side, and reading what is there,
// keeps the refusal from being lost in a reset. It never blocks for long.
func refuse(conn *net.UnixConn, text string) {
	defer conn.Close()
	const patience = 100 * time.Millisecond
	write(conn, Response{Error: text}, patience)
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(patience))
	var buf [512]byte
	for {
		if _, err := conn.Read(buf[:]); err != nil {
			return
		}
	}
}

func (s *server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == maxClients {
		return false
	}
	s.clients++
	return true
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients--
}

// setIdle notes whether conn waits for a request, for which it has
// requestTimeout, and reports whether it may go on. A request that has been
// read is answered even when the server is leaving, unless its reading was what
// the end interrupted.
func (s *server) setIdle(conn *net.UnixConn, idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !idle {
		delete(s.idle, conn)
		return !s.closed
	}
	if s.closed {
		return false
	}
	conn.SetReadDeadline(time.Now().Add(requestTimeout))
	s.idle[conn] = struct{}{}
	return true
}

// close interrupts the clients that wait for no answer.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.idle {
		conn.SetReadDeadline(time.Unix(1, 0))
		delete(s.idle, conn)
	}
}
