package main

import (
	"strings"
	"testing"
)

func TestReadReport(t *testing.T) {
	const head = "Seconds,Closed,Pending,Connected,Service Available\n"
	for text, want := range map[string]held{
		head + "0,0,1,0,1500\n1,0,1,432,1500\n2,8,0,1492,1500\n":  {1492, 1492, 3, 0},
		head + "0,0,1,0,50\n1,0,1,40,0\n2,30,0,10,0\n3,50,0,0,50": {40, 0, 4, 2},
	} {
		if got, err := readReport([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", head, "Seconds\n0\n", head + "0,0,1,0\n", head + "0,0,1,x,1\n"} {
		if got, err := readReport([]byte(text)); err == nil {
			t.Errorf("%q: %+v", strings.TrimPrefix(text, head), got)
		}
	}
}

// A server is available throughout only if somebody asked, and nobody missed an answer.
func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		r    result
		want bool
	}{
		{result{held: held{seconds: 5}, probed: probed{asked: 9}}, true},
		{result{held: held{seconds: 5}}, false},
		{result{held: held{seconds: 5, away: 1}, probed: probed{asked: 9}}, false},
		{result{held: held{seconds: 5}, probed: probed{asked: 9, failed: 1}}, false},
	} {
		if got := c.r.available(); got != c.want {
			t.Errorf("%+v: %v", c.r, got)
		}
	}
}

func TestReadStarved(t *testing.T) {
	const text = "TcpExt: A TCPAbortOnMemory B\nTcpExt: 1 76 3\nIpExt: A\nIpExt: 5\n"
	if n, err := readStarved([]byte(text)); n != 76 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, text := range []string{"", "TcpExt: A B\nTcpExt: 1 2\n", "TcpExt: A TCPAbortOnMemory\nTcpExt: 1\n", "TcpExt: TCPAbortOnMemory\nTcpExt: x\n"} {
		if n, err := readStarved([]byte(text)); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}
