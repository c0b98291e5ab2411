package yaml

import "strings"

// tabInIndent reports whether a line is indented with a tab.
func tabInIndent(line string) bool {
	return strings.Contains(line[:len(line)-len(strings.TrimLeft(line, " \t"))], "\t")
}

// syntaxHint guesses what was meant by a line that isn't valid YAML.
func (words Dialect) syntaxHint(line, msg string) string {
	typical := ""
	if words.Hint != nil {
		typical = words.Hint(line)
	}
	switch {
	case tabInIndent(line):
		return "indent with spaces; YAML allows no tabs there"
	case typical != "":
		return typical
	case strings.Contains(msg, "mapping value is not allowed"):
		return "check the indentation here and on the next line; text with a colon and a space in it needs quotes"
	case strings.Contains(msg, "non-map value"):
		return "a list can't stand among key: value lines; check the indentation"
	case strings.Contains(msg, "reserved character"):
		return "put the text in quotes"
	case strings.Contains(msg, "end character"):
		return "close the quotes"
	}
	return ""
}

// Nearest returns the one of known that s was most likely meant to be, or "".
func Nearest(s string, known []string) string {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
	}
	best, least := "", max(1, min(len(s), 40)/3)+1
	for _, k := range known {
		if plain(k) == plain(s) || len(s) > 3 && (strings.HasPrefix(k, s) || strings.HasPrefix(s, k)) {
			return k
		}
		if d := distance(s, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of characters to add, drop, change or swap with
// their neighbour to make a into b (optimal string alignment). Long texts are
// cut: they are near nothing.
func distance(a, b string) int {
	const most = 64
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	var before, prev, cur [most + 1]int
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			change := prev[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev = prev, cur
	}
	return prev[len(b)]
}

// Sentence joins names as in "a, b and c".
func Sentence(names []string, last string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	n := len(names) - 1
	return strings.Join(names[:n], ", ") + " " + last + " " + names[n]
}
