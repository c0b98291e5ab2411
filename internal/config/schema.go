package config

import (
	"slices"

	"reuseportd/internal/config/yaml"
)

// schema is what hints and tests need to know of an object.
type schema struct {
	at, what string
	keys     []string
}

// schemas lists every object that the decoder knows. The decoder gets it as a
// value: the tables refer to the decoder's code, which therefore can't refer to them.
func schemas() []schema {
	return []schema{
		topLevel.schema(), sandboxObject.schema(), logObject.schema(), upstreamObject.schema(), upstreamTLSObject.schema(), hashObject.schema(), serverObject.schema(),
		checkObject.schema(), checkHTTPObject.schema(), listenerObject.schema(), echoObject.schema(), tcpObject.schema(),
		keepaliveObject.schema(), tlsObject.schema(), certificateObject.schema(), clientAuthObject.schema(), ticketsObject.schema(), httpObject.schema(), accessLogObject.schema(), routeObject.schema(), filesObject.schema(),
		respondObject.schema(), proxyObject.schema(), requestHeadersObject.schema(), responseHeadersObject.schema(),
	}
}

func (o *object[T]) schema() schema { return schema{o.at, o.what, o.keys()} }

// unknownHint returns what an unknown key was likely meant to be.
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
