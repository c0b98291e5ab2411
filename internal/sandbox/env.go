package sandbox

import (
	"slices"
	"strings"
)

// forWorkers are the variables that a worker reads, through Go's runtime, resolver,
// certificates and clock. Workers don't get the others, since environments may contain
// secrets.
var forWorkers = []string{
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE",
	"LOCALDOMAIN", "RES_OPTIONS", "SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "LANG",
}

// Environment returns the variables of env that a worker gets: forWorkers, and those whose
// names begin with one of more.
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
