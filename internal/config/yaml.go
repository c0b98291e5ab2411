package config

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on the shape of a file. The YAML parser takes time quadratic in the
// depth, and aliases multiply what a small file means.
const (
	maxTokens = 200_000
	maxDepth  = 64
	maxNodes  = 100_000
)

// parseYAML turns the text into a tree of nodes. It returns nil when there is
// no tree to look at; every reason is in the report.
func parseYAML(rep *report, raw []byte) (root *node) {
	defer func() {
		// The parser has panicked on odd input before; a file must never take
		// the master down.
		if v := recover(); v != nil {
			rep.add(Position{1, 1}, "", "the YAML parser gave up on this file: %v", v)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(raw))
	if !checkTokens(rep, tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		syntaxError(rep, err)
		return nil
	}
	body := singleDocument(rep, file)
	if body == nil {
		return nil
	}
	b := builder{rep: rep, anchors: map[string]*node{}}
	return b.build(body, 0)
}

// singleDocument returns the body of the file's one document, or nil.
func singleDocument(rep *report, file *ast.File) ast.Node {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			rep.add(at(doc.Body.GetToken()), "remove the line", "YAML directives are not used here")
			continue
		}
		if body != nil {
			where := doc.Body.GetToken()
			if doc.Start != nil {
				where = doc.Start
			}
			rep.add(at(where), "put everything into one document, without --- between",
				"a second YAML document begins here")
			return nil
		}
		body = doc.Body
	}
	if body == nil && !rep.bad() {
		rep.add(Position{1, 1}, "at least one listener is needed; see docs/CONFIGURATION.md",
			"the file holds no configuration")
	}
	return body
}

// checkTokens refuses a file whose shape would take the parser long.
func checkTokens(rep *report, tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		rep.add(at(tokens[maxTokens]), "", "the file has more than %d YAML tokens", maxTokens)
		return false
	}
	flow, line, onLine := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType: // "- - - x"
			if t.Position.Line != line {
				line, onLine = t.Position.Line, 0
			}
			onLine++
		}
		if flow > maxDepth || onLine > maxDepth {
			rep.add(at(t), "", "values are nested more than %d deep", maxDepth)
			return false
		}
	}
	return true
}

// syntaxError reports what the parser didn't understand.
func syntaxError(rep *report, err error) {
	var ye yaml.Error
	if !errors.As(err, &ye) {
		rep.add(Position{1, 1}, "", "not valid YAML: %v", err)
		return
	}
	p, msg := rep.src.clamp(at(ye.GetToken())), ye.GetMessage()
	hint := syntaxHint(rep.src.line(p), msg)
	if tabInIndent(rep.src.line(p)) {
		msg = "a tab in the indentation"
	}
	rep.add(p, hint, "not valid YAML: %s", fmt.Sprint(msg))
}

// at returns a token's place.
func at(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{t.Position.Line, t.Position.Column}
}
