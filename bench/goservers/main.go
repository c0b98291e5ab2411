// Command goservers is one of the servers in Go that this one is measured beside:
//
//	goservers gnet|fasthttp|net/http HOST:PORT
//
// Each answers every request with `hello`, as its own documentation writes such a
// server for speed, and uses two CPUs. It is a module of its own, so that what
// they need is not what the server needs.
package main

import (
	"fmt"
	"os"
)

const (
	cpus        = 2
	contentType = "text/plain; charset=utf-8"
	body        = "hello\n"
)

// servers serve on an address until they can't.
var servers = map[string]func(address string) error{
	"gnet":     serveGnet,
	"fasthttp": serveFasthttp,
	"net/http": serveNetHTTP,
}

// main looks at no third argument: prefork gives its children one.
func main() {
	if len(os.Args) < 3 || servers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: goservers gnet|fasthttp|net/http HOST:PORT")
		os.Exit(2)
	}
	if err := servers[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "goservers: %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
