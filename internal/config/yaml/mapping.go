package yaml

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// mapping builds a mapping. The first of two equal keys counts.
func (b *builder) mapping(values []*ast.MappingValueNode, n ast.Node, depth int) *Node {
	m := &Node{Kind: Mapping, Pos: at(n.GetToken())}
	seen := map[string]Position{}
	var merges []*Node
	for i, v := range values {
		pos := at(v.Key.GetToken())
		if f, ok := n.(*ast.MappingNode); i == 0 && (!ok || !f.IsFlowStyle) {
			m.Pos = pos // the parser's place of a block mapping is its first colon
		}
		if v.Key.IsMergeKey() {
			merges = append(merges, b.build(v.Value, depth+1))
			continue
		}
		key, ok := b.key(v.Key)
		if !ok {
			continue
		}
		value := b.build(v.Value, depth+1)
		if first, twice := seen[key]; twice {
			b.rep.Add(pos, fmt.Sprintf("it was first given on line %d", first.Line), "duplicate key %s", Quote(key))
			continue
		}
		seen[key] = pos
		m.Entries = append(m.Entries, Entry{key, pos, value})
	}
	for _, from := range merges {
		b.merge(m, from, seen)
	}
	return m
}

// key returns the text of a mapping's key.
func (b *builder) key(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return k.GetToken().Value, true
	}
	b.rep.Add(at(k.GetToken()), "write key: value", "this can't be a key")
	return "", false
}

// merge adds the entries of `<<: *anchor` that m doesn't have itself.
func (b *builder) merge(m, from *Node, seen map[string]Position) {
	switch from.Kind {
	case Invalid:
	case Mapping:
		for _, e := range from.Entries {
			if _, ok := seen[e.Key]; ok {
				continue
			}
			if !b.count(e.Pos) {
				return
			}
			seen[e.Key] = e.Pos
			m.Entries = append(m.Entries, e)
		}
	case Sequence:
		for _, item := range from.Items {
			if item.Kind == Sequence {
				b.rep.Add(item.Pos, "", "a merge key (<<) takes an alias of a mapping or a list of them")
				continue
			}
			b.merge(m, item, seen)
		}
	default:
		b.rep.Add(from.Pos, "write <<: *name", "a merge key (<<) takes an alias of a mapping, not %s", from.Describe())
	}
}
