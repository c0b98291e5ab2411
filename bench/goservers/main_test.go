package main

import (
	"testing"
)

func TestReadHead(t *testing.T) {
	for _, c := range []struct {
		in     string
		length int
		last   bool
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\n", 0, false},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r", 0, false},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27, false},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / H", 27, false},
		{"GET / HTTP/1.1\nHost: a\n\n", 24, false},
		{"GET / HTTP/1.1\r\nconnection:  Close \r\n\r\n", 39, true},
		{"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", 42, false},
		{"GET / HTTP/1.0\r\n\r\n", 18, true},
		{"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 38, true},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 47, true},
	} {
		if h := readHead([]byte(c.in)); h != (head{c.length, c.last}) {
			t.Errorf("%q: %+v", c.in, h)
		}
	}
}
