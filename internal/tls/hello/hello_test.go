package hello

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// captured is a connection that keeps what is written to it and has nothing to read.
type captured struct{ bytes.Buffer }

func (*captured) Read([]byte) (int, error)           { return 0, io.EOF }
func (*captured) Close() error                       { return nil }
func (*captured) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (*captured) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (*captured) SetDeadline(time.Time) error        { return nil }
func (*captured) SetReadDeadline(t time.Time) error  { return nil }
func (*captured) SetWriteDeadline(t time.Time) error { return nil }

// said returns what a client of crypto/tls says first.
func said(t testing.TB, conf *tls.Config) []byte {
	t.Helper()
	conf.InsecureSkipVerify = true
	var c captured
	if err := tls.Client(&c, conf).HandshakeContext(context.Background()); err == nil {
		t.Fatal("a handshake with nobody has succeeded")
	}
	return c.Bytes()
}

// records puts a message in records of at most n bytes.
func records(msg []byte, n int) (out []byte) {
	for p := range slices.Chunk(msg, n) {
		out = append(append(out, 22, 3, 1, byte(len(p)>>8), byte(len(p))), p...)
	}
	return out
}

func TestParse(t *testing.T) {
	long := strings.Repeat("a.", 120) + "example"
	for name, tt := range map[string]struct {
		conf *tls.Config
		want string
	}{
		"1.3":         {&tls.Config{ServerName: "www.Example.com"}, "www.example.com []"},
		"1.2 at most": {&tls.Config{ServerName: "a.example", MaxVersion: tls.VersionTLS12}, "a.example []"},
		"no name":     {&tls.Config{}, " []"},
		"an address":  {&tls.Config{ServerName: "192.0.2.1"}, " []"},
		"protocols":   {&tls.Config{ServerName: "a", NextProtos: []string{"h2", "http/1.1"}}, "a [h2 http/1.1]"},
		"long":        {&tls.Config{ServerName: long}, long + " []"},
	} {
		in := said(t, tt.conf)
		for _, n := range []int{16 << 10, len(in) / 2, 40} {
			cut := records(in[recordHeader:], n)
			h, err := Parse(append(cut, "and more"...)[:len(cut)])
			if got := fmt.Sprint(h.ServerName, " ", h.Protocols); got != tt.want || err != nil {
				t.Errorf("%s, in records of %d: %q, %v; want %q", name, n, got, err, tt.want)
			}
			for i := range cut {
				if _, err := Parse(cut[:i]); !errors.Is(err, ErrMore) {
					t.Fatalf("%s: of %d bytes %d are taken for: %v", name, len(cut), i, err)
				}
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := said(t, &tls.Config{ServerName: "a.example"})
	msg := good[recordHeader:]
	for name, tt := range map[string]struct {
		in   []byte
		want error
	}{
		"HTTP":                        {[]byte("GET / HTTP/1.1\r\n"), ErrNotTLS},
		"one byte of SSH":             {[]byte("S"), ErrNotTLS},
		"SSLv2":                       {[]byte{0x80, 0x2e, 1, 3, 1}, ErrNotTLS},
		"a version that can be none":  {[]byte{22, 0x10}, ErrNotTLS},
		"an alert":                    {[]byte{21, 3, 1, 0, 2, 2, 70}, ErrNotTLS},
		"an empty record":             {[]byte{22, 3, 1, 0, 0}, ErrMalformed},
		"a record that is too long":   {[]byte{22, 3, 1, 0x40, 1}, ErrTooLong},
		"a message that is too long":  {[]byte{22, 3, 1, 0, 4, 1, 0, 0x40, 1}, ErrTooLong},
		"another message":             {[]byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, ErrMalformed},
		"more than the message":       {records(append(slices.Clone(msg), 1), 16<<10), ErrMalformed},
		"too many records":            {records(msg, 1), ErrTooLong},
		"an empty message":            {[]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, ErrMalformed},
		"another record within":       {append(records(msg[:9], 9), 23, 3, 3, 0, 1, 0), ErrNotTLS},
		"extensions beyond the end":   {hello([]byte{0xff, 0xff, 0, 0, 0, 0}), ErrMalformed},
		"an extension beyond the end": {hello([]byte{0, 4, 0, 0, 0, 1}), ErrMalformed},
		"an extension twice":          {hello([]byte{0, 8, 0, 99, 0, 0, 0, 99, 0, 0}), ErrMalformed},
		"bytes behind the extensions": {hello([]byte{0, 4, 0, 99, 0, 0, 7}), ErrMalformed},
		"an empty list of names":      {hello(extension(0, 0, 0)), ErrMalformed},
		"an empty name":               {hello(extension(0, 0, 3, 0, 0, 0)), ErrMalformed},
		"a name that ends with a dot": {hello(extension(0, 0, 5, 0, 0, 2, 'a', '.')), ErrMalformed},
		"two names":                   {hello(extension(0, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b')), ErrMalformed},
		"a name that is too long":     {hello(longName(256)), ErrTooLong},
		"no protocols":                {hello(extension(16, 0, 0)), ErrMalformed},
		"an empty protocol":           {hello(extension(16, 0, 1, 0)), ErrMalformed},
		"more extensions than any":    {hello(many(129)), ErrMalformed},
	} {
		if h, err := Parse(tt.in); !errors.Is(err, tt.want) {
			t.Errorf("%s: %+v, %v; want %v", name, h, err, tt.want)
		}
	}
	if _, err := Parse(hello(nil)); err != nil {
		t.Errorf("without extensions: %v", err)
	}
	if h, err := Parse(hello(longName(255))); len(h.ServerName) != 255 || err != nil {
		t.Errorf("with a long name: %+v, %v", h, err)
	}
	if _, err := Parse(hello(many(128))); err != nil {
		t.Errorf("with many extensions: %v", err)
	}
}

// hello is a ClientHello with these bytes behind its compression methods.
func hello(extensions []byte) []byte {
	msg := append(make([]byte, 4, 64), 3, 3)
	msg = append(msg, make([]byte, 32)...)
	msg = append(msg, 0, 0, 2, 0x13, 1, 1, 0)
	msg = append(msg, extensions...)
	msg[0], msg[2], msg[3] = 1, byte((len(msg)-4)>>8), byte(len(msg)-4)
	return records(msg, 16<<10)
}

// extension is a list of one.
func extension(kind byte, data ...byte) []byte {
	return append([]byte{0, byte(len(data) + 4), 0, kind, 0, byte(len(data))}, data...)
}

// longName is a list of the name of a server, of n bytes.
func longName(n int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(n+9))
	b = append(b, 0, 0)
	for _, size := range []int{n + 5, n + 3} {
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	}
	b = binary.BigEndian.AppendUint16(append(b, 0), uint16(n))
	return append(b, bytes.Repeat([]byte("a"), n)...)
}

// many is a list of n that nobody knows.
func many(n int) []byte {
	b := []byte{byte(n * 4 >> 8), byte(n * 4)}
	for i := range n {
		b = append(b, 0xf0, byte(i), 0, 0)
	}
	return b
}

// TestParseAllocates: a hello without ALPN costs its name.
func TestParseAllocates(t *testing.T) {
	in := said(t, &tls.Config{ServerName: "www.example.com"})
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Parse(in); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse holds Parse against crypto/tls: what that one takes has the same name in it here.
func FuzzParse(f *testing.F) {
	for _, c := range []*tls.Config{{ServerName: "a.example"}, {MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}} {
		in := said(f, c)
		f.Add(in)
		f.Add(records(in[recordHeader:], 100))
		odd := records(in[recordHeader:], 100)
		odd[1], odd[2], odd[recordHeader+101], odd[recordHeader+102] = 0, 0xf6, 2, 0xf6 // two versions that there are not
		f.Add(odd)
	}
	f.Add(hello(extension(0, 0, 5, 0, 0, 2, 'a', '.')))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := Parse(in)
		for i := 0; i < len(in); i += 1 + len(in)/8 {
			if _, early := Parse(in[:i]); err == nil && early != nil && !errors.Is(early, ErrMore) {
				t.Fatalf("%d of %d bytes are taken for: %v", i, len(in), early)
			}
		}
		theirs := oracle(in)
		switch {
		case theirs == nil, errors.Is(err, errFollowed), errors.Is(err, ErrTooLong): // our bounds are lower
		case err != nil:
			t.Fatalf("crypto/tls takes it, with the name %q: %v", theirs.ServerName, err)
		case h.ServerName != strings.ToLower(theirs.ServerName) || !slices.Equal(h.Protocols, theirs.SupportedProtos):
			t.Fatalf("%+v; crypto/tls has %q %q", h, theirs.ServerName, theirs.SupportedProtos)
		}
	})
}

// oracle returns what crypto/tls finds in a hello; nil if it takes none.
func oracle(in []byte) (got *tls.ClientHelloInfo) {
	conf := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		got = h
		return nil, io.EOF
	}}
	_ = tls.Server(&input{Reader: bytes.NewReader(in)}, conf).HandshakeContext(context.Background())
	return got
}

// input is a connection that takes all that is written to it.
type input struct {
	captured
	*bytes.Reader
}

func (c *input) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c *input) Write(p []byte) (int, error) { return len(p), nil }
