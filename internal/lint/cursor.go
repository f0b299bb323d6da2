// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// cursor reads the tokens of a statement, or of a part of one.
type cursor struct {
	tokens []token // without comments
	mysql  bool
}

// read makes a cursor over a statement. What is after its end, as in a MySQL file with another delimiter, is read too.
func read(d directory.Dialect, sql string) cursor {
	c := cursor{mysql: d == directory.MySQL}
	l := newLexer(d, sql)
	for t := l.next(); t.kind != end; t = l.next() {
		if t.kind != comment && !t.is(";") {
			c.tokens = append(c.tokens, t)
		}
	}
	return c
}

// peek is the next token, or one of kind end.
func (c *cursor) peek() token {
	if len(c.tokens) == 0 {
		return token{}
	}
	return c.tokens[0]
}

// take passes a token.
func (c *cursor) take() token {
	t := c.peek()
	if len(c.tokens) > 0 {
		c.tokens = c.tokens[1:]
	}
	return t
}

// at tells whether the next tokens are these words.
func (c *cursor) at(words ...string) bool {
	if len(c.tokens) < len(words) {
		return false
	}
	for i, w := range words {
		if !c.tokens[i].is(w) {
			return false
		}
	}
	return true
}

// accept passes these words, where all of them come next.
func (c *cursor) accept(words ...string) bool {
	if !c.at(words...) {
		return false
	}
	c.tokens = c.tokens[len(words):]
	return true
}

// acceptAny passes words for as long as the next one is among them.
func (c *cursor) acceptAny(words ...string) {
	for c.peek().is(words...) {
		c.take()
	}
}

// skip passes one token, or all of what is in parentheses.
func (c *cursor) skip() {
	if c.peek().is("(") {
		c.group()
		return
	}
	c.take()
}

// group passes parentheses, and is a cursor over what is in them; empty where none come next.
func (c *cursor) group() cursor {
	inner := cursor{mysql: c.mysql}
	if !c.peek().is("(") {
		return inner
	}
	depth := 0
	for i, t := range c.tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
		if depth == 0 {
			inner.tokens, c.tokens = c.tokens[1:i], c.tokens[i+1:]
			return inner
		}
	}
	inner.tokens, c.tokens = c.tokens[1:], nil
	return inner
}

// skipToGroup passes everything up to parentheses, and these.
func (c *cursor) skipToGroup() cursor {
	for len(c.tokens) > 0 && !c.at("(") {
		c.take()
	}
	return c.group()
}

// list splits what is left at the commas that are in no parentheses.
func (c *cursor) list() []cursor {
	var parts []cursor
	depth, from := 0, 0
	for i, t := range c.tokens {
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case t.is(",") && depth == 0:
			parts = append(parts, cursor{tokens: c.tokens[from:i], mysql: c.mysql})
			from = i + 1
		}
	}
	return append(parts, cursor{tokens: c.tokens[from:], mysql: c.mysql})
}

// has tells whether these words come next to one another somewhere in what is left, outside parentheses.
func (c *cursor) has(words ...string) bool {
	rest := *c
	for len(rest.tokens) > 0 {
		if rest.at(words...) {
			return true
		}
		rest.skip()
	}
	return false
}

// name is what something is called, with its schema where that is said. It can be compared: what the dialect does not tell apart is equal.
type name struct{ schema, name string }

// String is how messages show a name.
func (n name) String() string {
	if n.schema == "" {
		return short(n.name)
	}
	return short(n.schema) + "." + short(n.name)
}

// short cuts a name, so that messages stay readable: it could be anything that stands in quotes.
func short(s string) string {
	const most = 64
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return clip(s, most)
}

