package config

import (
	"os/user"
	"strings"
	"testing"
)

func TestDefaultUser(t *testing.T) {
	h := testHost()
	const text = "listeners: [{name: a, address: 127.0.0.1:1, echo: {}}]\n"
	for _, c := range []struct {
		users string // that the machine has, in any order
		euid  int
		want  string
	}{
		{"nobody reuseportd", 0, "reuseportd (uid 17), as no user is named"},
		{"nobody", 0, "nobody (uid 17), as no user is named"},
		{"", 0, "65534 (uid 65534), as no user is named"},
		{"nobody reuseportd", 1000, ""},
	} {
		h.euid = c.euid
		h.lookupUser = func(name string) (*user.User, error) {
			if strings.Contains(c.users, name) {
				return &user.User{Username: name, Uid: "17", Gid: "17"}, nil
			}
			return nil, user.UnknownUserError(name)
		}
		conf, err := parseOn(h, text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if conf.Credential != nil {
			got = conf.Credential.String()
		}
		if got != c.want {
			t.Errorf("with users %q: %q, want %q", c.users, got, c.want)
		}
	}
}

// TestWarnings: what is allowed, and likely not meant.
func TestReachWarnings(t *testing.T) {
	h := testHost()
	for text, want := range map[string]string{
		"user: 0\ngroup: 0\nlisteners: [{name: a, address: 127.0.0.1:1, echo: {}}]\n":                                                             "1:1: workers run as root",
		"upstreams: [{name: u, servers: [{address: 'unix:/run/none.sock'}]}]\nlisteners: [{name: a, address: 127.0.0.1:1, tcp: {upstream: u}}]\n": "1:43: /run/none.sock is not there yet",
		"listeners: [{name: a, address: 127.0.0.1:1, http: {routes: [{files: {root: /srv/hung}}]}}]\n":                                            "doesn't answer",
	} {
		c, err := parseOn(h, text)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Error(), want) {
			t.Errorf("%s: %v, want %s", text, c.Warnings, want)
		}
	}
}
