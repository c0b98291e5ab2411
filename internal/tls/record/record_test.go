package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// pair is two ends with the same keys.
func pair(t testing.TB, version, id uint16) (client, server *Conn) {
	t.Helper()
	fill := func(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }
	k := Keys{Version: version, Suite: id, Client: true}
	if version == tls.VersionTLS13 {
		n := suites[id].hash().Size()
		k.In, k.Out = fill(n, 1), fill(n, 2)
	} else {
		k.Master, k.ClientRandom, k.ServerRandom, k.InSeq, k.OutSeq = fill(48, 3), fill(32, 4), fill(32, 5), 1, 1
	}
	client, err := New(k, new(Room))
	if err != nil {
		t.Fatal(err)
	}
	k.Client, k.In, k.Out = false, k.Out, k.In
	if server, err = New(k, new(Room)); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func each(t *testing.T, f func(t *testing.T, client, server *Conn)) {
	for id := range suites {
		version := uint16(tls.VersionTLS12)
		if id>>8 == 0x13 {
			version = tls.VersionTLS13
		}
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) {
			client, server := pair(t, version, id)
			f(t, client, server)
		})
	}
}

// open opens all of in, as a loop would.
func open(t testing.TB, c *Conn, in []byte) (got, raw []byte, err error) {
	t.Helper()
	to := make([]byte, 2*MaxPlain)
	for {
		var n, used int
		raw, n, used, err = c.Open(raw, to, in)
		got = append(got, to[:n]...)
		if in = in[used:]; err != nil || used == 0 {
			return got, raw, err
		}
	}
}

func TestSealOpen(t *testing.T) {
	each(t, func(t *testing.T, client, server *Conn) {
		for _, n := range []int{1, 2, smallRecord, smallRecord + 1, MaxPlain, 100_000, 300_000} {
			text := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
			raw := client.Seal(nil, text[:n/3], text[n/3:])
			if len(raw) > client.SealedLen(n) {
				t.Errorf("%d bytes make %d, said at most %d", n, len(raw), client.SealedLen(n))
			}
			for i := 0; i < len(raw); i += 1 + len(raw)/7 {
				if got, _, used, err := server.Open(nil, nil, raw[:min(i, 4)]); len(got) > 0 || used > 0 || err != nil {
					t.Fatalf("a part of a header: %d used, %v", used, err)
				}
			}
			got, said, err := open(t, server, raw)
			if !bytes.Equal(got, text) || len(said) > 0 || err != nil {
				t.Fatalf("%d bytes: %d came, %v", n, len(got), err)
			}
		}
		raw := client.End(nil)
		if again := client.End(nil); len(again) > 0 {
			t.Error("the end is said twice")
		}
		if _, _, err := open(t, server, raw); !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
	})
}

