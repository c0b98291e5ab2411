// Package hostile plays, for as long as one wants, those whom the server must not believe: a
// hostile worker, a hostile orphan, a hostile next master and hostile local users. Beside them
// the server is reloaded, upgraded, killed and taken over, under clients that count what they lose.
//
// It owns the choice of what is played, which a seed makes, and the account. It does nothing
// unless REUSEPORTD_HOSTILE says for how long: see make prove-hostile.
package hostile
