package config

import (
	"slices"
	"strings"

	"reuseportd/internal/config/yaml"
	"reuseportd/internal/tls/info"
)

// ValuePart is a part of a field's value: text, or what is known of the request's connection.
type ValuePart struct {
	Text        string
	Placeholder string // one of info.Names; "" for text
}

// ValueParts splits a value at its placeholders, such as {tls.client.subject}. Without any it returns nil: braces that hold
// something else are text. bad is a placeholder that nobody knows, "" if there is none.
func ValueParts(value string) (parts []ValuePart, bad string) {
	rest, found := value, false
	for {
		before, after, ok := strings.Cut(rest, "{tls.")
		end := strings.IndexByte(after, '}')
		if !ok || end < 0 {
			break
		}
		name := "tls." + after[:end]
		if !slices.Contains(info.Names, name) {
			return nil, "{" + name + "}"
		}
		if before != "" {
			parts = append(parts, ValuePart{Text: before})
		}
		parts, rest, found = append(parts, ValuePart{Placeholder: name}), after[end+1:], true
	}
	if !found {
		return nil, ""
	}
	if rest != "" {
		parts = append(parts, ValuePart{Text: rest})
	}
	return parts, ""
}

// placeholders refuses values with placeholders that nobody knows.
func (d *decoder) placeholders(n *yaml.Node) {
	if n.Kind != yaml.Mapping {
		return
	}
	for _, e := range n.Entries {
		values := []*yaml.Node{e.Value}
		if e.Value.Kind == yaml.Sequence {
			values = e.Value.Items
		}
		for _, v := range values {
			if _, bad := ValueParts(v.Text); bad != "" {
				d.rep.Add(v.Pos, "there are {"+strings.Join(info.Names, "}, {")+"}", "there is no placeholder %s", bad)
			}
		}
	}
}
