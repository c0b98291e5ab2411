// Package rig is what the measurements share. It owns servers as processes, the loads on
// them, and how numbers are printed.
//
// It sees servers from outside only, by their command lines, signals, sockets and /proc,
// and must never import what it measures. `reuseportd bench` and the commands below
// bench/ are built on it.
package rig
