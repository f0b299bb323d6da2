// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// createTable reads what follows CREATE TABLE.
func (l *linter) createTable(c *cursor) {
	certain := !c.accept("IF", "NOT", "EXISTS")
	l.named("NM102", c)
	table := c.name()
	l.comesBack(object{"table", table, ""})
	l.created.add(object{"table", table, ""}, certain)
	if !c.at("(") {
		return
	}
	body := c.group()
	for _, part := range body.list() {
		if part.atConstraint() {
			l.constraintNamed(&part)
			continue
		}
		l.named("NM103", &part)
		d := part.column()
		l.created.add(object{"column", table, d.name.name}, certain)
		l.inlineReference(d)
	}
}

// inlineReference is about what MySQL reads and forgets.
func (l *linter) inlineReference(d definition) {
	if d.refers && l.Dialect == directory.MySQL {
		l.report("MY102", d.at, "REFERENCES at column %s has no effect in MySQL, and has one in MariaDB 10.5 and later: write a FOREIGN KEY constraint", short(d.name.name))
	}
}

// constraintNamed looks at the name of a constraint or index, and passes it with the words that say what it is. It returns the first of these, as PRIMARY,
// UNIQUE, FOREIGN or CHECK, and the name.
func (l *linter) constraintNamed(c *cursor) (string, name) {
	var symbol name
	named := *c
	hasSymbol := c.accept("CONSTRAINT") && !c.peek().is("PRIMARY", "UNIQUE", "FOREIGN", "CHECK")
	if hasSymbol {
		named = *c
		symbol = c.name()
	}
	kind := strings.ToUpper(c.take().raw)
	switch kind {
	case "UNIQUE", "FULLTEXT", "SPATIAL", "INDEX", "KEY":
		c.acceptAny("INDEX", "KEY")
		c.accept("IF", "NOT", "EXISTS")
	case "PRIMARY", "FOREIGN":
		c.accept("KEY")
		c.accept("IF", "NOT", "EXISTS")
	}
	if !hasSymbol {
		named = *c
		if c.peek().is("USING", "NULLS", "NOT", "(") || kind == "CHECK" || kind == "PRIMARY" {
			named = cursor{}
		} else {
			symbol = c.name() // of an index of MySQL
		}
	}
	code := map[string]string{"UNIQUE": "NM104", "FULLTEXT": "NM104", "SPATIAL": "NM104", "INDEX": "NM104", "KEY": "NM104", "FOREIGN": "NM105", "CHECK": "NM106"}[kind]
	if code != "" {
		l.named(code, &named)
	}
	return kind, symbol
}

// alter reads ALTER statements.
func (l *linter) alter(c *cursor) {
	start := c.take().at
	c.acceptAny("ONLINE", "IGNORE")
	switch {
	case c.accept("TABLE"), c.accept("FOREIGN", "TABLE"), c.accept("VIEW"), c.accept("MATERIALIZED", "VIEW"):
		l.alterTable(c)
	case c.accept("INDEX"):
		c.accept("IF", "EXISTS")
		c.name()
		if c.accept("RENAME", "TO") {
			l.named("NM104", c)
		}
	case c.accept("SCHEMA"):
		n := c.name()
		if c.accept("RENAME", "TO") {
			l.named("NM101", c)
			if !l.created.known("schema", n, "") {
				l.report("BC101", start, "Renames schema %s: the pods of the old release still ask for the old name; make a new schema and drop the old one later", n)
			}
		}
	}
}

// change is one action of an ALTER TABLE.
type change struct {
	table name
	start int
	// fresh tells that the table is new: there are no rows to lose or to look at, and no old pods that use it.
	fresh bool
	// careful tells that MySQL is asked to refuse the statement rather than to copy the table or to lock it.
	careful bool
	*cursor
}

// alterTable reads what follows ALTER TABLE.
func (l *linter) alterTable(c *cursor) {
	c.accept("IF", "EXISTS")
	c.accept("ONLY")
	table := c.name()
	c.accept("*")
	if c.mysql {
		c.acceptAny("WAIT", "NOWAIT")
	}
	fresh := l.created.known("table", table, "")
	careful := c.mysql && (setTo(c, "ALGORITHM", "INSTANT", "INPLACE", "NOCOPY") || setTo(c, "LOCK", "NONE"))
	if c.mysql {
		l.copying(c, table, c.peek().at)
	}
	for _, action := range c.list() {
		if len(action.tokens) > 0 {
			l.action(change{table, action.peek().at, fresh, careful, &action})
		}
	}
}

// setTo tells whether an option has one of these values.
func setTo(c *cursor, option string, values ...string) bool {
	for _, v := range values {
		if c.has(option, v) || c.has(option, "=", v) {
			return true
		}
	}
	return false
}

// copying is about options by which MySQL is told to copy a table, or to lock it.
func (l *linter) copying(c *cursor, table name, at int) {
	if !l.created.known("table", table, "") && (setTo(c, "ALGORITHM", "COPY") || setTo(c, "LOCK", "SHARED", "EXCLUSIVE")) {
		l.report("DU323", at, "ALGORITHM=COPY, or a LOCK that is SHARED or EXCLUSIVE, blocks writes to table %s: ask for ALGORITHM=INPLACE, LOCK=NONE", table)
	}
}

// action looks at one action of an ALTER TABLE.
func (l *linter) action(a change) {
	switch {
	case a.accept("ADD"):
		l.adds(a)
	case a.accept("DROP"):
		l.drops(a)
	case a.accept("ALTER"):
		a.accept("COLUMN")
		l.alterColumn(a)
	case a.mysql && a.accept("MODIFY"):
		a.accept("COLUMN")
		a.accept("IF", "EXISTS")
		l.redefines(a, "")
	case a.mysql && a.accept("CHANGE"):
		a.accept("COLUMN")
		a.accept("IF", "EXISTS")
		old := a.name()
		l.redefines(a, old.name)
	case a.accept("RENAME"):
		l.renames(a)
	case a.at("SET", "SCHEMA"):
		l.renamesTable(a.table, name{}, a.start)
	case a.at("VALIDATE", "CONSTRAINT"):
		l.validates(a)
	default:
		l.rebuilds(a)
	}
}
