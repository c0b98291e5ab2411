package config

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"reuseportd/internal/config/yaml"
)

// isHostName reports whether s is labels separated by dots, in lower case: RFC 1123 section 2.1,
// and underscores, which occur in practice.
func isHostName(s string) bool { return hostForm().MatchString(s) }

// hostForm is compiled when it is first needed, which is not at every start.
var hostForm = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)
})

// hostFieldInto reads the value of a Host field: a name or an address, perhaps with a
// port (RFC 9110 section 7.2).
func hostFieldInto[T any](at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if !ok {
			return
		}
		host := s
		if colon := strings.LastIndexByte(s, ':'); colon >= 0 && !strings.HasSuffix(s, "]") {
			if _, err := strconv.ParseUint(s[colon+1:], 10, 16); err == nil {
				host = s[:colon]
			}
		}
		ip, err := netip.ParseAddr(bareIP(host))
		six := err == nil && ip.Is6() && ip.Zone() == "" && host == "["+bareIP(host)+"]"
		if !six && (len(host) > 255 || !isHostName(strings.ToLower(host))) {
			d.wrong(n, "as in app.internal, app.internal:8080 or [::1]:8080", "the host that is sent")
			return
		}
		*at(into) = s
	}
}
