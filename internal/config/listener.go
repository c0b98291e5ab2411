package config

import (
	"io/fs"
	"strconv"
	"strings"

	"reuseportd/internal/config/yaml"
)

// Listener is a configured address and the service behind it. Exactly one of
// HTTP, TCP and Echo is set.
type Listener struct {
	Name string
	// Network is tcp4, tcp6 or unix. Address is canonical: "127.0.0.1:8080",
	// "[::1]:8080", or a path; two listeners never share one.
	Network string
	Address string
	Accept  Accept
	// Shards is how many sockets share the address, 0 is one for each loop. It is
	// 0 with every accept but reuseport.
	Shards int
	// Steering chooses among the shards; Fallback does where the kernel doesn't let
	// us steer by load.
	Steering, Fallback Steering

	// Share lets other services of this user listen at the address too, if they say the
	// same: the kernel spreads clients over all. It is false with a Unix socket.
	Share bool

	// DeferAccept makes the kernel hold a connection back until its first bytes have come, or
	// a second has passed: TCP_DEFER_ACCEPT, tcp(7).
	DeferAccept bool

	// ClientConnections is how many connections a client address may have here at a
	// time; 0 is no bound. It is 0 with a Unix socket.
	ClientConnections int

	Backlog int         // listen(2) backlog; capped by net.core.somaxconn
	Mode    fs.FileMode // permissions of a Unix socket

	TLS  *TLS // nil: connections are in the clear
	HTTP *HTTP
	TCP  *TCP
	Echo *Echo

	// Pos is where the listener's address stands in the file, for errors that
	// only binding can find.
	Pos Position
}

// Key names the listener's sockets across configurations: whoever serves an
// address serves the same sockets, whatever the listener is called.
func (l *Listener) Key() string { return l.Network + "!" + l.Address }

// Sockets returns how many sockets so many event loops need.
func (l *Listener) Sockets(slots int) int {
	switch {
	case l.Accept != AcceptReuseport:
		return min(slots, 1)
	case l.Shards == 0:
		return slots
	}
	return min(slots, l.Shards)
}

// Service returns the name of the listener's service key.
func (l *Listener) Service() string {
	switch {
	case l.HTTP != nil:
		return "http"
	case l.TCP != nil:
		return "tcp"
	}
	return "echo"
}

const (
	defaultBacklog = 4096
	// defaultMode lets every local user connect, as nginx does and as a TCP
	// listener on the loopback address would.
	defaultMode = 0o666
)

// services are the keys that a listener has one of.
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
	{"tls", func(d *decoder, n *yaml.Node, l *Listener) { l.TLS = d.tls(n) }},
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
	if l.TLS != nil && l.TCP != nil && len(l.TCP.SNI) > 0 {
		d.rep.Add(l.TLS.Pos, "keep tls: to decrypt here, or sni: to pass connections on as they are", "a listener with tls and with sni")
	}
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
