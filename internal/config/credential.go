package config

import (
	"fmt"
	"strconv"

	"reuseportd/internal/config/yaml"
	"reuseportd/internal/sandbox"
)

// Credential is what `user` and `group` resolved to.
type Credential struct {
	User, Group string
	UID, GID    uint32
	Groups      []uint32 // supplementary groups
	// Default says that the configuration names no user.
	Default bool
}

// String names who it is, for a person: `www-data (uid 33)`, or `nobody (uid 65534), as no user
// is named`.
func (c *Credential) String() string {
	who := fmt.Sprintf("%s (uid %d)", c.User, c.UID)
	if c.Default {
		who += ", as no user is named"
	}
	return who
}

// SandboxUser returns c as the sandbox takes it, nil for nil.
func (c *Credential) SandboxUser() *sandbox.User {
	if c == nil {
		return nil
	}
	return &sandbox.User{UID: c.UID, GID: c.GID, Groups: c.Groups}
}

// readUser and readGroup only look at the form; credential does the rest.
func readUser(d *decoder, n *yaml.Node, _ *Config)  { d.account(n) }
func readGroup(d *decoder, n *yaml.Node, _ *Config) { d.account(n) }

// account reads the name or the number of a user or group.
func (d *decoder) account(n *yaml.Node) {
	_, isNumber := n.Integer()
	if n.Kind == yaml.Int && !isNumber || n.Kind == yaml.Text && n.Text == "" || n.Kind != yaml.Int && n.Kind != yaml.Text {
		d.wrong(n, "", "a name or a number")
	}
}

// credential resolves the keys user and group.
func (d *decoder) credential(g *given, c *Config) {
	u, hasUser := g.entries["user"]
	grp, hasGroup := g.entries["group"]
	if hasGroup && !hasUser {
		d.missing(g, grp.Pos, "add user:, or remove group", "group without user")
		return
	}
	if d.host == nil {
		return
	}
	if !hasUser {
		c.Credential = d.host.defaultCredential()
		return
	}
	if d.host.euid != 0 {
		d.rep.Add(u.Pos, "run as root, or remove user and group", "only root can run workers as another user")
	}
	cred := &Credential{}
	if isAccount(u.Value) {
		found, bad := d.host.resolveUser(u.Value.Text)
		if bad != nil {
			d.rep.Add(u.Value.Pos, bad.hint, "%s", bad.message)
		} else if cred = found; cred.Group == "" && !hasGroup {
			d.rep.Add(u.Value.Pos, "add group:", "user %s has no entry in the user database, so its group is not known", cred.User)
		}
	}
	if hasGroup && isAccount(grp.Value) {
		gid, name, ok := d.host.resolveGroup(grp.Value.Text)
		if bad := noID(grp.Value.Text, "group"); !ok && bad != nil {
			d.rep.Add(grp.Value.Pos, bad.hint, "%s", bad.message)
		} else if !ok {
			d.rep.Add(grp.Value.Pos, "create it or correct the name", "there is no group %s on this machine", yaml.Quote(grp.Value.Text))
		}
		cred.GID, cred.Group = gid, name
	}
	if cred.UID == 0 && cred.User != "" {
		d.rep.Warn(u.Pos, "name a user that owns nothing, or leave the key out: "+defaultUsers[0]+" if there is such a user, else "+defaultUsers[1],
			"workers run as root: who takes one over reads and writes every file that the sandbox doesn't keep from it")
	}
	c.Credential = cred
}

// defaultUsers are whom workers of root run as if nobody is named: the package's user, or else
// the one that owns nothing, whom other services may be, too.
var defaultUsers = [...]string{"reuseportd", "nobody"}

// nobody is the number that the kernel itself takes for no user, fs.overflowuid.
const nobody = 65534

// defaultCredential returns what workers run as if nothing is said: nil where the master
// is not root, as it can't change it.
func (h *host) defaultCredential() *Credential {
	if h.euid != 0 {
		return nil
	}
	for _, name := range defaultUsers {
		if c, bad := h.resolveUser(name); bad == nil && c.UID != 0 {
			c.Default = true
			return c
		}
	}
	return &Credential{User: strconv.Itoa(nobody), UID: nobody, GID: nobody, Default: true} // as in a container
}

func isAccount(n *yaml.Node) bool { return n.Kind == yaml.Int || n.Kind == yaml.Text && n.Text != "" }

// resolveUser returns the user, its primary group and its supplementary
// groups. A number without an entry in the user database is taken as it is:
// containers often have none.
func (h *host) resolveUser(name string) (*Credential, *flaw) {
	u, err := h.lookupUser(name)
	if err != nil {
		if bad := noID(name, "user"); bad != nil {
			return nil, bad
		}
		uid, isID := parseID(name)
		if !isID {
			return nil, &flaw{"there is no user " + yaml.Quote(name) + " on this machine", "create it or correct the name"}
		}
		if u, err = h.lookupID(name); err != nil {
			return &Credential{User: name, UID: uid}, nil
		}
	}
	uid, ok1 := parseID(u.Uid)
	gid, ok2 := parseID(u.Gid)
	if !ok1 || !ok2 {
		return nil, &flaw{"user " + yaml.Quote(name) + " has no usable number", ""}
	}
	c := &Credential{User: u.Username, Group: u.Gid, UID: uid, GID: gid}
	ids, err := h.groupIDs(u)
	if err != nil {
		return nil, &flaw{"the groups of user " + yaml.Quote(name) + " can't be read: " + err.Error(), ""}
	}
	for _, s := range ids {
		if id, ok := parseID(s); ok {
			c.Groups = append(c.Groups, id)
		}
	}
	return c, nil
}

func (h *host) resolveGroup(name string) (gid uint32, found string, ok bool) {
	g, err := h.lookupGroup(name)
	if err != nil {
		id, isID := parseID(name)
		return id, name, isID
	}
	id, ok := parseID(g.Gid)
	return id, g.Name, ok
}

// maxID is the highest number of a user or group; (uid_t)-1 is none, chown(2).
const maxID = 1<<32 - 2

// noID returns what is wrong with a number that nobody can have, nil for any other text.
func noID(s, of string) *flaw {
	if n, err := strconv.ParseUint(s, 10, 64); err != nil || n <= maxID {
		return nil
	}
	return &flaw{s + " can't be the number of a " + of, fmt.Sprintf("numbers go from 0 to %d; the one above stands for none (-1)", uint64(maxID))}
}

// parseID reads a user or group number.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID
}
