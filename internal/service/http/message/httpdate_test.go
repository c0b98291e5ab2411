package message

import (
	"net/http"
	"testing"
	"time"
)

// FuzzHTTPDate holds dates against net/http, which is laxer about the obsolete
// forms' details, and stricter in what canonicalDate undoes.
func FuzzHTTPDate(f *testing.F) {
	for _, v := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 16 08:49:37 1994",
		"Thu, 29 Feb 2024 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 0000 00:00:00 GMT",
		"Sat, 31 Dec 2016 23:59:60 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 24:00:00 GMT",
		"Wednesday, 06-Nov-68 08:49:37 GMT", "Wednesday, 06-Nov-69 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
		"Sat, 29 Feb 2025 23:59:59 GMT", "Sun, 31 Nov 1994 08:49:37 GMT", "Wed, 29 Feb 2012 23:59:60 GMT",
		"Xyz, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37", "", "0", "784111777",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		got, ok := ParseHTTPDate([]byte(v))
		if !ok {
			// What net/http reads and writes again just so is a good date.
			for _, form := range []string{http.TimeFormat, obsoleteDates[0], obsoleteDates[1]} {
				if want, err := time.Parse(form, v); err == nil && want.Format(form) == v {
					t.Fatalf("%q is refused", v)
				}
			}
			return
		}
		oracle, more := canonicalDate(v)
		want, err := http.ParseTime(oracle)
		if err != nil {
			t.Fatalf("%q is read as %s; net/http: %v", v, time.Unix(got, 0).UTC(), err)
		}
		if got != want.Unix()+more {
			t.Errorf("%q: got %d, net/http %d", v, got, want.Unix())
		}
	})
}

// canonicalDate writes a date as net/http would have it, and returns the seconds
// that are then missing. The day's name may be any three bytes, and a minute may
// have a second 60 (RFC 9110 section 5.6.7).
func canonicalDate(v string) (_ string, more int64) {
	if len(v) != len(httpDate) || v[3] != ',' {
		return v, 0
	}
	v = "Sun" + v[3:]
	if v[23:25] == "60" {
		return v[:23] + "59" + v[25:], 1
	}
	return v, 0
}

// TestHTTPDateRoundTrip writes and reads back a time in every month.
func TestHTTPDateRoundTrip(t *testing.T) {
	var room [64]byte
	for at := time.Unix(-1<<31, 0); at.Year() < 2200; at = at.Add(29*24*time.Hour + 12345*time.Second) {
		v := AppendHTTPDate(room[:0], at)
		if want := at.UTC().Format(http.TimeFormat); string(v) != want {
			t.Fatalf("%d: got %s, want %s", at.Unix(), v, want)
		}
		if sec, ok := ParseHTTPDate(v); !ok || sec != at.Unix() {
			t.Fatalf("%s is read as %d, %v; want %d", v, sec, ok, at.Unix())
		}
	}
}

// TestHTTPDateAllocatesNothing: written and read, in the form that is in use.
func TestHTTPDateAllocatesNothing(t *testing.T) {
	room := make([]byte, 0, 64)
	now := time.Now()
	allocated := testing.AllocsPerRun(100, func() {
		room = AppendHTTPDate(room[:0], now)
		if sec, ok := ParseHTTPDate(room); !ok || sec != now.Unix() {
			t.Errorf("%s is read as %d, %v", room, sec, ok)
		}
	})
	if allocated > 0 && !raceEnabled {
		t.Errorf("%v allocations", allocated)
	}
}
