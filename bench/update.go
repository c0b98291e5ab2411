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

// update puts the report into the documents, from the root of the repository.
func (r *report) update() error {
	texts := make(map[string]string)
	for _, place := range []struct{ path, name, text string }{
		{"README.md", "goals", r.goals()},
		{"docs/PERFORMANCE.md", "all", r.all()},
	} {
		old, err := os.ReadFile(place.path)
		if err != nil {
			return err
		}
		if texts[place.path], err = replaceMarked(string(old), place.name, place.text); err != nil {
			return fmt.Errorf("%s: %w", place.path, err)
		}
	}
	for path, text := range texts { // both or none
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
