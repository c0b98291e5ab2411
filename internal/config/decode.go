package config

import (
	"fmt"
	"slices"
	"strings"
)

// decoder carries one tree of nodes into a Config.
type decoder struct {
	rep *report
	// host is the machine to check against; nil trusts the configuration.
	host *host
	// path is the configuration file's, for hints.
	path string
	// schemas are all objects, for hints.
	schemas []schema
	// uses are the places that name an upstream.
	uses []use
	// pinned says that cpu_affinity is on.
	pinned bool
	// key is the one being read, for messages.
	key string
	// visits bounds the work that aliases can ask for.
	visits int
}

// field is one key of an object and how its value is read.
type field[T any] struct {
	key  string
	read func(d *decoder, n *node, into *T)
}

// object is a mapping with known keys. The tables of objects are all that the
// decoder knows, and what the test of the documentation reads.
type object[T any] struct {
	at     string // where it stands: "listeners[].http"; "" at the top
	what   string // in messages: "a listener"
	fields []field[T]
	more   string // what else to say about an unknown key

	switches bool // each of its keys is true or false
}

// keys returns the known keys in the order of the table.
func (o *object[T]) keys() []string {
	keys := make([]string, len(o.fields))
	for i, f := range o.fields {
		keys[i] = f.key
	}
	return keys
}

// given is which keys an object had, and where.
type given struct {
	entries map[string]entry
	// unknown says that there were unknown keys. They are likely the ones that
	// seem to be missing, so nothing is said about those.
	unknown bool
}

func (g *given) has(key string) bool { _, ok := g.entries[key]; return ok }

// pos returns the place of a key's value, or p when it wasn't given.
func (g *given) pos(key string, p Position) Position {
	if e, ok := g.entries[key]; ok {
		return e.value.pos
	}
	return p
}

// read fills into from n and returns the keys that were there. An empty value
// is an object with nothing in it. It returns nil for what isn't an object.
func (o *object[T]) read(d *decoder, n *node, into *T) *given {
	g := &given{entries: map[string]entry{}}
	switch n.kind {
	case mapping:
	case null:
		return g
	case invalid:
		return nil
	default:
		d.rep.add(n.pos, o.shapeHint(n), "%s is written as key: value lines, not %s", o.what, n.describe())
		return nil
	}
	for _, e := range n.entries {
		if !d.visit(e.pos) {
			return nil
		}
		g.entries[e.key] = e
		i := slices.IndexFunc(o.fields, func(f field[T]) bool { return f.key == e.key })
		if i < 0 {
			d.rep.add(e.pos, o.unknownHint(d, e.key), "unknown key %s in %s", quote(e.key), o.what)
			g.unknown = true
			continue
		}
		if e.value.kind == invalid {
			continue
		}
		d.key = e.key
		o.fields[i].read(d, e.value, into)
	}
	return g
}

// shapeHint says how an object is written, to somebody who wrote something else; where its keys are
// switches of their own, like this one, by what was meant.
func (o *object[T]) shapeHint(n *node) string {
	hint := "its keys are " + sentence(o.keys(), "and")
	meant := n.text
	switch strings.ToLower(n.text) {
	case "off", "no":
		meant = "false"
	case "on", "yes":
		meant = "true"
	case "true", "false":
	default:
		return hint
	}
	if !o.switches {
		return hint
	}
	return fmt.Sprintf("write %s: {%s: %s}", o.what, strings.Join(o.keys(), ": "+meant+", "), meant)
}

// visit says whether there is work left to spend.
func (d *decoder) visit(pos Position) bool {
	d.visits++
	if d.visits == maxNodes+1 {
		d.rep.add(pos, "use fewer aliases", "the file means more than %d values", maxNodes)
	}
	return d.visits <= maxNodes
}

// missing reports, at p, that a needed key isn't there.
func (d *decoder) missing(g *given, p Position, hint, message string) {
	if !g.unknown {
		d.rep.add(p, hint, "%s", message)
	}
}

// items returns the values of a list; an empty value is an empty list. ok is
// false for what isn't a list.
func (d *decoder) items(n *node, hint string) (items []*node, ok bool) {
	switch n.kind {
	case sequence:
		return n.items, true
	case null:
		return nil, true
	case invalid:
	default:
		d.wrong(n, hint, "a list")
	}
	return nil, false
}

// wrong reports a value that isn't what its key takes.
func (d *decoder) wrong(n *node, hint, want string) {
	if n.kind == invalid {
		return
	}
	if n.kind == null && hint == "" {
		hint = "give it a value or remove the key"
	}
	d.rep.add(n.pos, hint, "%s must be %s, not %s", d.key, want, n.describe())
}
