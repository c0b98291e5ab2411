// Package wire carries messages and descriptors between the processes of one
// server: master and worker, old master and new master.
//
// It owns the framing, the kinds, the accounting of received descriptors and the sealed
// memory in which larger texts travel. One message is one datagram of a SOCK_SEQPACKET
// socket pair (unix(7)): it arrives whole or not at all, in order, and the descriptors in
// it arrive with it.
//
// It must never keep a descriptor that no caller knows of, guess at a message that it
// doesn't understand, or act on one: what a message means is its receiver's concern.
package wire