// clip cuts a text to so many characters.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// atConstraint tells whether a constraint comes next in a table, or an index of MySQL, and not a column.
func (c *cursor) atConstraint() bool {
	if c.mysql {
		return c.peek().is("CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "INDEX", "KEY", "FULLTEXT", "SPATIAL", "LIKE") || c.at("PERIOD", "FOR")
	}
	return c.peek().is("CONSTRAINT", "PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "LIKE") || c.at("EXCLUDE", "USING") || c.at("EXCLUDE", "(")
}

// skipTo passes everything up to one of these words, and the word itself.
func (c *cursor) skipTo(words ...string) token {
	for len(c.tokens) > 0 && !c.peek().is(words...) {
		c.skip()
	}
	return c.take()
}

// name reads a name. Of three parts, as of a column, the last two count.
func (c *cursor) name() name {
	var n name
	for {
		t := c.peek()
		if t.kind != word && t.kind != quoted {
			return n
		}
		c.take()
		n.schema, n.name = n.name, c.fold(t)
		if !c.accept(".") {
			break
		}
	}
	if n.schema == "public" && !c.mysql {
		n.schema = "" // where tables without a schema are, as good as always
	}
	return n
}

// fold is the name that a token stands for, so that it can be compared. MySQL does not tell apart the case of columns, and often not that of tables.
func (c *cursor) fold(t token) string {
	if t.kind == quoted && !c.mysql {
		return unquote(t)
	}
	return strings.ToLower(unquote(t))
}

// written is the name that comes next, without its schema, as the database will have it.
func (c *cursor) written() string {
	rest := *c
	last := rest.take()
	for rest.accept(".") {
		last = rest.take()
	}
	if last.kind == word && !c.mysql {
		return strings.ToLower(last.raw)
	}
	return unquote(last)
}

// unquote is a name without its quotes.
func unquote(t token) string {
	if t.kind != quoted {
		return t.raw
	}
	q := t.raw[:1]
	return strings.ReplaceAll(strings.TrimSuffix(t.raw[1:], q), q+q, q)
}

// names are those of columns in parentheses, or other lists.
func (c *cursor) names() []name {
	var names []name
	for _, part := range c.list() {
		if n := part.name(); n.name != "" {
			names = append(names, n)
		}
	}
	return names
}

// definition is a column of CREATE TABLE or ALTER TABLE.
type definition struct {
	name                                          name
	at                                            int
	typ                                           []token
	notNull, null, primary, unique, check, refers bool
	filled                                        bool // rows get a value, other than NULL, without being told one
	volatile                                      bool // of which each row gets another one
}

// columnWords begin what follows the type of a column.
var columnWords = []string{"NOT", "NULL", "DEFAULT", "PRIMARY", "UNIQUE", "REFERENCES", "CHECK", "CONSTRAINT", "GENERATED", "AS", "COLLATE", "COMMENT", "AUTO_INCREMENT",
	"USING", "ON", "KEY", "FIRST", "AFTER", "INVISIBLE", "STORAGE", "COMPRESSION", "CHARACTER", "CHARSET"}

// column reads the definition of a column.
func (c *cursor) column() definition {
	d := definition{at: c.peek().at, name: c.name()}
	for len(c.tokens) > 0 && (len(d.typ) == 0 || !c.peek().is(columnWords...)) {
		d.typ = append(d.typ, c.peek())
		c.skip()
	}
	if len(d.typ) > 0 && d.typ[0].is("serial", "bigserial", "smallserial", "serial2", "serial4", "serial8") {
		d.filled, d.volatile = true, true
	}
	for len(c.tokens) > 0 {
		c.constraint(&d)
	}
	return d
}

// constraint reads one of the words that follow a column's type, with what belongs to it.
func (c *cursor) constraint(d *definition) {
	switch {
	case c.accept("NOT", "NULL"):
		d.notNull = true
	case c.accept("NULL"):
		d.null = true
	case c.accept("ON"): // UPDATE CURRENT_TIMESTAMP, DELETE SET NULL, DELETE SET DEFAULT
		c.take()
		c.acceptAny("SET", "NULL", "DEFAULT")
	case c.accept("DEFAULT"):
		d.filled = !c.at("NULL")
		c.expression(d)
	case c.accept("GENERATED"), c.at("AS"):
		c.generated(d)
	case c.accept("AUTO_INCREMENT"):
		d.filled = true
	case c.accept("PRIMARY"):
		d.primary = true
	case c.accept("UNIQUE"):
		d.unique = true
	case c.accept("CHECK"):
		d.check = true
		c.skip()
	case c.accept("REFERENCES"):
		d.refers = true
		c.name()
	default:
		c.skip()
	}
}

// volatileFunctions are the usual ones whose result differs from row to row.
var volatileFunctions = []string{"random", "gen_random_uuid", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "uuidv4", "uuidv7", "clock_timestamp",
	"timeofday", "nextval"}

// expression passes that of a default.
func (c *cursor) expression(d *definition) {
	for first := true; len(c.tokens) > 0 && (first || !c.peek().is(columnWords...)); first = false {
		before := c.tokens
		c.skip()
		passed := before[:len(before)-len(c.tokens)]
		if slices.ContainsFunc(passed, func(t token) bool { return t.is(volatileFunctions...) }) {
			d.volatile = true
		}
	}
}

// generated reads what a column's value is made by: an identity, or an expression that is stored or not.
func (c *cursor) generated(d *definition) {
	d.filled = true
	c.acceptAny("GENERATED", "ALWAYS", "BY", "DEFAULT", "AS")
	if c.accept("IDENTITY") {
		d.volatile = true
	}
	c.skip()
	if c.accept("STORED") || c.accept("PERSISTENT") {
		d.volatile = true
	}
}