// TestRecordsGrow: an answer begins with records that are whole with their first packet, and goes on with large ones.
func TestRecordsGrow(t *testing.T) {
	client, server := pair(t, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
	sizes := func(raw []byte) (all []int) {
		for len(raw) > 0 {
			n := int(raw[3])<<8 | int(raw[4])
			all = append(all, n-overhead-1)
			raw = raw[header+n:]
		}
		return all
	}
	first := sizes(client.Seal(nil, make([]byte, 100_000), nil))
	if first[0] != smallRecord || first[len(first)-2] != MaxPlain {
		t.Errorf("records of %d", first)
	}
	if next := sizes(client.Seal(nil, make([]byte, 20_000), nil)); next[0] != MaxPlain {
		t.Errorf("then of %d", next)
	}
	_, _, _ = open(t, client, server.Seal(nil, []byte("a request"), nil))
	if next := sizes(client.Seal(nil, make([]byte, 20_000), nil)); next[0] != smallRecord {
		t.Errorf("behind a request of %d", next)
	}
}

// TestSpoilt: a record that somebody has changed, repeated or left out is not opened, and the peer is told.
func TestSpoilt(t *testing.T) {
	each(t, func(t *testing.T, client, server *Conn) {
		raw := client.Seal(nil, []byte("a secret"), nil)
		for i := header; i < len(raw); i++ {
			b := server.Freeze(nil)
			c, _, err := Thaw(b, new(Room))
			if err != nil {
				t.Fatal(err)
			}
			spoilt := bytes.Clone(raw)
			spoilt[i] ^= 1
			got, said, err := open(t, c, spoilt)
			if a := new(Alert); len(got) > 0 || !errors.As(err, &a) || a.Code != alertBadRecordMAC || len(said) == 0 {
				t.Fatalf("byte %d: %q, %v", i, got, err)
			}
		}
		if got, _, err := open(t, server, bytes.Clone(raw)); string(got) != "a secret" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if got, _, err := open(t, server, bytes.Clone(raw)); len(got) > 0 || err == nil {
			t.Errorf("again: %q, %v", got, err)
		}
	})
}

func TestKeyUpdate(t *testing.T) {
	for _, id := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256} {
		client, server := pair(t, tls.VersionTLS13, id)
		for i := range 5 {
			raw := client.update(nil, i%2 == 0)
			raw = client.Seal(raw, []byte("behind"), nil)
			got, said, err := open(t, server, raw)
			if string(got) != "behind" || err != nil || (len(said) > 0) != (i%2 == 0) {
				t.Fatalf("%q, said %d bytes, %v", got, len(said), err)
			}
			back := server.Seal(said, []byte("back"), nil)
			if got, said, err := open(t, client, back); string(got) != "back" || len(said) > 0 || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
}

// TestOwnUpdate: the key is changed before it has sealed too much.
func TestOwnUpdate(t *testing.T) {
	client, server := pair(t, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
	client.out.seq, server.in.seq = updateAfter-1, updateAfter-1
	raw := client.Seal(nil, []byte("last"), nil)
	raw = client.Seal(raw, []byte("first"), nil)
	if got, _, err := open(t, server, raw); string(got) != "lastfirst" || err != nil || client.out.seq != 1 {
		t.Errorf("%q, %v, number %d", got, err, client.out.seq)
	}
}

// TestFloods: what brings nothing has an end.
func TestFloods(t *testing.T) {
	for name, one := range map[string]func(c *Conn, i int) []byte{
		"empty records":         func(c *Conn, _ int) []byte { return c.seal(nil, typeData, nil, nil) },
		"warnings":              func(c *Conn, _ int) []byte { return c.seal(nil, typeAlert, []byte{1, alertUserCanceled}, nil) },
		"key updates":           func(c *Conn, _ int) []byte { return c.update(nil, true) },
		"key updates with data": func(c *Conn, _ int) []byte { return c.Seal(c.update(nil, false), []byte("x"), nil) },
	} {
		client, server := pair(t, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
		err := error(nil)
		n, said := 0, 0
		for ; err == nil && n < 100; n++ {
			var raw []byte
			_, raw, err = open(t, server, one(client, n))
			said += len(raw)
		}
		if err == nil || n > maxUpdates+1 || said > 32*n+64 {
			t.Errorf("%s: %d were taken, %d bytes said, %v", name, n, said, err)
		}
	}
	// One for each MiB of data is no flood.
	client, server := pair(t, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
	data := make([]byte, updateEvery)
	for range 3 * maxUpdates {
		if _, _, err := open(t, server, client.Seal(client.update(nil, false), data, nil)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefused: what has no place behind a handshake.
func TestRefused(t *testing.T) {
	v13, v12 := uint16(tls.VersionTLS13), uint16(tls.VersionTLS12)
	for name, tt := range map[string]struct {
		version uint16
		raw     func(c *Conn) []byte
		code    byte
	}{
		"a change of cipher":    {v13, func(*Conn) []byte { return []byte{20, 3, 3, 0, 1, 1} }, alertUnexpectedMessage},
		"a plain alert":         {v13, func(*Conn) []byte { return []byte{21, 3, 3, 0, 2, 2, 0} }, alertUnexpectedMessage},
		"another protocol":      {v13, func(*Conn) []byte { return []byte("GET / HTTP/1.1\r\n") }, alertProtocolVersion},
		"another version":       {v12, func(c *Conn) []byte { r := c.seal(nil, typeData, []byte("x"), nil); r[2] = 1; return r }, alertProtocolVersion},
		"too long":              {v13, func(*Conn) []byte { return []byte{23, 3, 3, 0x41, 0x01} }, alertRecordOverflow},
		"too long of 1.2":       {v12, func(*Conn) []byte { return []byte{23, 3, 3, 0x48, 0x01} }, alertRecordOverflow},
		"too short":             {v13, func(*Conn) []byte { return []byte{23, 3, 3, 0, 1, 0} }, alertBadRecordMAC},
		"too short of 1.2":      {v12, func(*Conn) []byte { return []byte{23, 3, 3, 0, 1, 0} }, alertBadRecordMAC},
		"much in one":           {v13, func(c *Conn) []byte { return c.seal(nil, typeData, make([]byte, MaxPlain+1), nil) }, alertRecordOverflow},
		"much in one of 1.2":    {v12, func(c *Conn) []byte { return c.seal(nil, typeData, make([]byte, MaxPlain+1), nil) }, alertRecordOverflow},
		"nothing but padding":   {v13, func(c *Conn) []byte { return c.seal(nil, 0, make([]byte, 10), nil) }, alertUnexpectedMessage},
		"an unknown type":       {v13, func(c *Conn) []byte { return c.seal(nil, 99, []byte("x"), nil) }, alertUnexpectedMessage},
		"a heartbeat":           {v12, func(c *Conn) []byte { return c.seal(nil, 24, []byte{1, 0xff, 0xff}, nil) }, alertUnexpectedMessage},
		"renegotiation":         {v12, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{1, 0, 0, 0}, nil) }, alertNoRenegotiation},
		"a cut message":         {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{24, 0, 0}, nil) }, alertDecodeError},
		"a long message":        {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{24, 0, 0, 9, 0}, nil) }, alertDecodeError},
		"a malformed update":    {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{24, 0, 0, 1, 7}, nil) }, alertDecodeError},
		"more behind an update": {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{24, 0, 0, 1, 0, 24, 0, 0, 1, 0}, nil) }, alertDecodeError},
		"a client's ticket":     {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{4, 0, 0, 0}, nil) }, alertUnexpectedMessage},
		"a hello":               {v13, func(c *Conn) []byte { return c.seal(nil, typeHandshake, []byte{1, 0, 0, 0}, nil) }, alertUnexpectedMessage},
		"a long alert":          {v13, func(c *Conn) []byte { return c.seal(nil, typeAlert, []byte{1, 0, 0}, nil) }, alertDecodeError},
	} {
		id := uint16(tls.TLS_AES_128_GCM_SHA256)
		if tt.version == v12 {
			id = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		}
		client, server := pair(t, tt.version, id)
		got, said, err := open(t, server, tt.raw(client))
		a := new(Alert)
		if !errors.As(err, &a) || a.Code != tt.code || a.Their || len(got) > 0 {
			t.Errorf("%s: %q, %v", name, got, err)
			continue
		}
		if _, _, err := open(t, client, said); !errors.As(err, &a) || !a.Their || a.Code != tt.code {
			t.Errorf("%s: the peer is told %v", name, err)
		}
	}
}

