package config

import "time"

// Echo sends back what it receives (RFC 862).
type Echo struct {
	// IdleTimeout closes a connection on which nothing moved for so long; 0 is never.
	IdleTimeout time.Duration
}

var echoObject = object[Echo]{at: "listeners[].echo", what: "echo", fields: []field[Echo]{
	{"idle_timeout", durationInto(0, func(e *Echo) *time.Duration { return &e.IdleTimeout })},
}}
