package config

import "reuseportd/internal/config/yaml"

// AccessLog says where one line for each request goes.
type AccessLog struct {
	Format string // combined | json
	File   string // "-" is standard output
}

var accessLogObject = object[AccessLog]{at: "listeners[].http.access_log", what: "access_log", fields: []field[AccessLog]{
	{"format", choiceInto([]string{"combined", "json"}, func(a *AccessLog) *string { return &a.Format })},
	{"file", func(d *decoder, n *yaml.Node, a *AccessLog) {
		if n.Kind == yaml.Text && n.Text == "-" {
			return
		}
		logFileInto(`write "-" for standard output`, func(a *AccessLog) *string { return &a.File })(d, n, a)
	}},
}}
