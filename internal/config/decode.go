package config

import (
	"fmt"
	"slices"
	"strings"

	"reuseportd/internal/config/yaml"
)

// decoder carries one tree of nodes into a Config.
type decoder struct {
	rep *yaml.Report
	// host is the machine to check against; nil where the configuration is trusted.
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
	read func(d *decoder, n *yaml.Node, into *T)
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
	entries map[string]yaml.Entry
	// unknown says that there were unknown keys. They are likely the ones that
	// seem to be missing, so nothing is said about those.
	unknown bool
}

func (g *given) has(key string) bool { _, ok := g.entries[key]; return ok }

// pos returns the place of a key's value, or p when it wasn't given.
func (g *given) pos(key string, p Position) Position {
	if e, ok := g.entries[key]; ok {
		return e.Value.Pos
	}
	return p
}

// read fills into from n and returns the keys that were there. An empty value
// is an object with nothing in it. It returns nil for what isn't an object.
func (o *object[T]) read(d *decoder, n *yaml.Node, into *T) *given {
	g := &given{entries: map[string]yaml.Entry{}}
	switch n.Kind {
	case yaml.Mapping:
	case yaml.Null:
		return g
	case yaml.Invalid:
		return nil
	default:
		d.rep.Add(n.Pos, o.shapeHint(n), "%s is written as key: value lines, not %s", o.what, n.Describe())
		return nil
	}
	for _, e := range n.Entries {
		if !d.visit(e.Pos) {
			return nil
		}
		g.entries[e.Key] = e
		i := slices.IndexFunc(o.fields, func(f field[T]) bool { return f.key == e.Key })
		if i < 0 {
			d.rep.Add(e.Pos, o.unknownHint(d, e.Key), "unknown key %s in %s", yaml.Quote(e.Key), o.what)
			g.unknown = true
			continue
		}
		if e.Value.Kind == yaml.Invalid {
			continue
		}
		d.key = e.Key
		o.fields[i].read(d, e.Value, into)
	}
	return g
}

// shapeHint says how an object is written, to somebody who wrote something else; where its keys are
// switches of their own, like this one, by what was meant.
func (o *object[T]) shapeHint(n *yaml.Node) string {
	hint := "its keys are " + yaml.Sentence(o.keys(), "and")
	meant := n.Text
	switch strings.ToLower(n.Text) {
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

// visit counts one more value, and reports whether the file may mean so many.
func (d *decoder) visit(pos Position) bool {
	d.visits++
	if d.visits == yaml.MaxNodes+1 {
		d.rep.Add(pos, "use fewer aliases", "the file means more than %d values", yaml.MaxNodes)
	}
	return d.visits <= yaml.MaxNodes
}

// missing reports, at p, that a needed key isn't there.
func (d *decoder) missing(g *given, p Position, hint, message string) {
	if !g.unknown {
		d.rep.Add(p, hint, "%s", message)
	}
}

// items visits and returns the values of a list; an empty value is an empty list. ok is
// false for what isn't a list, and where the file means too many values.
func (d *decoder) items(n *yaml.Node, hint string) (items []*yaml.Node, ok bool) {
	switch n.Kind {
	case yaml.Sequence:
		for _, item := range n.Items {
			if !d.visit(item.Pos) {
				return nil, false
			}
		}
		return n.Items, true
	case yaml.Null:
		return nil, true
	case yaml.Invalid:
	default:
		d.wrong(n, hint, "a list")
	}
	return nil, false
}

// wrong reports a value that isn't what its key takes.
func (d *decoder) wrong(n *yaml.Node, hint, want string) {
	if n.Kind == yaml.Invalid {
		return
	}
	if n.Kind == yaml.Null && hint == "" {
		hint = "give it a value or remove the key"
	}
	d.rep.Add(n.Pos, hint, "%s must be %s, not %s", d.key, want, n.Describe())
}

// unique reports what an earlier one of a list already has.
func (d *decoder) unique(seen map[string]Position, key string, pos Position, what string) {
	if first, twice := seen[key]; twice {
		d.rep.Add(pos, fmt.Sprintf("the first is on line %d", first.Line), "two %s", what)
		return
	}
	seen[key] = pos
}

// oneOf reports anything but exactly one of several keys. many is a format for the list of those that were given.
func (d *decoder) oneOf(n *yaml.Node, g *given, keys []string, hint, many, none string) {
	var found []string
	for _, key := range keys {
		if g.has(key) {
			found = append(found, key)
		}
	}
	if len(found) > 1 {
		d.rep.Add(g.entries[found[1]].Pos, hint, many, yaml.Sentence(found, "and"))
	}
	if len(found) == 0 {
		d.missing(g, n.Pos, "add "+strings.Join(keys[:len(keys)-1], ":, ")+": or "+keys[len(keys)-1]+":", none)
	}
}
