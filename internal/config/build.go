package config

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// builder turns the parser's tree into nodes: it resolves aliases and merge
// keys, refuses what a configuration has no use for, and finds keys that were
// given twice.
type builder struct {
	rep     *report
	anchors map[string]*node // complete ones only, so no node can hold itself
	nodes   int              // entries and items so far, merged ones included
}

// build returns the node of n; it never returns nil.
func (b *builder) build(n ast.Node, depth int) *node {
	if n == nil {
		return &node{kind: null, pos: Position{1, 1}}
	}
	pos := at(n.GetToken())
	if depth > maxDepth {
		return b.refuse(pos, "", "values are nested more than %d deep", maxDepth)
	}
	if !b.count(pos) {
		return &node{pos: pos}
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &node{kind: null, pos: pos}
	case *ast.BoolNode:
		return scalar(boolean, n.Token)
	case *ast.IntegerNode:
		return scalar(integer, n.Token)
	case *ast.FloatNode:
		return scalar(number, n.Token)
	case *ast.InfinityNode:
		return scalar(number, n.Token)
	case *ast.NanNode:
		return scalar(number, n.Token)
	case *ast.StringNode:
		quoted := n.Token.Type == token.DoubleQuoteType || n.Token.Type == token.SingleQuoteType
		return &node{kind: text, pos: pos, text: n.Value, quoted: quoted}
	case *ast.LiteralNode:
		return &node{kind: text, pos: pos, text: n.Value.Value, quoted: true}
	case *ast.MappingNode:
		return b.mapping(n.Values, n, depth)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, n, depth)
	case *ast.SequenceNode:
		seq := &node{kind: sequence, pos: pos}
		for _, v := range n.Values {
			seq.items = append(seq.items, b.build(v, depth+1))
		}
		return seq
	case *ast.AnchorNode:
		v := b.build(n.Value, depth+1)
		b.anchors[n.Name.GetToken().Value] = v
		return v
	case *ast.AliasNode:
		return b.alias(n)
	case *ast.TagNode:
		return b.refuse(pos, "remove the tag; put text that looks like a number in quotes",
			"YAML tags such as %s are not used here", n.GetToken().Value)
	}
	return b.refuse(pos, "", "a %s is not used here", n.Type())
}

func scalar(k kind, t *token.Token) *node {
	return &node{kind: k, pos: at(t), text: t.Value}
}

// refuse reports an error and returns the node that stands for it.
func (b *builder) refuse(pos Position, hint, format string, args ...any) *node {
	b.rep.add(pos, hint, format, args...)
	return &node{pos: pos}
}

// count says whether there is room for one more node.
func (b *builder) count(pos Position) bool {
	b.nodes++
	if b.nodes == maxNodes+1 {
		b.rep.add(pos, "", "the file holds more than %d values", maxNodes)
	}
	return b.nodes <= maxNodes
}

func (b *builder) alias(n *ast.AliasNode) *node {
	name := ""
	if n.Value != nil {
		name = n.Value.GetToken().Value
	}
	if v, ok := b.anchors[name]; ok {
		return v
	}
	return b.refuse(at(n.GetToken()), "an anchor is set with &"+name+" and ends before it is used",
		"no anchor named %s was set above", quote(name))
}
