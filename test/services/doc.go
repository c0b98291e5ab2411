// Package services has reuseportd stand in front of real services: PostgreSQL,
// Redis, SSH, and HTTP servers well and ill.
//
// It owns the end-to-end tests of proxying, and the services in them. Each service
// counts what it sees of clients, and each knows how to have traffic wait for a
// test, so that every change meets traffic that is under way and none is over
// before the last. It must never wait for a time where it could wait for an event.
package services