// TestFreeze holds the form: a later release reads what this one wrote.
func TestFreeze(t *testing.T) {
	client, _ := pair(t, tls.VersionTLS13, tls.TLS_CHACHA20_POLY1305_SHA256)
	_ = client.Seal(nil, []byte("x"), nil)
	golden := "84068326" + "0100" + // version, suite, client, ended
		"20" + strings.Repeat("01", 32) + "00" + // what comes in: secret, number
		"20" + strings.Repeat("02", 32) + "01" + // what goes out
		"00000001" // useless records, updates, their credit, bytes of the answer
	b := client.Freeze(nil)
	if got := hex.EncodeToString(b); got != golden {
		t.Errorf("written is %s, want %s", got, golden)
	}
	c, rest, err := Thaw(append(b, "rest"...), new(Room))
	if err != nil || string(rest) != "rest" || !bytes.Equal(c.Freeze(nil), b) {
		t.Errorf("%+v, %q, %v", c, rest, err)
	}
	for i := range b {
		if _, _, err := Thaw(b[:i], new(Room)); err == nil {
			t.Errorf("%d of %d bytes are taken", i, len(b))
		}
	}
	for _, bad := range []string{"00", "83", "8405832601"} {
		raw, _ := hex.DecodeString(strings.Replace(golden, golden[:len(bad)], bad, 1))
		if _, _, err := Thaw(raw, new(Room)); err == nil {
			t.Errorf("%s… is taken", bad)
		}
	}
}

// TestAllocations: neither sealing nor opening allocates.
func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, client, server *Conn) {
		raw, to, text := make([]byte, 0, 64<<10), make([]byte, 2*MaxPlain), make([]byte, 5000)
		_, _, _ = open(t, server, client.Seal(raw, text, nil)) // warm
		if n := testing.AllocsPerRun(200, func() {
			raw := client.Seal(raw, text[:100], text[100:])
			if _, n, _, err := server.Open(raw[len(raw):], to, raw); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, n := range []int{256, MaxPlain} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			client, _ := pair(b, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
			client.burst = smallFirst
			raw, text := make([]byte, 0, 64<<10), make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				_ = client.Seal(raw, text, nil)
			}
		})
	}
}

func BenchmarkWarm(b *testing.B) {
	client, _ := pair(b, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
	for b.Loop() {
		client.Cool()
		client.Warm()
	}
}

// FuzzOpen: whatever comes, no more is made of it than there was, and nothing that wasn't sealed.
func FuzzOpen(f *testing.F) {
	client, _ := pair(f, tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256)
	f.Add(client.Seal(nil, []byte("hello"), nil), true)
	f.Add([]byte{22, 3, 1, 0, 1, 0}, false)
	f.Fuzz(func(t *testing.T, in []byte, v13 bool) {
		version, id := uint16(tls.VersionTLS12), uint16(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
		if v13 {
			version, id = tls.VersionTLS13, tls.TLS_AES_128_GCM_SHA256
		}
		_, server := pair(t, version, id)
		to := make([]byte, 2*MaxPlain)
		raw, n, used, _ := server.Open(nil, to, bytes.Clone(in))
		if used > len(in) || n > used || len(raw) > 64 {
			t.Fatalf("%d bytes of %d, %d opened, %d said", used, len(in), n, len(raw))
		}
	})
}

// FuzzThaw: whatever the bytes, a connection that comes of them is written as it was read, and works or refuses.
func FuzzThaw(f *testing.F) {
	client, _ := pair(f, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)
	f.Add(client.Freeze(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, rest, err := Thaw(b, new(Room))
		if err != nil {
			return
		}
		again, _, err := Thaw(c.Freeze(nil), new(Room))
		if err != nil || len(rest) > len(b) || !bytes.Equal(again.Freeze(nil), c.Freeze(nil)) {
			t.Fatal(err)
		}
		_ = c.Seal(nil, []byte("x"), nil)
	})
}
