package yaml

import (
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// builder turns the parser's tree into nodes: it resolves aliases and merge
// keys, refuses what a configuration has no use for, and finds keys that were
// given twice.
type builder struct {
	rep     *Report
	anchors map[string]*Node // complete ones only, so no node can hold itself
	nodes   int              // entries and items so far, merged ones included
}

// build returns the node of n; it never returns nil.
func (b *builder) build(n ast.Node, depth int) *Node {
	if n == nil {
		return &Node{Kind: Null, Pos: Position{1, 1}}
	}
	pos := at(n.GetToken())
	if depth > MaxDepth {
		return b.refuse(pos, "", "values are nested more than %d deep", MaxDepth)
	}
	if !b.count(pos) {
		return &Node{Pos: pos}
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return &Node{Kind: Null, Pos: pos}
	case *ast.BoolNode:
		return scalar(Bool, n.Token)
	case *ast.IntegerNode:
		return scalar(Int, n.Token)
	case *ast.FloatNode:
		return scalar(Float, n.Token)
	case *ast.InfinityNode:
		return scalar(Float, n.Token)
	case *ast.NanNode:
		return scalar(Float, n.Token)
	case *ast.StringNode:
		return &Node{Kind: Text, Pos: pos, Text: n.Value}
	case *ast.LiteralNode:
		return &Node{Kind: Text, Pos: pos, Text: n.Value.Value}
	case *ast.MappingNode:
		return b.mapping(n.Values, n, depth)
	case *ast.MappingValueNode:
		return b.mapping([]*ast.MappingValueNode{n}, n, depth)
	case *ast.SequenceNode:
		seq := &Node{Kind: Sequence, Pos: pos}
		for _, v := range n.Values {
			seq.Items = append(seq.Items, b.build(v, depth+1))
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

func scalar(k Kind, t *token.Token) *Node {
	return &Node{Kind: k, Pos: at(t), Text: t.Value}
}

// refuse reports an error and returns the node that stands for it.
func (b *builder) refuse(pos Position, hint, format string, args ...any) *Node {
	b.rep.Add(pos, hint, format, args...)
	return &Node{Pos: pos}
}

// count reports whether there is room for one more node.
func (b *builder) count(pos Position) bool {
	b.nodes++
	if b.nodes == MaxNodes+1 {
		b.rep.Add(pos, "", "the file holds more than %d values", MaxNodes)
	}
	return b.nodes <= MaxNodes
}

func (b *builder) alias(n *ast.AliasNode) *Node {
	name := ""
	if n.Value != nil {
		name = n.Value.GetToken().Value
	}
	if v, ok := b.anchors[name]; ok {
		return v
	}
	return b.refuse(at(n.GetToken()), "an anchor is set with &"+name+" and ends before it is used",
		"no anchor named %s was set above", Quote(name))
}
