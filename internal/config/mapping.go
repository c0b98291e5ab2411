package config

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
)

// mapping builds a mapping. The first of two equal keys counts.
func (b *builder) mapping(values []*ast.MappingValueNode, n ast.Node, depth int) *node {
	m := &node{kind: mapping, pos: at(n.GetToken())}
	seen := map[string]Position{}
	var merges []*node
	for i, v := range values {
		pos := at(v.Key.GetToken())
		if f, ok := n.(*ast.MappingNode); i == 0 && (!ok || !f.IsFlowStyle) {
			m.pos = pos // the parser's place of a block mapping is its first colon
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
			b.rep.add(pos, fmt.Sprintf("it was first given on line %d", first.Line), "duplicate key %s", quote(key))
			continue
		}
		seen[key] = pos
		m.entries = append(m.entries, entry{key, pos, value})
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
	b.rep.add(at(k.GetToken()), "write key: value", "this can't be a key")
	return "", false
}

// merge adds the entries of `<<: *anchor` that m doesn't have itself.
func (b *builder) merge(m, from *node, seen map[string]Position) {
	switch from.kind {
	case invalid:
	case mapping:
		for _, e := range from.entries {
			if _, ok := seen[e.key]; ok {
				continue
			}
			if !b.count(e.pos) {
				return
			}
			seen[e.key] = e.pos
			m.entries = append(m.entries, e)
		}
	case sequence:
		for _, item := range from.items {
			if item.kind == sequence {
				b.rep.add(item.pos, "", "a merge key (<<) takes an alias of a mapping or a list of them")
				continue
			}
			b.merge(m, item, seen)
		}
	default:
		b.rep.add(from.pos, "write <<: *name", "a merge key (<<) takes an alias of a mapping, not %s", from.describe())
	}
}
