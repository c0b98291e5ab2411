package services

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
)

// Backend is an HTTP server:
//
//	/hello           "hello"
//	/down?size=&steps=&chunked=   a flow
//	/up              the hash of what was sent
//	/events          server-sent events, one for each string sent to Events; "" ends them
//	/echo            a websocket that says back each message
type Backend struct {
	Gate     *Gate // of flows
	Events   chan string
	Accepted atomic.Int64
	server   *httptest.Server
}

// countingListener counts what it accepts.
type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// StartBackend serves until the test ends.
func StartBackend(t testing.TB) *Backend {
	b := &Backend{Gate: NewGate(), Events: make(chan string)}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("/down", b.down)
	mux.HandleFunc("/up", up)
	mux.HandleFunc("/events", b.events)
	mux.HandleFunc("/echo", echo)
	b.server = httptest.NewUnstartedServer(mux)
	b.server.Listener = countingListener{b.server.Listener, &b.Accepted}
	b.server.Start()
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	return b
}

// Address is where it listens.
func (b *Backend) Address() string { return b.server.Listener.Addr().String() }

func (b *Backend) down(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.FormValue("size"), 10, 64)
	steps, stepsErr := strconv.Atoi(r.FormValue("steps"))
	if err != nil || stepsErr != nil {
		http.Error(w, "size and steps are numbers", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", fmt.Sprint(size))
	}
	if http.NewResponseController(w).Flush() != nil {
		return
	}
	buf := make([]byte, 256<<10)
	// An error is the client's to notice: it gets less than it wants.
	_, _ = io.CopyBuffer(struct{ io.Writer }{w}, NewFlow(r.Context(), size, steps, b.Gate), buf)
}

func up(w http.ResponseWriter, r *http.Request) {
	hash, err := Hash(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = io.WriteString(w, hash)
}

func (b *Backend) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for {
		if flush.Flush() != nil {
			return
		}
		select {
		case text := <-b.Events:
			if text == "" {
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", text)
		case <-r.Context().Done():
			return
		}
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		kind, data, err := c.Read(r.Context())
		if err == nil {
			err = c.Write(r.Context(), kind, data)
		}
		if err != nil {
			return // the client is done, or has a reason to complain
		}
	}
}
