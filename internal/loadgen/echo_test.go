package loadgen

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// echo sends back what it gets and tells of each read. A client that ends
// otherwise than by closing in order fails the test.
func echo(t *testing.T) (address netip.AddrPort, asked chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan struct{})
	var ended sync.WaitGroup
	t.Cleanup(func() { l.Close(); ended.Wait() })
	ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ended.Go(func() {
				defer conn.Close()
				buf := make([]byte, 1024)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						if err != io.EOF {
							t.Errorf("a client ended by %v", err)
						}
						return
					}
					_, _ = conn.Write(buf[:n])
					select {
					case asked <- struct{}{}:
					default:
					}
				}
			})
		}
	})
	return netip.MustParseAddrPort(l.Addr().String()), asked
}

func TestEcho(t *testing.T) {
	for name, c := range map[string]Config{
		"churn":      {Connections: 5, Threads: 2},
		"kept":       {Connections: 5, Threads: 2, Kept: true},
		"kept paced": {Connections: 5, Threads: 2, Kept: true, Rate: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			address, asked := echo(t)
			c.Address, c.Echo = address, 100
			l, err := Start(c)
			if err != nil {
				t.Fatal(err)
			}
			l.Record()
			for range 50 {
				<-asked
			}
			l.EndRecord()
			r := l.Stop()
			if r.Failed != 0 || r.Lost != 0 || r.Answered < 50 || r.Latency.TotalCount() == 0 {
				t.Errorf("%+v, %d latencies", r.Counts, r.Latency.TotalCount())
			}
			if c.Kept != (r.Connects == 5) || !c.Kept && r.Answered != r.Connects {
				t.Errorf("%+v", r.Counts)
			}
		})
	}
}

// What was due while a server stood still counts from then, on kept connections too.
func TestStallOfKeptConnections(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := netip.MustParseAddrPort(l.Addr().String())
	load, err := Start(Config{Address: address, Connections: 1, Threads: 1, Kept: true, Rate: 1000, Echo: 1})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 1)
	answer := func() bool {
		if _, err := conn.Read(buf); err != nil {
			return false
		}
		_, err := conn.Write(buf)
		return err == nil
	}
	answer()
	load.Record()
	const stall = 50 * time.Millisecond // the quantity that is measured
	time.Sleep(stall)
	load.EndRecord() // with most of them still to be sent
	answered := make(chan int)
	go func() {
		n := 0
		for ; answer(); n++ {
		}
		answered <- n
	}()
	r := load.Stop()
	if slow := time.Duration(r.Latency.ValueAtPercentile(90)); slow < stall/2 {
		t.Errorf("the 90th percentile is %v after a stall of %v", slow, stall)
	}
	n := <-answered
	if want := stall.Milliseconds() / 2; r.Lost != 0 || int64(n) < want || r.Latency.TotalCount() < want {
		t.Errorf("%+v, %d answered after the stall, %d latencies, want %d", r.Counts, n, r.Latency.TotalCount(), want)
	}
}
