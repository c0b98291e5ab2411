package services

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reuseportd/test/harness"
)

// proxy is the service of a listener that passes all requests on to upstream
// "behind".
const proxy = "http: {max_body: 2GiB, routes: [{path: /, proxy: {upstream: behind}}]}"

// Numbered messages of all sizes come back through tunnels in their order, whether
// the client waits for each or sends many ahead.
func TestWebsocket(t *testing.T) {
	b := StartBackend(t)
	through(t, b.Address(), proxy, func(t *testing.T, f front) {
		before := b.Accepted.Load()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		const sockets = 4
		var all []*websocket.Conn
		for range sockets {
			c, _, err := websocket.Dial(ctx, "ws://"+f.address+"/echo", nil)
			must(t, err)
			defer c.CloseNow()
			c.SetReadLimit(1 << 20)
			all = append(all, c)
		}
		message := func(i, n int) string {
			return fmt.Sprintf("%d.%d %s", i, n, strings.Repeat("x", 1<<(n%17)))
		}
		for i := range changes {
			const ahead = 20
			sent := make(chan error, sockets)
			for k, c := range all[1:] { // the first has nothing under way
				go func() {
					var err error
					for n := range ahead {
						if err == nil {
							err = c.Write(ctx, websocket.MessageText, []byte(message(i, n+k)))
						}
					}
					sent <- err
				}()
			}
			f.change(i)
			must(t, all[0].Write(ctx, websocket.MessageBinary, []byte(message(i, 0))))
			wantMessage(ctx, t, all[0], message(i, 0))
			for k, c := range all[1:] {
				for n := range ahead {
					wantMessage(ctx, t, c, message(i, n+k))
				}
			}
			for range all[1:] {
				must(t, <-sent)
			}
		}
		for _, c := range all {
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
				t.Errorf("the closing handshake: %v", err)
			}
		}
		if n := b.Accepted.Load() - before; n != sockets {
			t.Errorf("the backend has accepted %d connections, want %d", n, sockets)
		}
	})
}

func wantMessage(ctx context.Context, t *testing.T, c *websocket.Conn, want string) {
	t.Helper()
	_, got, err := c.Read(ctx)
	if err != nil {
		t.Fatalf("want message %.12q: %v", want, err)
	}
	if string(got) != want {
		t.Fatalf("message %.12q of %d bytes, want %.12q of %d", got, len(got), want, len(want))
	}
}

// Each event is there before the next one is sent.
func TestServerSentEvents(t *testing.T) {
	b := StartBackend(t)
	through(t, b.Address(), proxy, func(t *testing.T, f front) {
		stream := openEvents(t, f.address)
		for i := range changes {
			stream.event(b, fmt.Sprint("before ", i))
			f.change(i)
			stream.event(b, fmt.Sprint("after ", i))
		}
		b.Events <- ""
		if rest, err := io.ReadAll(stream.r); err != nil || len(rest) > 0 {
			t.Errorf("%q, error %v at the end of the stream", rest, err)
		}
	})
}

type eventStream struct {
	t *testing.T
	r *bufio.Reader
}

func openEvents(t *testing.T, address string) eventStream {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get("http://" + address + "/events")
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		t.Fatalf("status %s", resp.Status)
	}
	return eventStream{t, bufio.NewReader(resp.Body)}
}

func (e eventStream) event(b *Backend, text string) {
	e.t.Helper()
	select {
	case b.Events <- text:
	case <-time.After(harness.Within):
		e.t.Fatal("the backend has no stream")
	}
	e.want(text)
}

func (e eventStream) want(text string) {
	e.t.Helper()
	for _, want := range []string{"data: " + text + "\n", "\n"} {
		if got, err := e.r.ReadString('\n'); err != nil || got != want {
			e.t.Fatalf("line %q, error %v, want %q", got, err, want)
		}
	}
}

// The sizes of up- and downloads: large by their length, and less in chunks.
const large, less = 1 << 30, 64 << 20

// transfer is one curl, and what hash its body has at the far end.
type transfer struct {
	*Job
	size int64
	hash chan string
}

func download(t *testing.T, address string, size int64, more string) transfer {
	t.Helper()
	r, w := io.Pipe()
	hash := make(chan string, 1)
	go func() {
		text, err := Hash(r)
		if err != nil {
			text = err.Error()
		}
		hash <- text
	}()
	url := fmt.Sprintf("http://%s/down?size=%d&steps=%d%s", address, size, changes+1, more)
	j := startJob(t, nil, w, "curl", "-sS", "--fail", "--max-time", "150", url)
	go func() {
		<-j.done
		w.Close()
	}()
	return transfer{j, size, hash}
}

func upload(t *testing.T, b *Backend, address string, size int64, flags ...string) transfer {
	t.Helper()
	flow := NewFlow(t.Context(), size, changes+1, b.Gate)
	hash := make(chan string, 1)
	j := StartJob(t, flow, "curl", append(flags, "-sS", "--fail", "--max-time", "150", "-T", "-", "http://"+address+"/up")...)
	go func() {
		<-j.done
		hash <- j.out.String()
	}()
	return transfer{j, size, hash}
}

// What goes up and down while the server is changed in its middle arrives whole.
func TestUpAndDown(t *testing.T) {
	for _, service := range []string{"tcp: {upstream: behind}", proxy} {
		name, _, _ := strings.Cut(service, ":")
		t.Run(name, func(t *testing.T) {
			b := StartBackend(t)
			through(t, b.Address(), service, func(t *testing.T, f front) {
				before := b.Accepted.Load()
				b.Gate.Shut()
				all := []transfer{
					download(t, f.address, large, ""), download(t, f.address, less, "&chunked=1"), upload(t, b, f.address, less),
					upload(t, b, f.address, large, "-H", "Transfer-Encoding:", "-H", fmt.Sprint("Content-Length: ", large)),
				}
				harness.Wait(t, "all to have begun", func() bool { return b.Accepted.Load()-before == int64(len(all)) })
				for i := range changes {
					b.Gate.Open(i + 1)
					f.change(i)
				}
				for _, tr := range all {
					tr.Wait()
					if hash := <-tr.hash; hash != FlowHash(tr.size) {
						t.Errorf("%v: hash %s, want %s", tr.cmd.Args, hash, FlowHash(tr.size))
					}
				}
				if n := b.Accepted.Load() - before; n != int64(len(all)) {
					t.Errorf("the backend has accepted %d connections, want %d", n, len(all))
				}
			})
		})
	}
}
