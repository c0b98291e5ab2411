// Package hostile plays, for a chosen time, the parts of those that the server must not trust: a
// hostile worker, a hostile orphan, a hostile next master and hostile local users. Meanwhile the
// server is reloaded, upgraded, killed and taken over, while clients count what they lose.
//
// It owns the random choice of parts, which a seed determines, and the counts. It must do
// nothing unless REUSEPORTD_HOSTILE says for how long: see make prove-hostile.
package hostile
