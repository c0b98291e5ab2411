package main

import (
	"fmt"
	"os"
	"strings"
)

// endMark ends what any mark begins.
const endMark = "<!-- /bench -->"

// replaceMarked puts other text between `<!-- bench:NAME -->` and the next end.
func replaceMarked(text, name, other string) (string, error) {
	mark := "<!-- bench:" + name + " -->"
	before, rest, found := strings.Cut(text, mark)
	if !found {
		return "", fmt.Errorf("there is no %s", mark)
	}
	_, after, ended := strings.Cut(rest, endMark)
	switch {
	case !ended:
		return "", fmt.Errorf("%s has no %s", mark, endMark)
	case strings.Contains(rest, mark):
		return "", fmt.Errorf("%s stands there twice", mark)
	}
	return before + mark + "\n" + strings.TrimSpace(other) + "\n" + endMark + after, nil
}

// document is where the report stands, from the root of the repository.
const document = "docs/PERFORMANCE.md"

// update puts the report there.
func (r *report) update() error {
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	text, err := replaceMarked(string(old), "all", r.all())
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	return os.WriteFile(document, []byte(text), 0o644)
}
