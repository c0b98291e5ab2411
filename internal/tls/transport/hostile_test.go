package transport_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"io"
	"slices"
	"strings"
	"testing"

	"reuseportd/internal/tls/tlstest"
)

// TestHostileBeginnings: whatever a client begins with, it gets the right alert, and is counted.
func TestHostileBeginnings(t *testing.T) {
	s := serve(t, config(ec(t)), 4)
	hello := helloOf(t, trusting(0))
	changed := func(in []byte, f func(b []byte) []byte) []byte { return f(bytes.Clone(in)) }
	long := trusting(0)
	for range 2000 {
		long.NextProtos = append(long.NextProtos, strings.Repeat("p", 30))
	}
	name := trusting(0)
	name.ServerName = strings.Repeat("a.", 126) + "example"
	old, cbc := trusting(tls.VersionTLS11), trusting(tls.VersionTLS12)
	old.MinVersion, cbc.CipherSuites = tls.VersionTLS10, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	const unexpected, badRecord, handshakeFailure, decodeError, version, sealed = 10, 20, 40, 50, 70, -1
	for name, tt := range map[string]struct {
		in   []byte
		want int
	}{
		"SSLv2":                  {[]byte{0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10}, unexpected},
		"SSLv3":                  {plainHello(3, 0), version},
		"TLS 1.0":                {plainHello(3, 1), version},
		"TLS 1.9":                {plainHello(3, 9), handshakeFailure},
		"TLS 1.1":                {helloOf(t, old), version},
		"CBC":                    {helloOf(t, cbc), handshakeFailure},
		"an alert":               {[]byte{21, 3, 1, 0, 2, 2, 40}, unexpected},
		"data":                   {[]byte{23, 3, 3, 0, 1, 0}, unexpected},
		"a change of cipher":     {[]byte{20, 3, 3, 0, 1, 1}, unexpected},
		"an empty record":        {[]byte{22, 3, 1, 0, 0}, decodeError},
		"a record too long":      {[]byte{22, 3, 1, 0x40, 1, 1}, decodeError},
		"a message too long":     {[]byte{22, 3, 1, 0, 4, 1, 0, 0x40, 1}, decodeError},
		"a message of 16 MiB":    {[]byte{22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}, decodeError},
		"64 KiB of protocols":    {records(helloLong(t, long), 16<<10), decodeError},
		"a name of 259 bytes":    {helloOf(t, name), decodeError},
		"another message":        {[]byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, decodeError},
		"more in its record":     {changed(hello, func(b []byte) []byte { b[4]++; return append(b, 0) }), decodeError},
		"single bytes":           {records(hello, 1), decodeError},
		"data within":            {append(records(hello, 100)[:105], 23, 3, 3, 0, 1, 0), unexpected},
		"another hello behind":   {append(bytes.Clone(hello), hello...), sealed},
		"data in the clear":      {append(bytes.Clone(hello), 23, 3, 3, 0, 20, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19), sealed},
		"its own end":            {append(bytes.Clone(hello), 21, 3, 3, 0, 2, 2, 40), sealed},
		"changes without number": {append(bytes.Clone(hello), bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 40)...), sealed},
	} {
		for _, each := range []bool{false, true} { // at once, and byte by byte
			var failed uint64
			s.do(func() { failed = s.Count().ShakesFailed })
			c := s.dial()
			go func() {
				if !each {
					_, _ = c.Write(tt.in)
					return
				}
				for i := range tt.in {
					if _, err := c.Write(tt.in[i : i+1]); err != nil {
						return
					}
				}
			}()
			if got := alert(ends(t, c)); got != tt.want && !(each && got == -1) { // RST may destroy it
				t.Errorf("%s: the alert is %d, want %d", name, got, tt.want)
			}
			s.until("it is counted", func() bool { return s.Count().ShakesFailed == failed+1 && s.Open() == 0 })
		}
	}
	says(t, s.client(trusting(0)), "still there")
}

// plainHello is a hello of a version without extensions.
func plainHello(major, minor byte) []byte {
	msg := append([]byte{1, 0, 0, 41, major, minor}, make([]byte, 32)...)
	msg = append(msg, 0, 0, 2, 0, 0x2f, 1, 0)
	return append([]byte{22, 3, 0, 0, byte(len(msg))}, msg...)
}

