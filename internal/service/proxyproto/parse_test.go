package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

// of4 and of6 are the addresses in the headers below.
const (
	of4 = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x00\x50\xff\xff" // 192.0.2.1:80, 198.51.100.2:65535
	of6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x02" + "\x00\x50\xff\xff"
)

// summed puts the right checksum into a header whose last TLV is one.
func summed(head string) string {
	b := []byte(head)
	binary.BigEndian.PutUint32(b[len(b)-4:], checksum(b, len(b)-4))
	return string(b)
}

var long107 = "PROXY UNKNOWN " + strings.Repeat("x", 107-16) + "\r\n"

// parseCases are headers. want is "source destination", "-" for a header that says nothing,
// or the error.
var parseCases = []struct {
	name, in, want string
}{
	{"v1 TCP4", "PROXY TCP4 192.0.2.1 198.51.100.2 80 65535\r\n", "192.0.2.1:80 198.51.100.2:65535"},
	{"v1 port 0", "PROXY TCP4 0.0.0.0 255.255.255.255 0 0\r\n", "0.0.0.0:0 255.255.255.255:0"},
	{"v1 TCP6", "PROXY TCP6 2001:DB8::1 ::ffff:198.51.100.2 80 65535\r\n", "[2001:db8::1]:80 198.51.100.2:65535"},
	{
		"v1 longest TCP6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535 [ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
	},
	{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", "-"},
	{"v1 UNKNOWN with more", "PROXY UNKNOWN ffff::1 what ever\x00\xff 1\r\n", "-"},
	{"v1 longest", long107, "-"},
	{"v1 too long", strings.Replace(long107, "x", "xx", 1), errLong.Error()},
	{"v1 CR as the 107th", strings.Replace(long107, "xx", "xxx", 1), errLong.Error()},
	{"v1 endless", "PROXY UNKNOWN " + strings.Repeat("x", 1000), errLong.Error()},
	{"v1 LF alone", "PROXY TCP4 192.0.2.1 198.51.100.2 80 65535\n", errV1.Error()},
	{"v1 CR alone", "PROXY TCP4 192.0.2.1 198.51.100.2 80 65535\r\r\n", errV1.Error()},
	{"v1 UNKNOWN LF alone", "PROXY UNKNOWN\n", errV1.Error()},
	{"v1 UNKNOWN glued", "PROXY UNKNOWNS\r\n", errV1.Error()},
	{"v1 nothing", "PROXY \r\n", errV1.Error()},
	{"v1 TCP", "PROXY TCP\r\n", errV1.Error()},
	{"v1 TCP5", "PROXY TCP5 192.0.2.1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 UDP4", "PROXY UDP4 192.0.2.1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 lower case", "proxy TCP4 192.0.2.1 198.51.100.2 80 65535\r\n", errNeither.Error()},
	{"v1 two spaces", "PROXY TCP4  192.0.2.1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 space at the end", "PROXY TCP4 192.0.2.1 198.51.100.2 80 65535 \r\n", errV1.Error()},
	{"v1 a port missing", "PROXY TCP4 192.0.2.1 198.51.100.2 80\r\n", errV1.Error()},
	{"v1 port too large", "PROXY TCP4 192.0.2.1 198.51.100.2 80 65536\r\n", errV1.Error()},
	{"v1 port with zero", "PROXY TCP4 192.0.2.1 198.51.100.2 080 65535\r\n", errV1.Error()},
	{"v1 port with sign", "PROXY TCP4 192.0.2.1 198.51.100.2 +80 65535\r\n", errV1.Error()},
	{"v1 huge port", "PROXY TCP4 192.0.2.1 198.51.100.2 80 99999999999999999999\r\n", errV1.Error()},
	{"v1 octet with zero", "PROXY TCP4 192.00.2.1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 octet too large", "PROXY TCP4 192.0.2.256 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 three octets", "PROXY TCP4 192.0.2 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 IPv6 as TCP4", "PROXY TCP4 ::1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 IPv4 as TCP6", "PROXY TCP6 ::1 198.51.100.2 80 65535\r\n", errV1.Error()},
	{"v1 zone", "PROXY TCP6 fe80::1%eth0 ::1 80 65535\r\n", errV1.Error()},
	{"v1 two gaps", "PROXY TCP6 1::2::3 ::1 80 65535\r\n", errV1.Error()},

	{"v2 TCP4", sig + "\x21\x11\x00\x0c" + of4, "192.0.2.1:80 198.51.100.2:65535"},
	{"v2 TCP6", sig + "\x21\x21\x00\x24" + of6, "[2001:db8::1]:80 198.51.100.2:65535"},
	{"v2 Unix", sig + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), "-"},
	{"v2 UNSPEC", sig + "\x21\x00\x00\x00", "-"},
	{"v2 LOCAL", sig + "\x20\x00\x00\x00", "-"},
	{"v2 LOCAL with addresses", sig + "\x20\x11\x00\x0c" + of4, "-"},
	{"v2 LOCAL with anything", sig + "\x20\xff\x00\x02xx", "-"},
	{"v2 TLVs", sig + "\x21\x11\x00\x16" + of4 + "\x04\x00\x03abc\xea\x00\x01x", "192.0.2.1:80 198.51.100.2:65535"},
	{"v2 empty TLV", sig + "\x21\x11\x00\x0f" + of4 + "\x04\x00\x00", "192.0.2.1:80 198.51.100.2:65535"},
	{"v2 checksum", summed(sig + "\x21\x11\x00\x13" + of4 + "\x03\x00\x04....."[:7]), "192.0.2.1:80 198.51.100.2:65535"},
	{"v2 UNSPEC with checksum", summed(sig + "\x21\x00\x00\x07\x03\x00\x04...."), "-"},
	{"v2 wrong checksum", sig + "\x21\x11\x00\x13" + of4 + "\x03\x00\x04....", errSum.Error()},
	{"v2 short checksum", sig + "\x21\x11\x00\x12" + of4 + "\x03\x00\x03...", errV2.Error()},
	{"v2 two checksums", sig + "\x21\x11\x00\x1a" + of4 + "\x03\x00\x04....\x03\x00\x04....", errV2.Error()},
	{"v2 TLV too long", sig + "\x21\x11\x00\x10" + of4 + "\x04\x00\x02x", errV2.Error()},
	{"v2 TLV cut", sig + "\x21\x11\x00\x0e" + of4 + "\x04\x00", errV2.Error()},
	{"v2 length too small", sig + "\x21\x11\x00\x0b" + of4, errV2.Error()},
	{"v2 length too small for IPv6", sig + "\x21\x21\x00\x0c" + of4, errV2.Error()},
	{"v2 length too large", sig + "\x21\x11\x40\x01" + of4, errLong.Error()},
	{"v2 longest", sig + "\x20\x00\x40\x00" + strings.Repeat("x", 16<<10), "-"},
	{"v2 version 1", sig + "\x11\x11\x00\x0c" + of4, errV2.Error()},
	{"v2 version 3", sig + "\x31\x11\x00\x0c" + of4, errV2.Error()},
	{"v2 command 2", sig + "\x22\x11\x00\x0c" + of4, errV2.Error()},
	{"v2 datagram", sig + "\x21\x12\x00\x0c" + of4, errV2.Error()},
	{"v2 unknown transport", sig + "\x21\x13\x00\x0c" + of4, errV2.Error()},
	{"v2 unspecified transport", sig + "\x21\x10\x00\x0c" + of4, errV2.Error()},
	{"v2 unknown family", sig + "\x21\x41\x00\x0c" + of4, errV2.Error()},
	{"v2 signature not whole", sig[:11] + "\r\x21\x11\x00\x0c" + of4, errNeither.Error()},

	{"HTTP", "GET / HTTP/1.1\r\n\r\n", errNeither.Error()},
	{"HTTP of the same letter", "PUT / HTTP/1.1\r\n\r\n", errNeither.Error()},
	{"TLS", "\x16\x03\x01", errNeither.Error()},
}

