package main

import (
	"runtime"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/reuseport"
)

func serveFasthttp(address string) error {
	runtime.GOMAXPROCS(cpus)
	l, err := reuseport.Listen("tcp4", address)
	if err != nil {
		return err
	}
	s := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Response.Header.SetContentType(contentType)
			ctx.Response.AppendBodyString(body)
		},
	}
	return s.Serve(l)
}
