package loadgen

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
)

// A kept connection that the server ends by an answer is no loss, and another takes its place.
func TestServerCloses(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			var asked, ended atomic.Uint64
			enough := make(chan struct{})
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				switch n := asked.Add(1); {
				case n == 100:
					close(enough)
				case n%10 == 0 && n < 100:
					ended.Add(1)
					w.Header().Set("Connection", "close")
				}
				_, _ = io.WriteString(w, "hello\n")
			}))
			defer s.Close()
			l, err := Start(Config{
				Address:     netip.MustParseAddrPort(s.Listener.Addr().String()),
				Connections: 3, Threads: 1, Kept: true, Rate: rate,
			})
			if err != nil {
				t.Fatal(err)
			}
			<-enough
			r := l.Stop()
			if r.Lost != 0 || r.Closed != ended.Load() || r.Connects != 3+r.Closed {
				t.Errorf("%+v, %d ended", r.Counts, ended.Load())
			}
		})
	}
}
