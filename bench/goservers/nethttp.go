package main

import (
	"io"
	"net/http"
	"runtime"
)

// serveNetHTTP is the standard library as everybody writes it.
func serveNetHTTP(address string) error {
	runtime.GOMAXPROCS(cpus)
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}))
}
