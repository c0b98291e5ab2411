// Package services puts reuseportd in front of real services: PostgreSQL, Redis, SSH, and
// HTTP servers, healthy and failing.
//
// It owns the end-to-end tests of proxying, and the services in them. Each service counts
// what it sees of clients, and can make traffic wait for a test, so that traffic is under
// way during every change, and none ends before the last one. It must never wait for a
// time where it could wait for an event.
package services
