package files

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzRange holds Range fields against net/http.
func FuzzRange(f *testing.F) {
	for _, v := range []string{
		"bytes=0-0", "bytes=0-", "bytes=-5", "bytes=-0", "bytes=9-5", "bytes=999-", "bytes=1000-", "bytes=-9999", "bytes=0-0,5-6",
		"bytes= 0-1 ,\t3-4", "bytes=,0-1,,", "bytes=,", "bytes=", "bytes", "items=0-1", "bytes=1", "bytes=--1", "bytes=+1-2", "BYTES=1-2",
		"bytes=0-999,0-0", "bytes=18446744073709551616-", "bytes=0-18446744073709551616", "bytes=00000000000000000000001-2", "bytes=1-2-3",
		"bytes=0-1,2000-", "bytes=2000-,-0", "bytes=9223372036854775807-9223372036854775807", "bytes=9223372036854775808-9223372036854775807",
		"bytes=9223572036854775807-9223372036834775807", "bytes=1 - 2", "bytes=0-0" + strings.Repeat(",1-1", maxRanges-1), "bytes=0-0" + strings.Repeat(",1-1", maxRanges), "bytes=5-0,x",
	} {
		f.Add(v, uint16(1000))
		f.Add(v, uint16(0))
		f.Add(v, uint16(1))
	}
	f.Fuzz(func(t *testing.T, v string, n uint16) {
		size := int64(n)
		var room [maxRanges]span
		spans, ok := parseRanges([]byte(v), size, room[:0])
		for _, s := range spans {
			if s.off < 0 || s.n < 1 || s.off+s.n > size {
				t.Fatalf("%q of %d: %+v lies outside", v, size, s)
			}
		}
		body := letters(int(n))
		want := theirs(body, `"x"`, "GET", "Range: "+v)
		want.header.Del("ETag") // a range has none by itself
		want.header.Del("Last-Modified")
		if _, status := canonical(v, size); status != 0 {
			want.status = status
		}
		got := said{status: 200, header: http.Header{}, body: body}
		var a answer
		a.reset()
		switch {
		case !ok:
			got.status, got.body = 416, nil
			got.header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		case len(spans) == 1:
			s := spans[0]
			got.status, got.body = 206, body[s.off:s.off+s.n]
			_, value, _ := bytes.Cut(appendContentRange(nil, s, size), []byte(": "))
			got.header.Set("Content-Range", string(value))
		case len(spans) > 1:
			a.severalParts(spans, size, "application/octet-stream")
			got.status, got.body = 206, nil
			for _, p := range a.parts {
				got.body = append(append(got.body, p.head...), body[p.off:p.off+p.n]...)
			}
			got.body = append(got.body, a.tail...)
			if int64(len(got.body)) != a.length {
				t.Errorf("%q of %d: length %d, is %d", v, size, a.length, len(got.body))
			}
			_, value, _ := strings.Cut(string(a.fields), "Content-Type: ")
			got.header.Set("Content-Type", strings.TrimSpace(value))
		}
		got.same(t, fmt.Sprintf("%q of %d", v, size), want)
	})
}

// TestPlanLikeServeContent asks for files with conditions and ranges put together
// at random, and net/http as well.
func TestPlanLikeServeContent(t *testing.T) {
	s := newSite(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for _, size := range []int{0, 1, 10, 1000, smallFile + 1000} {
		name := fmt.Sprintf("%d.bin", size)
		body := letters(size)
		s.write(name, body)
		tag := s.ask("GET", "/"+name).header.Get("ETag")
		for range 600 {
			var fields []string
			for _, f := range []string{"If-Match", "If-None-Match"} {
				if rnd.IntN(3) == 0 {
					fields = append(fields, f+": "+randomTags(rnd, tag))
				}
			}
			for _, f := range []string{"If-Modified-Since", "If-Unmodified-Since"} {
				if rnd.IntN(3) == 0 {
					fields = append(fields, f+": "+randomDate(rnd))
				}
			}
			if rnd.IntN(3) > 0 {
				fields = append(fields, "Range: "+randomRanges(rnd, size))
			}
			switch rnd.IntN(6) {
			case 0:
				fields = append(fields, "If-Range: "+randomDate(rnd))
			case 1:
				fields = append(fields, "If-Range: "+[]string{tag, "W/" + tag, `"x"`}[rnd.IntN(3)])
			}
			method := "GET"
			asked := fields
			if rnd.IntN(5) == 0 {
				// Range means nothing in a HEAD, RFC 9110 section 14.2.
				method = "HEAD"
				asked = slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return strings.HasPrefix(f, "Range") })
			}
			s.ask(method, "/"+name, fields...).same(t, fmt.Sprintf("%s %s %q", method, name, fields), theirs(body, tag, method, asked...))
		}
	}
}

func randomTags(rnd *rand.Rand, tag string) string {
	if rnd.IntN(6) == 0 {
		return "*"
	}
	some := []string{tag, "W/" + tag, `"x"`, `W/"x"`, `"a,b"`, `""`, "nonsense", `"open`}
	list := some[rnd.IntN(len(some))]
	for rnd.IntN(3) > 0 {
		list += []string{",", ", ", " ,", ",,"}[rnd.IntN(4)] + some[rnd.IntN(len(some))]
	}
	return list
}

func randomDate(rnd *rand.Rand) string {
	forms := []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", "Mon Jan _2 15:04:05 2006", "2006-01-02", "Monday 2"}
	return stamped.AddDate(0, 0, rnd.IntN(3)-1).Format(forms[rnd.IntN(len(forms))])
}

func randomRanges(rnd *rand.Rand, size int) string {
	field := []string{"bytes=", "bytes=", "bytes=", "bytes=", "bytes= ", "Bytes=", "lines=", "bytes"}[rnd.IntN(8)]
	for i := range 1 + rnd.IntN(4)*rnd.IntN(6) {
		if i > 0 {
			field += []string{",", ", ", ",,"}[rnd.IntN(3)]
		}
		from := rnd.IntN(size + 3)
		switch rnd.IntN(12) {
		case 0:
			field += fmt.Sprintf("%d-", from)
		case 1, 2:
			field += fmt.Sprintf("-%d", rnd.IntN(size/10+3))
		case 3:
			field += fmt.Sprintf("%d-%d", from, rnd.IntN(size+3))
		default:
			field += fmt.Sprintf("%d-%d", from, from+rnd.IntN(size/10+1))
		}
	}
	if rnd.IntN(12) == 0 {
		field += []string{"-", "x", ",1", " 2-3", ",-0"}[rnd.IntN(5)]
	}
	return field
}
