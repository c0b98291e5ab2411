package files

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	rangeSpec = regexp.MustCompile(`^(?:[0-9]+-[0-9]*|-[0-9]+)$`)
	noSuffix  = regexp.MustCompile(`^-0+$`)
)

// canonical writes a Range field as net/http reads it the way RFC 9110 section
// 14.1.2 means it. These are all the differences:
//
//   - A field without meaning is ignored here; net/http answers 416.
//   - A sign, and a space within a range, have no meaning; net/http reads them.
//   - The unit may be in upper case.
//   - The last no bytes ("-0") lie in no file; net/http sends a part that ends
//     before it begins.
//   - A position beyond 63 bits lies beyond every file; to net/http it is an error.
//   - More than maxRanges are ignored.
//   - Of an empty file nothing but the whole is ever sent; net/http sees that in
//     ranges that lie outside, not in all of them.
func canonical(field string, size int64) (rewritten string, status int) {
	list, ok := strings.CutPrefix(strings.ToLower(field), "bytes=")
	if !ok || size == 0 {
		return "", 200
	}
	var specs []string
	outside, inside := false, 0
	for spec := range strings.SplitSeq(list, ",") {
		spec = strings.Trim(spec, " \t")
		switch {
		case spec == "":
			continue
		case !rangeSpec.MatchString(spec):
			return "", 200
		case noSuffix.MatchString(spec):
			outside = true
			continue
		}
		first, last, _ := strings.Cut(spec, "-")
		from, to := saturated(first), saturated(last)
		switch {
		case first == "":
			specs, inside = append(specs, fmt.Sprintf("-%d", to)), inside+1
			continue
		case last == "":
			to = math.MaxInt64
		case to < from:
			return "", 200
		}
		if from < size {
			inside++
		}
		specs = append(specs, fmt.Sprintf("%d-%d", from, to))
	}
	switch {
	case inside > maxRanges, len(specs) == 0 && !outside:
		return "", 200
	case len(specs) == 0:
		return "bytes=" + fmt.Sprint(size) + "-", 416
	}
	return "bytes=" + strings.Join(specs, ","), 0
}

// saturated reads digits; what is all but beyond 63 bits is taken for the largest.
func saturated(digits string) int64 {
	n, _ := strconv.ParseInt(digits, 10, 64)
	if n > math.MaxInt64-10 {
		return math.MaxInt64
	}
	return n
}

// theirs is what net/http answers for the same file.
func theirs(body []byte, tag, method string, fields ...string) said {
	r := httptest.NewRequest(method, "/", nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Range" {
			if value, _ = canonical(value, int64(len(body))); value == "" {
				continue
			}
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", stamped, bytes.NewReader(body))
	return said{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// same compares two answers in what is not for each server to choose.
func (got said) same(t *testing.T, what string, want said) {
	t.Helper()
	if got.status != want.status {
		t.Errorf("%s: status %d, net/http %d", what, got.status, want.status)
		return
	}
	if g, w := got.header.Get("Content-Range"), want.header.Get("Content-Range"); g != w {
		t.Errorf("%s: Content-Range %q, net/http %q", what, g, w)
	}
	if got.status >= 400 {
		return
	}
	for _, f := range []string{"ETag", "Last-Modified"} {
		if g, w := got.header.Get(f), want.header.Get(f); g != w && w != "" {
			t.Errorf("%s: %s %q, net/http %q", what, f, g, w)
		}
	}
	if g, w := got.content(t), want.content(t); g != w {
		t.Errorf("%s: content\n%.200q, net/http\n%.200q", what, g, w)
	}
}

// content is the body, with the parts of several written in one way.
func (got said) content(t *testing.T) string {
	t.Helper()
	kind, params, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		return string(got.body)
	}
	var b strings.Builder
	r := multipart.NewReader(bytes.NewReader(got.body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Errorf("parts of %.200q: %v", got.body, err)
			return ""
		}
		data, err := io.ReadAll(p)
		fmt.Fprintf(&b, "%v %q %v\n", p.Header, data, err)
	}
}

// letters has no byte that looks like a boundary, and few that look alike.
func letters(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(i*7%23)
	}
	return b
}
