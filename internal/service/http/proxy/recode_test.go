package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

var noEdit = &edit{}

// coder is a chunked body on its way: read, edited as a relay does it, and written.
type coder struct {
	h1.Chunks
	h1.Encoder
}

func recode(k *coder, out, in []byte, lim h1.Limits, e *edit, bare bool) (grown []byte, n, status int) {
	for {
		m, piece, status := k.Next(in[n:], lim)
		n += m
		switch {
		case status != 0:
			return out, n, status
		case piece == nil && k.Step == h1.Done && !bare:
			return k.End(out), n, 0
		case piece == nil:
			return out, n, 0
		case k.Step == h1.InTrailer:
			if name, value := message.CutLine(piece); !bare && (len(name) == 0 || e.trailer(name)) {
				out = k.Trailer(out, name, value)
			}
		case bare:
			out = append(out, piece...)
		default:
			out = k.Data(out, piece)
		}
	}
}

// recodeSplit has a body come in pieces of n bytes.
func recodeSplit(in []byte, n int, lim h1.Limits, e *edit, bare bool) (out []byte, used, status int, k coder) {
	have := 0
	for have < len(in) && status == 0 && k.Step != h1.Done {
		have = min(len(in), have+n)
		var m int
		out, m, status = recode(&k, out, in[used:have], lim, e, bare)
		used += m
	}
	return out, used, status, k
}

// TestRecode has what becomes of chunks that came in one piece.
func TestRecode(t *testing.T) {
	e := newEdit(&config.HeaderEdit{Remove: []string{"Secret"}}, false)
	for name, c := range map[string]struct{ in, want string }{
		"chunks":           {"5\r\nhello\r\n0A\r\n0123456789\r\n0\r\n\r\n", "5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n"},
		"nothing":          {"0\r\n\r\n", "0\r\n\r\n"},
		"zeros":            {"000\r\n\r\n", "0\r\n\r\n"},
		"extensions":       {"1;a=b;c=\"d;\"\r\nx\r\n0;e\r\n\r\n", "1\r\nx\r\n0\r\n\r\n"},
		"trailers":         {"0\r\nA:b\r\nB:  c d \t\r\n\r\n", "0\r\nA: b\r\nB: c d\r\n\r\n"},
		"bad trailers":     {"0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nHost: x\r\nTrailer: y\r\nX-Forwarded-For: z\r\nCookie: a\r\nOk: b\r\n\r\n", "0\r\nOk: b\r\n\r\n"},
		"removed trailers": {"0\r\nSECRET: b\r\n\r\n", "0\r\n\r\n"},
		"half a chunk":     {"5\r\nhel", "3\r\nhel\r\n"},
		"before the end":   {"5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var k coder
			out, n, status := recode(&k, nil, []byte(c.in), testLimits, &e, false)
			if string(out) != c.want || n != len(c.in) || status != 0 {
				t.Errorf("got %q, %d of %d, %d, want %q", out, n, len(c.in), status, c.want)
			}
		})
	}
	var k coder
	out, _, _ := recode(&k, nil, []byte("5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"), testLimits, noEdit, true)
	if string(out) != "hello!" || k.Step != h1.Done {
		t.Errorf("bare: %q", out)
	}
}

// TestRecodeAllocatesNothing where there is room.
func TestRecodeAllocatesNothing(t *testing.T) {
	in, room := []byte("5\r\nhello\r\n0\r\nA: b\r\n\r\n"), make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		var k coder
		recode(&k, room, in, testLimits, noEdit, false)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRecode has net/http read what was recoded: the data are those that it reads from
// the original, wherever that was split. The recoder may refuse more.
func FuzzRecode(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "a;x=\"y\"\r\n0123456789\r\n1\r\nx\r\n0\r\nA: b\r\nContent-Length: 3\r\n\r\nrest",
		"0\r\n\r\n", "5\r\nhelloX", "1\n\r\n", "0x1\r\n", "fffffffffffffff\r\n",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, split uint8) {
		n := 1 + int(split)
		out, used, status, k := recodeSplit(in, n, testLimits, noEdit, false)
		bare, used2, status2, _ := recodeSplit(in, n, testLimits, noEdit, true)
		_, used3, status3, _ := recodeSplit(in, len(in)+1, testLimits, noEdit, true)
		if used != used2 || status != status2 || status == 0 && status3 == 0 && used != used3 {
			t.Fatalf("%d, %d; bare %d, %d; whole %d, %d", used, status, used2, status2, used3, status3)
		}
		got, rest, err := dechunk(out)
		if !bytes.Equal(got, bare) && status == 0 {
			t.Fatalf("%q is not %q", got, bare)
		}
		if done := k.Step == h1.Done; done != (err == nil) || done && rest != 0 {
			t.Fatalf("done %v: %v, %d bytes behind the end of %q", done, err, rest, out)
		}
		if k.Step != h1.Done {
			return
		}
		want, left, err := dechunk(in)
		if err != nil || !bytes.Equal(want, got) || len(in)-left != used {
			t.Fatalf("net/http reads %q, %v of %q and leaves %d; got %q and used %d", want, err, in, left, got, used)
		}
	})
}

// dechunk has net/http read a chunked body, and returns how many bytes are behind it.
func dechunk(in []byte) (data []byte, rest int, err error) {
	r := bufio.NewReader(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(in)))
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, 0, err
	}
	data, err = io.ReadAll(req.Body)
	left, _ := io.ReadAll(r)
	return data, len(left), err
}

var testLimits = h1.Limits{Line: 256, Head: 1024, Body: 1 << 20}
