package message

import "time"

// httpDate is the one form in which dates are sent, RFC 9110 section 5.6.7.
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// AppendHTTPDate appends a time as an IMF-fixdate.
func AppendHTTPDate(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, httpDate) }

// obsoleteDates are the two forms that a recipient must still understand.
var obsoleteDates = [...]string{"Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC}

// ParseHTTPDate reads a date in any of the three forms and returns it in Unix
// seconds. Only the obsolete two cost an allocation.
func ParseHTTPDate(v []byte) (sec int64, ok bool) {
	if sec, ok := parseFixdate(v); ok {
		return sec, true
	}
	if len(v) > len("Wednesday, 02-Jan-06 15:04:05 GMT") {
		return 0, false
	}
	for _, form := range obsoleteDates {
		if t, err := time.Parse(form, string(v)); err == nil {
			return t.Unix(), true
		}
	}
	return 0, false
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// parseFixdate reads an IMF-fixdate. The day's name is not checked.
func parseFixdate(v []byte) (sec int64, ok bool) {
	if len(v) != len(httpDate) || string(v[3:5]) != ", " || v[7] != ' ' || v[11] != ' ' ||
		v[16] != ' ' || v[19] != ':' || v[22] != ':' || string(v[25:]) != " GMT" {
		return 0, false
	}
	month := 0
	for i := 0; i < len(months); i += 3 {
		if string(v[8:11]) == months[i:i+3] {
			month = i/3 + 1
		}
	}
	day, century, year := two(v[5:]), two(v[12:]), two(v[14:])
	hour, minute, second := two(v[17:]), two(v[20:]), two(v[23:])
	if month == 0 || day < 1 || day > 31 || century < 0 || year < 0 ||
		hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60 {
		return 0, false
	}
	midnight := time.Date(100*century+year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if midnight.Day() != day {
		return 0, false // the month has no such day
	}
	return midnight.Unix() + int64(3600*hour+60*minute+second), true
}

// two reads two digits. It returns -1 if they aren't digits.
func two(v []byte) int {
	if !IsDigit(v[0]) || !IsDigit(v[1]) {
		return -1
	}
	return int(v[0]-'0')*10 + int(v[1]-'0')
}