func TestParse(t *testing.T) {
	for _, c := range parseCases {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := Parse([]byte(c.in))
			if got := text(h, err); got != c.want {
				t.Fatalf("got %s\nwant %s", got, c.want)
			}
			if err == nil && n != len(c.in) || err != nil && n != 0 {
				t.Errorf("%d bytes of %d were taken", n, len(c.in))
			}
			if want := 1 + strings.Count(c.in[:min(len(c.in), len(sig))], sig); err == nil && h.Version != want {
				t.Errorf("version %d", h.Version)
			}
			checkCuts(t, []byte(c.in+"\r\nwhat follows"))
		})
	}
}

// text tells a result as parseCases do.
func text(h Header, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case !h.Source.IsValid() && !h.Destination.IsValid():
		return "-"
	}
	return h.Source.String() + " " + h.Destination.String()
}

// checkCuts parses what has arrived after each byte, as a receiver does: the first
// result is the last one's too.
func checkCuts(t *testing.T, in []byte) {
	t.Helper()
	wantH, wantN, wantErr := Parse(in)
	done := false
	for i := range len(in) + 1 {
		h, n, err := Parse(in[:i])
		if n == 0 && err == nil {
			if done {
				t.Fatalf("%q is a result, and with one byte more it isn't", in[:i-1])
			}
			continue
		}
		done = true
		if h != wantH || n != wantN || (err == nil) != (wantErr == nil) {
			t.Fatalf("after %d bytes %+v, %d, %v; of the whole %q %+v, %d, %v", i, h, n, err, in, wantH, wantN, wantErr)
		}
	}
	if done != (wantN > 0 || wantErr != nil) {
		t.Fatalf("%q has a result only as a whole", in)
	}
}

