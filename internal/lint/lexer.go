// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// kind of a token.
type kind int

const (
	end    kind = iota
	word        // a keyword or a name without quotes
	quoted      // a name in quotes
	text        // a string, of any way of quoting
	symbol      // one character
	comment
)

// token is a piece of SQL.
type token struct {
	kind kind
	at   int    // where it begins
	raw  string // as it stands there
}

// is tells whether the token is one of these words, in any case; or symbols.
func (t token) is(words ...string) bool {
	if t.kind != word && t.kind != symbol {
		return false
	}
	for _, w := range words {
		if strings.EqualFold(t.raw, w) {
			return true
		}
	}
	return false
}

// lexer splits SQL into tokens. It never fails: what is not closed ends with the input.
type lexer struct {
	mysql bool
	src   string
	at    int
}

func newLexer(d directory.Dialect, src string) *lexer {
	return &lexer{mysql: d == directory.MySQL, src: src}
}

// next is the next token, comments included; the last one is end.
func (l *lexer) next() token {
	for l.at < len(l.src) {
		from := l.at
		k := l.one()
		if k != end {
			return token{kind: k, at: from, raw: l.src[from:l.at]}
		}
	}
	return token{kind: end, at: l.at}
}

// one passes one token; end where it was only space.
func (l *lexer) one() kind {
	rest := l.src[l.at:]
	switch c := rest[0]; {
	case c <= ' ' || strings.HasPrefix(rest, "\ufeff"):
		l.at++
		if c > ' ' {
			l.at += len("\ufeff") - 1
		}
		return end
	case l.mysql && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")):
		// What such a comment of MySQL or MariaDB holds is executed, with a number before it by some versions only.
		l.at += strings.IndexByte(rest, '!') + 1
		l.pass(func(c byte) bool { return '0' <= c && c <= '9' })
		return end
	case l.mysql && strings.HasPrefix(rest, "*/"):
		l.at += 2
		return end
	case strings.HasPrefix(rest, "/*"):
		l.blockComment()
		return comment
	case c == '#' && l.mysql, strings.HasPrefix(rest, "--") && (!l.mysql || len(rest) == 2 || rest[2] <= ' ' || strings.HasPrefix(rest[2:], "atlas:")):
		l.at += lineEnd(rest)
		return comment
	case c == '\'':
		l.quote('\'', l.mysql)
		return text
	case c == '"' && l.mysql:
		l.quote('"', true)
		return text
	case c == '"', c == '`' && l.mysql:
		l.quote(c, false)
		return quoted
	case c == '$' && !l.mysql && l.dollarQuote():
		return text
	case (c == 'E' || c == 'e') && !l.mysql && len(rest) > 1 && rest[1] == '\'':
		l.at++
		l.quote('\'', true)
		return text
	case inWord(c):
		l.pass(inWord)
		return word
	default:
		l.at++
		return symbol
	}
}

// lineEnd is the length of a line, without what ends it.
func lineEnd(s string) int {
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	return len(strings.TrimSuffix(s, "\r"))
}

// inWord tells whether a byte can be part of a name or number. Those of other alphabets are.
func inWord(c byte) bool {
	return c == '_' || c == '$' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

func (l *lexer) pass(while func(byte) bool) {
	for l.at < len(l.src) && while(l.src[l.at]) {
		l.at++
	}
}

// quote passes what is in quotes. A quote that is doubled goes on as a second string in one token.
func (l *lexer) quote(q byte, escapes bool) {
	for l.at++; l.at < len(l.src); l.at++ {
		switch c := l.src[l.at]; {
		case c == '\\' && escapes:
			l.at++
		case c != q:
		case l.at+1 < len(l.src) && l.src[l.at+1] == q:
			l.at++
		default:
			l.at++
			return
		}
	}
	l.at = len(l.src) // an escape may have led past it
}

// dollarQuote passes a string between dollar signs, with or without a tag, if there is one.
func (l *lexer) dollarQuote() bool {
	rest := l.src[l.at:]
	n := 1
	for n < len(rest) && rest[n] != '$' && inWord(rest[n]) && (n > 1 || rest[n] < '0' || rest[n] > '9') {
		n++
	}
	if n == len(rest) || rest[n] != '$' {
		return false
	}
	tag := rest[:n+1]
	if i := strings.Index(rest[len(tag):], tag); i >= 0 {
		l.at += i + 2*len(tag)
	} else {
		l.at = len(l.src)
	}
	return true
}

// blockComment passes a comment, which in PostgreSQL can hold others.
func (l *lexer) blockComment() {
	depth := 0
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		switch {
		case strings.HasPrefix(rest, "/*") && (depth == 0 || !l.mysql):
			depth++
			l.at += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.at += 2
			if depth == 0 {
				return
			}
		default:
			l.at++
		}
	}
}
