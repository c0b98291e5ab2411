package message

// IsDigit reports whether b is a decimal digit.
func IsDigit(b byte) bool { return b-'0' <= 9 }

// IsToken has the bytes of a token, RFC 9110 section 5.6.2.
var IsToken = func() (t [256]bool) {
	for b := byte('0'); b <= '9'; b++ {
		t[b] = true
	}
	for b := byte('a'); b <= 'z'; b++ {
		t[b], t[b-'a'+'A'] = true, true
	}
	for _, b := range []byte("!#$%&'*+-.^_`|~") {
		t[b] = true
	}
	return t
}()

// IsTarget has the bytes that a target may have in any of its forms. settleTarget tells
// the forms apart.
var IsTarget = func() (t [256]bool) {
	for b := '!'; b <= 0xff; b++ {
		t[b] = b != '#' && b != 0x7f // raw UTF-8 is percent-encoded when it is passed on
	}
	return t
}()

// IsValue has the bytes of a field value, RFC 9110 section 5.5, and the spaces
// between and around them.
var IsValue = func() (t [256]bool) {
	for b := 0x20; b <= 0xff; b++ {
		t[b] = b != 0x7f
	}
	t['\t'] = true
	return t
}()

// IsDigits has the decimal digits.
var IsDigits = func() (t [256]bool) {
	for b := byte('0'); b <= '9'; b++ {
		t[b] = true
	}
	return t
}()

// All reports whether all bytes of b are in a set.
func All(b []byte, set *[256]bool) bool {
	for _, x := range b {
		if !set[x] {
			return false
		}
	}
	return true
}

// Unhex returns the value of a hexadecimal digit, more than 15 for any other byte.
func Unhex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10
	}
	return 255
}
