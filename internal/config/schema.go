package config

import (
	"slices"

	"reuseportd/internal/config/yaml"
)

// schema is what an object tells of itself: to hints and to tests.
type schema struct {
	at, what string
	keys     []string
}

// schemas lists every object that the decoder knows. The decoder gets it as a
// value: the tables refer to code of the decoder, so that can't refer to them.
func schemas() []schema {
	return []schema{
		topLevel.schema(), sandboxing.schema(), logging.schema(), upstreamObject.schema(), hashObject.schema(), serverObject.schema(),
		checkObject.schema(), checkHTTPObject.schema(), listenerObject.schema(), echoObject.schema(), tcpObject.schema(),
		keepaliveObject.schema(), httpObject.schema(), accessLogObject.schema(), routeObject.schema(), filesObject.schema(),
		respondObject.schema(), proxyObject.schema(), requestHeadersObject.schema(), responseHeadersObject.schema(),
	}
}

func (o *object[T]) schema() schema { return schema{o.at, o.what, o.keys()} }

// unknownHint says what an unknown key was likely meant to be.
func (o *object[T]) unknownHint(d *decoder, key string) string {
	if near := yaml.Nearest(key, o.keys()); near != "" {
		return "did you mean " + near + "?"
	}
	var owners []string
	for _, s := range d.schemas {
		if slices.Contains(s.keys, key) {
			owners = append(owners, s.what)
		}
	}
	if len(owners) > 0 {
		return key + " belongs in " + yaml.Sentence(owners, "or")
	}
	hint := "the keys are " + yaml.Sentence(o.keys(), "and")
	if o.more != "" {
		hint += "; " + o.more
	}
	return hint
}
