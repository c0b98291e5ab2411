package main

import (
	"os"
	"runtime"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/prefork"
)

// serveFasthttp is a process for each CPU with GOMAXPROCS=1 and a listener of its
// own with SO_REUSEPORT and TCP_DEFER_ACCEPT, as fasthttp's README advises for
// multi-core systems.
func serveFasthttp(address string) error {
	p := prefork.New(&fasthttp.Server{
		NoDefaultServerHeader: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Response.Header.SetContentType(contentType)
			ctx.Response.AppendBodyString(body)
		},
	})
	p.Reuseport = true
	p.OnMasterDeath = func() { os.Exit(1) }
	if !prefork.IsChild() {
		runtime.GOMAXPROCS(cpus) // as many children are started
	}
	return p.ListenAndServe(address)
}
