// Package yaml reads YAML into a tree in which every value knows its place, and collects what is wrong with it, each
// thing shown with the line that it is about.
//
// It owns the tree (Node), places (Position), messages (Error, Report) and the bounds on what a file may ask of its
// reader. It knows no key and no object: those are the caller's, and so are the words for what is typical of its files
// (Dialect). It opens no file.
//
// Parse checks that the bytes are text, has the parser of goccy/go-yaml make its tree, and turns that into Nodes: aliases
// and merge keys are resolved, keys given twice and what the caller has no use for (tags, directives, a second document)
// are reported. A node that was reported is Invalid, and whoever meets it says no more.
package yaml

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"

	goyaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on the shape of a file. The YAML parser takes time quadratic in the
// depth, and aliases multiply what a small file means: who reads a tree counts
// the values that it visits, and stops after MaxNodes too.
const (
	MaxTokens = 200_000
	MaxDepth  = 64
	MaxNodes  = 100_000
)

// Dialect is what messages say in the words of the caller's files.
type Dialect struct {
	// Empty says that a file holds nothing, EmptyHint what to do.
	Empty, EmptyHint string
	// Hint returns what was likely meant by a line that is not valid YAML, "" if it can't tell. It may be nil.
	Hint func(line string) string
}

// Parse turns a text into a tree of nodes. It returns nil when there is no
// tree to look at; every reason is in the report, which was made for raw.
func Parse(rep *Report, raw []byte, words Dialect) (root *Node) {
	if !checkText(rep, raw) {
		return nil
	}
	defer func() {
		// The parser has panicked on odd input before; a file must never take
		// the master down.
		if v := recover(); v != nil {
			rep.Add(Position{1, 1}, "", "the YAML parser gave up on this file: %v", v)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	if !checkTokens(rep, tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		syntaxError(rep, err, words)
		return nil
	}
	body := singleDocument(rep, file, words)
	if body == nil {
		return nil
	}
	b := builder{rep: rep, anchors: map[string]*Node{}}
	return b.build(body, 0)
}

// checkText refuses bytes that are no text, before the YAML parser sees them.
func checkText(rep *Report, raw []byte) bool {
	p := Position{1, 1}
	for rest := raw; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			rep.Add(p, "save the file as UTF-8", "byte 0x%02x is not valid UTF-8", rest[0])
			return false
		case r == '\n':
			p = Position{p.Line + 1, 0}
		case r == '\r' && bytes.HasPrefix(rest[1:], []byte("\n")), r == '\t':
		case r < ' ' || r == 0x7f:
			rep.Add(p, `in double quotes it can be written as "\x..`+`"`, "control character 0x%02x", r)
			return false
		}
		p.Column++
		rest = rest[size:]
	}
	return true
}

// singleDocument returns the body of the file's one document, or nil.
func singleDocument(rep *Report, file *ast.File, words Dialect) ast.Node {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			rep.Add(at(doc.Body.GetToken()), "remove the line", "YAML directives are not used here")
			continue
		}
		if body != nil {
			where := doc.Body.GetToken()
			if doc.Start != nil {
				where = doc.Start
			}
			rep.Add(at(where), "put everything into one document, without --- between",
				"a second YAML document begins here")
			return nil
		}
		body = doc.Body
	}
	if body == nil && !rep.Bad() {
		rep.Add(Position{1, 1}, words.EmptyHint, "%s", words.Empty)
	}
	return body
}

// checkTokens refuses a file whose shape would take the parser long.
func checkTokens(rep *Report, tokens token.Tokens) bool {
	if len(tokens) > MaxTokens {
		rep.Add(at(tokens[MaxTokens]), "", "the file has more than %d YAML tokens", MaxTokens)
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
		if flow > MaxDepth || onLine > MaxDepth {
			rep.Add(at(t), "", "values are nested more than %d deep", MaxDepth)
			return false
		}
	}
	return true
}

// syntaxError reports what the parser didn't understand.
func syntaxError(rep *Report, err error, words Dialect) {
	var ye goyaml.Error
	if !errors.As(err, &ye) {
		rep.Add(Position{1, 1}, "", "not valid YAML: %v", err)
		return
	}
	p, msg := rep.src.clamp(at(ye.GetToken())), ye.GetMessage()
	hint := words.syntaxHint(rep.src.line(p), msg)
	if tabInIndent(rep.src.line(p)) {
		msg = "a tab in the indentation"
	}
	rep.Add(p, hint, "not valid YAML: %s", fmt.Sprint(msg))
}

// at returns a token's place.
func at(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{t.Position.Line, t.Position.Column}
}
