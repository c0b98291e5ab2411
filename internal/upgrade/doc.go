// Package upgrade is the master: it carries out what package lifecycle decides, and
// hands the service from one master to the next.
//
// It owns the worker processes, the runtime directory, the control socket's
// answers, log files and custody. One goroutine, that of coordinator.run, owns all state; everybody else
// sends it events. What happens is told to the lifecycle.Core, and what that wants is done (act.go). It must never
// touch a client's byte, and never close a socket or end a worker that is the
// only one to serve it.
//
// successor.go is the side of the master that gives custody away, predecessor.go that of the one that takes it;
// adopt.go finds the workers of a killed one. Each ends in one lifecycle.Inherit.
package upgrade
