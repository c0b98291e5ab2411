package sandbox

import (
	"slices"
	"strings"
)

// forWorkers are the variables that a worker reads: by Go's runtime, its resolver, its
// certificates and its clock. All others stay with the master: secrets lie in environments.
var forWorkers = []string{
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE",
	"LOCALDOMAIN", "RES_OPTIONS", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "LANG",
}

// Environment returns what of env a worker gets, and those whose names begin with one of more.
func Environment(env []string, more ...string) []string {
	var kept []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(forWorkers, name) || slices.ContainsFunc(more, func(p string) bool { return strings.HasPrefix(name, p) }) {
			kept = append(kept, kv)
		}
	}
	return kept
}
