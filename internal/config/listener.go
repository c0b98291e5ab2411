package config

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"reuseportd/internal/config/yaml"
)

const (
	defaultBacklog = 4096
	// defaultMode lets every local user connect, as nginx does and as a TCP
	// listener on the loopback address would.
	defaultMode = 0o666
)

var (
	accepts   = []Accept{AcceptReuseport, AcceptExclusive, AcceptMutex, AcceptShared}
	steerings = []Steering{SteerHash, SteerCPU, SteerRandom, SteerLoad}
)

// services are what a listener has one of.
var services = []string{"http", "tcp", "echo"}

var listenerObject = object[Listener]{at: "listeners[]", what: "a listener", more: "the services are " + yaml.Sentence(services, "and"), fields: []field[Listener]{
	{"name", nameInto(func(l *Listener) *string { return &l.Name })},
	{"address", readAddress},
	{"accept", choiceInto(accepts, func(l *Listener) *Accept { return &l.Accept })},
	{"shards", intInto(1, maxSlots, func(l *Listener) *int { return &l.Shards })},
	{"steering", choiceInto(steerings, func(l *Listener) *Steering { return &l.Steering })},
	{"steering_fallback", choiceInto(steerings[:3], func(l *Listener) *Steering { return &l.Fallback })},
	{"share", boolInto(func(l *Listener) *bool { return &l.Share })},
	{"defer_accept", boolInto(func(l *Listener) *bool { return &l.DeferAccept })},
	{"max_connections_per_client", intInto(0, 1<<20, func(l *Listener) *int { return &l.ClientConnections })},
	{"backlog", intInto(1, 1<<20, func(l *Listener) *int { return &l.Backlog })},
	{"mode", readMode},
	{"http", func(d *decoder, n *yaml.Node, l *Listener) { l.HTTP = d.http(n) }},
	{"tcp", func(d *decoder, n *yaml.Node, l *Listener) { l.TCP = d.tcp(n) }},
	{"echo", func(d *decoder, n *yaml.Node, l *Listener) {
		l.Echo = &Echo{}
		echoObject.read(d, n, l.Echo)
	}},
}}

// readListeners reads the list and finds names and addresses given twice.
func readListeners(d *decoder, n *yaml.Node, c *Config) {
	items, ok := d.items(n, "begin each listener with - name:")
	if !ok {
		return
	}
	if len(items) == 0 {
		d.rep.Add(n.Pos, "add at least one - name, address and service", "there are no listeners")
	}
	names, addresses := map[string]Position{}, map[string]Position{}
	for _, item := range items {
		l := Listener{Backlog: defaultBacklog, Accept: AcceptReuseport, Steering: SteerHash, Fallback: SteerHash}
		g := listenerObject.read(d, item, &l)
		if g == nil {
			continue
		}
		d.finishListener(item, g, &l)
		if l.Name != "" {
			d.unique(names, l.Name, g.pos("name", item.Pos), "listeners have the name "+yaml.Quote(l.Name))
		}
		if l.Address != "" {
			d.unique(addresses, l.Key(), l.Pos, "listeners have the address "+l.Address)
		}
		c.Listeners = append(c.Listeners, l)
	}
}

// unique reports what an earlier one of a list already has.
func (d *decoder) unique(seen map[string]Position, key string, pos Position, what string) {
	if first, twice := seen[key]; twice {
		d.rep.Add(pos, fmt.Sprintf("the first is on line %d", first.Line), "two %s", what)
		return
	}
	seen[key] = pos
}

// finishListener checks what takes more than one key to know.
func (d *decoder) finishListener(n *yaml.Node, g *given, l *Listener) {
	for _, key := range []string{"name", "address"} {
		if !g.has(key) {
			d.missing(g, n.Pos, "add "+key+":", "a listener without "+key)
		}
	}
	d.oneOf(n, g, services, "keep one; give the other a listener of its own",
		"a listener has one service, and this one has %s", "a listener without a service")
	d.accept(g, l)
	if l.Network == "unix" && l.DeferAccept {
		d.rep.Add(g.entries["defer_accept"].Pos, "remove it", "defer_accept is for TCP only")
	}
	if l.Network == "unix" && l.Share {
		d.rep.Add(g.entries["share"].Pos, "remove it", "share is for TCP only: a path leads to one socket")
	}
	if l.Network == "unix" && l.ClientConnections > 0 {
		d.rep.Add(g.entries["max_connections_per_client"].Pos, "remove it; max_connections bounds all",
			"max_connections_per_client is for TCP only: those at a Unix socket have no address")
	}
	if l.Network != "unix" {
		if l.Network != "" && g.has("mode") {
			d.rep.Add(g.entries["mode"].Pos, "remove it, or use address: unix:/path", "mode is for Unix sockets only")
		}
		return
	}
	if l.Mode == 0 {
		l.Mode = defaultMode
	}
}

// oneOf wants exactly one of several keys. many has a place for those that there are.
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

// isName tells whether s can be the name of a listener or of an upstream. Every start of a
// worker asks, so it is no regular expression, which would be made for it each time.
func isName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}

// nameInto reads the name of a listener or of an upstream.
func nameInto[T any](at func(*T) *string) func(*decoder, *yaml.Node, *T) {
	return func(d *decoder, n *yaml.Node, into *T) {
		s, ok := d.text(n)
		if ok && !isName(s) {
			d.wrong(n, "use letters, digits, dot, dash and underscore, at most 64", "a short name")
			return
		}
		*at(into) = s
	}
}

// accept checks how loops share the listener.
func (d *decoder) accept(g *given, l *Listener) {
	if l.Network == "unix" && l.Accept == AcceptReuseport {
		if g.has("accept") {
			d.rep.Add(g.entries["accept"].Value.Pos, "remove the key or write exclusive",
				"a Unix socket can't use accept: reuseport, which balances only IP sockets")
			return
		}
		l.Accept = AcceptExclusive
	}
	if l.Accept == AcceptShared {
		d.rep.Warn(g.pos("accept", l.Pos), "accept: exclusive wakes only one",
			"accept: shared wakes every event loop for each connection, the thundering herd")
	}
	if l.Accept != AcceptReuseport {
		for _, key := range []string{"shards", "steering", "steering_fallback"} {
			if g.has(key) {
				d.rep.Add(g.entries[key].Pos, "remove it", "%s is for accept: reuseport, and with accept: %s there is one socket", key, l.Accept)
			}
		}
		return
	}
	if g.has("steering_fallback") && l.Steering != SteerLoad {
		d.rep.Add(g.entries["steering_fallback"].Pos, "remove it", "steering_fallback is for steering: load")
	}
	if l.Share && l.Steering != SteerHash {
		d.rep.Add(g.entries["share"].Pos, "remove share, or steering", "share: true is for steering: hash: others would get no connections by steering: %s", l.Steering)
	}
	if l.Steering == SteerLoad && l.Shards != 0 {
		d.rep.Add(g.entries["shards"].Pos, "remove shards or choose another steering",
			"steering: load needs a socket for each event loop, whose load it looks at")
	}
}

// readMode reads permissions as chmod(1) does: in octal, 0660 or "660".
func readMode(d *decoder, n *yaml.Node, l *Listener) {
	if n.Kind == yaml.Int || n.Kind == yaml.Text {
		v, err := strconv.ParseUint(strings.TrimPrefix(n.Text, "0o"), 8, 32)
		if err == nil && v > 0 && v <= 0o777 {
			l.Mode = fs.FileMode(v)
			return
		}
	}
	d.wrong(n, `write it in octal, as in "0660"`, "permissions between 0001 and 0777")
}