// What can't become a header is refused with the byte that makes it so.
func TestParseRefusesEarly(t *testing.T) {
	for in, err := range map[string]error{
		"G":                              errNeither,
		"PROXY_":                         errNeither,
		"PROXY S":                        errV1,
		"PROXY TCP7":                     errV1,
		"PROXY TCP4 1.2.3.x":             errV1,
		"PROXY TCP6 g":                   errV1,
		"PROXY TCP4 1.2.3.4 1.2.3.4 1\r": errV1,
		"PROXY UNKNOWN\n":                errV1,
		"PROXY UNKNOWN\rx":               errV1,
		sig[:5] + "\x01":                 errNeither,
		sig + "\x10":                     errV2,
		sig + "\x21\x12":                 errV2,
		sig + "\x21\x21\x00\x0c":         errV2,
		sig + "\x21\x21\xff\xff":         errLong,
	} {
		if _, _, got := Parse([]byte(in)); got != err {
			t.Errorf("%q: %v, want %v", in, got, err)
		}
		if _, n, got := Parse([]byte(in[:len(in)-1])); n != 0 || got != nil {
			t.Errorf("%q: %d, %v, want more", in[:len(in)-1], n, got)
		}
	}
}

var ends = []netip.AddrPort{
	netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("255.255.255.255:65535"),
	netip.MustParseAddrPort("[2001:db8::1]:0"), netip.MustParseAddrPort("[::ffff:192.0.2.9]:9"),
	netip.MustParseAddrPort("[fe80::1%eth0]:443"), netip.MustParseAddrPort("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
	{},
}

func TestAppend(t *testing.T) {
	for _, src := range ends {
		for _, dst := range ends {
			checkAppend(t, src, dst)
		}
	}
	for version, want := range []string{1: "PROXY UNKNOWN\r\n", 2: sig + "\x20\x00\x00\x00"} {
		if got := Append(nil, version, ends[0], netip.AddrPort{}); version > 0 && string(got) != want {
			t.Errorf("%q", got)
		}
	}
	const v1 = "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 80 0\r\n"
	if got := Append(nil, 1, ends[0], ends[2]); string(got) != v1 {
		t.Errorf("%q", got)
	}
}

// checkAppend reads back what Append writes.
func checkAppend(t *testing.T, src, dst netip.AddrPort) {
	t.Helper()
	var want Header
	if src.IsValid() && dst.IsValid() {
		want.Source = netip.AddrPortFrom(src.Addr().Unmap().WithZone(""), src.Port())
		want.Destination = netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port())
	}
	for want.Version = 1; want.Version <= 2; want.Version++ {
		b := Append([]byte("before"), want.Version, src, dst)[len("before"):]
		if len(b) > MaxAppend {
			t.Errorf("%q is longer than was said", b)
		}
		h, n, err := Parse(b)
		if h != want || n != len(b) || err != nil {
			t.Fatalf("%q was read as %+v, %d, %v; written was %+v", b, h, n, err, want)
		}
		checkCuts(t, b)
	}
}

func TestNoAllocation(t *testing.T) {
	b := make([]byte, 0, 2*MaxAppend)
	for _, c := range parseCases {
		in := []byte(c.in)
		if _, _, err := Parse(in); err != nil {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(in) }); n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b = Append(Append(b[:0], 1, ends[2], ends[0]), 2, ends[0], ends[1]) }); n > 0 {
		t.Errorf("writing: %v allocations", n)
	}
}

// FuzzParse: no input is read in two ways, and what is written is read back.
func FuzzParse(f *testing.F) {
	for _, c := range parseCases {
		if len(c.in) < 1000 {
			f.Add([]byte(c.in))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 2000 {
			return
		}
		checkCuts(t, in)
		h, n, err := Parse(in)
		if err != nil && (n != 0 || h != Header{}) || n > len(in) || n == 0 && h != (Header{}) {
			t.Fatalf("%+v, %d, %v", h, n, err)
		}
		if n > 0 {
			checkAppend(t, h.Source, h.Destination)
		}
	})
}
