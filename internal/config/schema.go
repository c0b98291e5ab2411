package config

import "slices"

// schema is what an object tells of itself: to hints and to tests.
type schema struct {
	at, what string
	keys     []string
}

// schemas lists every object that the decoder knows. The decoder gets it as a
// value: the tables refer to code of the decoder, so that can't refer to them.
func schemas() []schema {
	return []schema{
		topLevel.schema(), logging.schema(), listenerObject.schema(), echoObject.schema(), httpObject.schema(),
		accessLogObject.schema(), routeObject.schema(), filesObject.schema(), respondObject.schema(),
	}
}

func (o *object[T]) schema() schema { return schema{o.at, o.what, o.keys()} }

// unknownHint says what an unknown key was likely meant to be.
func (o *object[T]) unknownHint(d *decoder, key string) string {
	if near := nearest(key, o.keys()); near != "" {
		return "did you mean " + near + "?"
	}
	for _, s := range d.schemas {
		if slices.Contains(s.keys, key) {
			return key + " belongs in " + s.what
		}
	}
	hint := "the keys are " + sentence(o.keys(), "and")
	if o.more != "" {
		hint += "; " + o.more
	}
	return hint
}
