// Package handover is the rule by which an open connection goes from a draining
// worker to a serving one, and the form in which it goes.
//
// The giver takes a connection out of its loop, offers it, and leaves it untouched until
// the answer. The taker makes a connection of its own from it, answers, and only then
// reads from it. So ownership goes with the offer in the channel: if the taker dies
// before it has answered, the channel ends and the giver goes on with the connection; if
// the giver dies after it has sent, the taker has all it needs.
//
// It owns the rule (Giver) and the formats (Encode, Decode). It must never own a
// descriptor or act: its caller does what it decides.
package handover
