// Package rig is what the measurements share: servers as processes, the loads
// on them, and how numbers are printed.
//
// It sees servers from outside only: it uses their command lines, signals,
// sockets and /proc, and never imports what it measures. `reuseportd bench` and
// the commands below bench/ are built on it.
package rig