// helloLong is helloOf for messages that are longer than a record: in one that can't be.
func helloLong(t *testing.T, conf *tls.Config) []byte {
	t.Helper()
	protos := conf.NextProtos
	conf.NextProtos = []string{"x"}
	b := helloOf(t, conf)
	var list []byte
	for _, p := range protos {
		list = append(append(list, byte(len(p))), p...)
	}
	ext := append([]byte{0xff, 0x77, byte(len(list) >> 8), byte(len(list))}, list...)
	at := 5 + 4 + 2 + 32 + 1 + int(b[5+4+2+32])
	at += 2 + int(b[at])<<8 + int(b[at+1])
	at += 1 + int(b[at])
	n := int(b[at])<<8 + int(b[at+1]) + len(ext)
	b[at], b[at+1] = byte(n>>8), byte(n)
	b = append(b, ext...)
	m := len(b) - 9
	b[6], b[7], b[8] = byte(m>>16), byte(m>>8), byte(m)
	return b
}

// TestHostileRecords: whatever a client sends behind its handshake, in pieces or at once, it gets the right alert, and what it
// had sent in order before.
func TestHostileRecords(t *testing.T) {
	s := serve(t, config(ec(t)), 4)
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	text := make([]byte, 16<<10)
	_, _ = rand.Read(text)
	repeat := func(n int, f func() []byte) (all []byte) {
		for range n {
			all = append(all, f()...)
		}
		return all
	}
	type conn = tlstest.Conn
	for name, tt := range map[string]struct {
		send    func(c *conn) []byte
		alert   [2]byte
		data    []byte // what comes back
		updates int
		only    uint16 // version; 0: both
	}{
		"the longest record":            {send: func(c *conn) []byte { return append(c.Seal(23, text, 0), c.Seal(21, []byte{1, 0}, 0)...) }, alert: [2]byte{1, 0}, data: text},
		"the most padding":              {send: func(c *conn) []byte { return append(c.Seal(23, text[:1], 16383), c.Seal(21, []byte{1, 0}, 0)...) }, alert: [2]byte{1, 0}, data: text[:1], only: v13},
		"close_notify, then data":       {send: func(c *conn) []byte { return append(c.Seal(21, []byte{1, 0}, 0), c.Seal(23, text, 0)...) }, alert: [2]byte{1, 0}},
		"data in the clear":             {send: func(*conn) []byte { return []byte{23, 3, 3, 0, 4, 1, 2, 3, 4} }, alert: [2]byte{2, 20}},
		"an alert in the clear":         {send: func(*conn) []byte { return []byte{21, 3, 3, 0, 2, 1, 0} }, alert: [2]byte{2, 10}, only: v13},
		"an alert in the clear, 1.2":    {send: func(*conn) []byte { return []byte{21, 3, 3, 0, 2, 1, 0} }, alert: [2]byte{2, 20}, only: v12},
		"a change of cipher":            {send: func(*conn) []byte { return []byte{20, 3, 3, 0, 1, 1} }, alert: [2]byte{2, 10}, only: v13},
		"a sealed change of cipher":     {send: func(c *conn) []byte { return c.Seal(20, []byte{1}, 0) }, alert: [2]byte{2, 10}},
		"an empty record in the clear":  {send: func(*conn) []byte { return []byte{23, 3, 3, 0, 0} }, alert: [2]byte{2, 20}},
		"a byte too many":               {send: func(c *conn) []byte { return c.Seal(23, append(slices.Clone(text), 0), 0) }, alert: [2]byte{2, 22}},
		"padding too many":              {send: func(c *conn) []byte { return c.Seal(23, text, 1) }, alert: [2]byte{2, 22}, only: v13},
		"a length beyond all":           {send: func(*conn) []byte { return []byte{23, 3, 3, 0xff, 0xff} }, alert: [2]byte{2, 22}},
		"another version":               {send: func(*conn) []byte { return []byte{23, 2, 0, 0, 20} }, alert: [2]byte{2, 70}},
		"another type":                  {send: func(c *conn) []byte { return c.Seal(99, text, 0) }, alert: [2]byte{2, 10}},
		"only padding":                  {send: func(c *conn) []byte { return c.Seal(0, nil, 1000) }, alert: [2]byte{2, 10}, only: v13},
		"one record twice":              {send: func(c *conn) []byte { r := c.Seal(23, text[:9], 0); return append(r, r...) }, alert: [2]byte{2, 20}},
		"records in another order":      {send: func(c *conn) []byte { a, b := c.Seal(23, text, 0), c.Seal(23, text, 0); return append(b, a...) }, alert: [2]byte{2, 20}},
		"empty records":                 {send: func(c *conn) []byte { return repeat(17, func() []byte { return c.Seal(23, nil, 0) }) }, alert: [2]byte{2, 10}},
		"empty records of padding":      {send: func(c *conn) []byte { return repeat(17, func() []byte { return c.Seal(23, nil, 9000) }) }, alert: [2]byte{2, 10}, only: v13},
		"warnings":                      {send: func(c *conn) []byte { return repeat(17, func() []byte { return c.Seal(21, []byte{1, 90}, 0) }) }, alert: [2]byte{2, 10}},
		"empty alerts":                  {send: func(c *conn) []byte { return c.Seal(21, nil, 0) }, alert: [2]byte{2, 50}},
		"empty messages":                {send: func(c *conn) []byte { return repeat(17, func() []byte { return c.Seal(22, nil, 0) }) }, alert: [2]byte{2, 10}, only: v13},
		"renegotiation":                 {send: func(c *conn) []byte { return c.Seal(22, []byte{1, 0, 0, 0}, 0) }, alert: [2]byte{2, 100}, only: v12},
		"half a message":                {send: func(c *conn) []byte { return c.Seal(22, []byte{24, 0, 0}, 0) }, alert: [2]byte{2, 50}, only: v13},
		"a hello":                       {send: func(c *conn) []byte { return c.Seal(22, []byte{1, 0, 0, 0}, 0) }, alert: [2]byte{2, 10}, only: v13},
		"a certificate":                 {send: func(c *conn) []byte { return c.Seal(22, []byte{11, 0, 0, 4, 0, 0, 0, 0}, 0) }, alert: [2]byte{2, 10}, only: v13},
		"an end of early data":          {send: func(c *conn) []byte { return c.Seal(22, []byte{5, 0, 0, 0}, 0) }, alert: [2]byte{2, 10}, only: v13},
		"a ticket":                      {send: func(c *conn) []byte { return c.Seal(22, []byte{4, 0, 0, 0}, 0) }, alert: [2]byte{2, 10}, only: v13},
		"an update, and more behind it": {send: func(c *conn) []byte { return c.Seal(22, []byte{24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, 0) }, alert: [2]byte{2, 50}, only: v13},
		"the old key behind an update":  {send: func(c *conn) []byte { return append(c.Seal(22, []byte{24, 0, 0, 1, 0}, 0), c.Seal(23, text, 0)...) }, alert: [2]byte{2, 20}, only: v13},
		"updates":                       {send: func(c *conn) []byte { return repeat(33, func() []byte { return c.Update(0) }) }, alert: [2]byte{2, 10}, only: v13},
		"updates that ask for more":     {send: func(c *conn) []byte { return repeat(33, func() []byte { return c.Update(1) }) }, alert: [2]byte{2, 10}, updates: 32, only: v13},
		"as many updates as may be": {send: func(c *conn) []byte {
			return append(repeat(32, func() []byte { return append(c.Update(1), c.Seal(23, text[:9], 0)...) }), c.Seal(21, []byte{1, 0}, 0)...)
		}, alert: [2]byte{1, 0}, data: bytes.Repeat(text[:9], 32), updates: 32, only: v13},
		"an update as 1.2 has none": {send: func(c *conn) []byte { return c.Seal(22, []byte{24, 0, 0, 1, 0}, 0) }, alert: [2]byte{2, 100}, only: v12},
	} {
		for _, version := range []uint16{v12, v13} {
			if tt.only != 0 && tt.only != version {
				continue
			}
			for _, piece := range []int{1 << 20, 1000, 1} {
				c, err := tlstest.Shake(s.dial(), trusting(version))
				must(t, err)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for b := tt.send(c); len(b) > 0; {
						n, err := c.Write(b[:min(piece, len(b))])
						if b = b[n:]; err != nil {
							return
						}
						if piece == 1 && len(b) > 300 { // the rest is like this
							piece = 4000
						}
					}
				}()
				<-sent
				said := c.Rest()
				// What was in flight may have met a closed socket, whose RST destroys the alert.
				lost := said.Err != io.EOF && len(said.Alerts) == 0
				if !lost && (len(said.Alerts) != 1 || said.Alerts[0] != tt.alert) || lost && tt.alert[0] == 1 {
					t.Errorf("%s, %s, pieces of %d: alerts %v, error %v; want %v", name, tls.VersionName(version), piece, said.Alerts, said.Err, tt.alert)
				}
				if !lost && (!bytes.Equal(said.Data, tt.data) && tt.alert[0] == 1 || said.Updates != tt.updates) {
					t.Errorf("%s, %s: %d bytes came back, %d updates", name, tls.VersionName(version), len(said.Data), said.Updates)
				}
			}
		}
	}
	s.until("all are closed", func() bool { return s.Open() == 0 })
	says(t, s.client(trusting(0)), "still there")
}
