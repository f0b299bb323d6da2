// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import "strings"

// adds reads what follows ADD in an ALTER TABLE.
func (l *linter) adds(a change) {
	isColumn := a.accept("COLUMN")
	certain := !a.accept("IF", "NOT", "EXISTS")
	switch {
	case a.at("("): // several columns, in MySQL
		inner := a.group()
		for _, part := range inner.list() {
			each := a
			each.cursor = &part
			if part.atConstraint() {
				l.addsConstraint(each)
			} else {
				l.addsColumn(each, certain)
			}
		}
	case !isColumn && a.atConstraint():
		l.addsConstraint(a)
	case a.mysql && (a.at("PARTITION") || a.at("SYSTEM", "VERSIONING")):
	default:
		l.addsColumn(a, certain)
	}
}

// addsColumn reads the definition of a new column.
func (l *linter) addsColumn(a change, certain bool) {
	l.named("NM103", a.cursor)
	d := a.column()
	o := object{"column", a.table, d.name.name}
	l.created.add(o, certain)
	l.comesBack(o)
	l.inlineReference(d)
	if a.fresh {
		return
	}
	column := short(d.name.name)
	if (d.notNull || d.primary) && !d.filled {
		if a.mysql {
			l.report("MY101", a.start, "Adds column %s, NOT NULL without a default: rows get 0 or an empty text, and the old release cannot insert any more; add a DEFAULT", column)
		} else {
			l.report("MF103", a.start, "Adds column %s, NOT NULL without a default: fails if table %s has rows, and the old release cannot insert any more; add a DEFAULT", column, a.table)
		}
	}
	if !a.mysql {
		l.costs(a, d)
	}
}

// costs is about what PostgreSQL does for a new column while nobody can use the table.
func (l *linter) costs(a change, d definition) {
	column := short(d.name.name)
	if d.volatile {
		l.report("PG302", a.start, "Adds column %s with a value of its own for each row, so all of table %s is written anew under a lock: add it without, and fill it in batches",
			column, a.table)
	}
	if d.primary {
		l.report("PG104", a.start, "Adds a primary key, whose index is built while nobody can use table %s: build it with CREATE UNIQUE INDEX CONCURRENTLY, then ADD PRIMARY KEY USING INDEX", a.table)
	}
	if d.unique {
		l.report("PG105", a.start, "Adds a unique constraint, whose index is built while nobody can use table %s: build it with CREATE UNIQUE INDEX CONCURRENTLY, then ADD UNIQUE USING INDEX", a.table)
	}
	if d.check {
		l.report("PG305", a.start, "Adds column %s with a CHECK, for which all of table %s is read under a lock: add the CHECK as a constraint NOT VALID, and VALIDATE it later", column, a.table)
	}
	if d.refers && d.filled {
		l.report("DU311", a.start, "Adds column %s with a default and REFERENCES, for which table %s is read under a lock: add the foreign key NOT VALID, and VALIDATE it later", column, a.table)
	}
}

// addsConstraint reads a new constraint, or index of MySQL.
func (l *linter) addsConstraint(a change) {
	kind, symbol := l.constraintNamed(a.cursor)
	own := object{"constraint", a.table, symbol.name}
	l.created[own] = true
	notValid := a.has("NOT", "VALID")
	if notValid {
		l.unvalidated[own] = true
	}
	if kind == "CHECK" {
		l.guards(a)
	}
	switch {
	case a.fresh, notValid, a.has("USING", "INDEX"):
	case a.mysql:
		l.addsOnMySQL(a, kind)
	default:
		l.addsOnPostgres(a, kind)
	}
}

// guards notes the column that a CHECK keeps from being NULL.
func (l *linter) guards(a change) {
	rest := *a.cursor
	inside := rest.group()
	if n := inside.name(); inside.at("IS", "NOT", "NULL") {
		l.created[object{"filled", a.table, n.name}] = true
	}
}

func (l *linter) addsOnPostgres(a change, kind string) {
	switch kind {
	case "PRIMARY":
		l.report("PG104", a.start, "Adds a primary key, whose index is built while nobody can use table %s: build it with CREATE UNIQUE INDEX CONCURRENTLY, then ADD PRIMARY KEY USING INDEX", a.table)
	case "UNIQUE":
		columns := a.skipToGroup()
		l.unique(a.table, &columns, a.start)
		fallthrough
	case "EXCLUDE":
		l.report("PG105", a.start, "Adds a constraint, whose index is built while nobody can use table %s: for UNIQUE, build it with CREATE UNIQUE INDEX CONCURRENTLY, then ADD UNIQUE USING INDEX", a.table)
	case "FOREIGN":
		l.report("DU311", a.start, "Adds a foreign key, for which table %s is read while nobody can write to both tables: add it NOT VALID, and VALIDATE it in a later file", a.table)
	case "CHECK":
		l.report("PG305", a.start, "Adds a CHECK, for which all of table %s is read while nobody can use it: add it NOT VALID, and VALIDATE it in a later file", a.table)
	case "NOT":
		a.accept("NULL")
		l.notNull(a, a.name().name)
	}
}

func (l *linter) addsOnMySQL(a change, kind string) {
	switch kind {
	case "PRIMARY", "UNIQUE":
		columns := a.skipToGroup()
		l.unique(a.table, &columns, a.start)
	case "FULLTEXT", "SPATIAL":
		l.report("DU322", a.start, "A %s index on table %s is built under a lock that blocks writes: build it when nobody writes", kind, a.table)
	case "FOREIGN", "CHECK":
		if !a.careful {
			l.report("DU313", a.start, "Adds a %s constraint, for which table %s is copied while nobody can write to it: ask for ALGORITHM=INPLACE to be refused instead, or do it when nobody writes",
				kind, a.table)
		}
	}
}

// drops reads what follows DROP in an ALTER TABLE.
func (l *linter) drops(a change) {
	isColumn := a.accept("COLUMN")
	switch {
	case isColumn:
		l.dropsColumn(a)
	case a.accept("CONSTRAINT"), a.mysql && a.accept("FOREIGN", "KEY"), a.mysql && a.accept("CHECK"):
		a.accept("IF", "EXISTS")
		n := a.name()
		if !a.fresh && !l.created.known("constraint", a.table, n.name) {
			l.report("CD101", a.start, "Drops constraint %s of table %s: nothing keeps rows apart from what it forbade any more; make sure that the app does", n, a.table)
		}
	case a.mysql && a.accept("PRIMARY", "KEY"):
		if !a.fresh && !a.careful {
			l.report("DU322", a.start, "Drops the primary key, for which table %s is copied while nobody can write to it: make it one ALTER with ADD PRIMARY KEY", a.table)
		}
	case a.mysql && a.accept("PARTITION"):
		if !l.created[object{"table", a.table, ""}] {
			l.report("DS102", a.start, "Drops partitions of table %s with their rows: keep a backup, or do it outside of migrations", a.table)
		}
	case a.mysql && (a.peek().is("INDEX", "KEY") || a.at("SYSTEM", "VERSIONING") || a.at("PERIOD", "FOR")):
	default:
		l.dropsColumn(a)
	}
}

func (l *linter) dropsColumn(a change) {
	a.accept("IF", "EXISTS")
	n := a.name()
	if l.created[object{"table", a.table, ""}] || l.created[object{"column", a.table, n.name}] {
		return
	}
	l.report("DS103", a.start, "Drops column %s of table %s with what is in it: stop using it in one release, and drop it in a later one", n, a.table)
}

// alterColumn reads what follows ALTER COLUMN.
func (l *linter) alterColumn(a change) {
	n := a.name()
	if a.fresh || l.created.known("column", a.table, n.name) {
		return
	}
	switch {
	case a.accept("SET", "NOT", "NULL"):
		l.notNull(a, n.name)
	case a.accept("SET", "DATA", "TYPE"), a.accept("TYPE"):
		cheap := a.peek().is("text", "varchar", "numeric", "decimal") || a.at("character", "varying")
		if cheap && !a.has("USING") {
			l.report("DU302", a.start, "Changes the type of column %s: unless it only grows, as varchar to text, table %s is written anew while nobody can use it", n, a.table)
			return
		}
		l.report("PG301", a.start, "Changes the type of column %s, so table %s is written anew while nobody can use it: add a new column, and fill it in batches", n, a.table)
	case a.accept("SET", "EXPRESSION"):
		l.report("PG301", a.start, "Changes the expression of column %s, so table %s is written anew while nobody can use it: add a new column", n, a.table)
	}
}

// notNull is about a column that may hold NULL, and must not any more.
func (l *linter) notNull(a change, column string) {
	if l.created.known("column", a.table, column) || l.created.known("filled", a.table, column) {
		return
	}
	hint := "fill the column before"
	if !a.mysql {
		hint = "add CHECK (... IS NOT NULL) NOT VALID before, and validate it, so that the table is not read under a lock either"
	}
	l.report("MF104", a.start, "Makes column %s NOT NULL: fails if a row of table %s has NULL there; %s", short(column), a.table, hint)
}

// redefines reads MODIFY and CHANGE of MySQL. The latter says the old name too.
func (l *linter) redefines(a change, old string) {
	named := *a.cursor
	d := a.column()
	column := d.name.name
	if old != "" && old != column {
		l.named("NM103", &named)
		l.renamesColumn(a, old, column)
		column = old
	}
	if a.fresh || l.created.known("column", a.table, column) {
		return
	}
	if d.notNull {
		l.notNull(a, column)
	}
	if !a.careful {
		l.report("DU301", a.start, "Defines column %s anew: if its type changes, table %s is copied while nobody can write to it; ask for ALGORITHM=INPLACE, LOCK=NONE to be refused instead",
			short(column), a.table)
	}
}

// renames reads what follows RENAME in an ALTER TABLE.
func (l *linter) renames(a change) {
	isTable := a.accept("TO") || a.mysql && (a.accept("AS") || a.accept("="))
	switch {
	case isTable, a.mysql && !a.peek().is("COLUMN", "INDEX", "KEY"):
		l.named("NM102", a.cursor)
		to := a.name()
		if to.schema == "" {
			to.schema = a.table.schema
		}
		l.renamesTable(a.table, to, a.start)
	case a.accept("CONSTRAINT"):
	case a.mysql && (a.accept("INDEX") || a.accept("KEY")):
		a.name()
		a.accept("TO")
		l.named("NM104", a.cursor)
	default:
		a.accept("COLUMN")
		a.accept("IF", "EXISTS")
		old := a.name()
		a.accept("TO")
		l.named("NM103", a.cursor)
		l.renamesColumn(a, old.name, a.name().name)
	}
}

func (l *linter) renamesColumn(a change, old, column string) {
	before := object{"column", a.table, old}
	if a.fresh || l.created.known("column", a.table, old) {
		l.created[object{"column", a.table, column}] = l.created[before]
		return
	}
	l.renamed[before] = l.report("BC102", a.start, "Renames column %s of table %s: the pods of the old release still ask for it; add a new column, write to both, and drop the old one later",
		short(old), a.table)
}

// renamesTable is about a table with a new name; which is empty where it moves to another schema.
func (l *linter) renamesTable(old, table name, at int) {
	before := object{"table", old, ""}
	if certain, ok := l.created[before]; ok {
		delete(l.created, before)
		l.created[object{"table", table, ""}] = certain
		return
	}
	l.renamed[before] = l.report("BC101", at, "Renames or moves table %s: the pods of the old release still ask for it; leave a view under the old name", old)
}

// rename reads RENAME TABLE of MySQL.
func (l *linter) rename(c *cursor) {
	start := c.take().at
	if !c.accept("TABLE") && !c.accept("TABLES") {
		return
	}
	c.accept("IF", "EXISTS")
	for _, part := range c.list() {
		old := part.name()
		part.accept("TO")
		l.named("NM102", &part)
		l.renamesTable(old, part.name(), start)
	}
}

// validates reads VALIDATE CONSTRAINT.
func (l *linter) validates(a change) {
	a.accept("VALIDATE", "CONSTRAINT")
	n := a.name()
	if l.transaction && l.unvalidated[object{"constraint", a.table, n.name}] {
		l.report("DU312", a.start, "Validates constraint %s in the transaction that added it, whose locks block table %s meanwhile: validate it in a later file", n, a.table)
	}
}

// rebuilds looks for other actions that write a table anew.
func (l *linter) rebuilds(a change) {
	if a.mysql && a.at("TRUNCATE", "PARTITION") && !l.created[object{"table", a.table, ""}] {
		l.report("DU201", a.start, "Deletes all rows of partitions of table %s: say which rows with DELETE ... WHERE, or do it outside of migrations", a.table)
		return
	}
	anew := a.at("SET", "LOGGED") || a.at("SET", "UNLOGGED") || a.at("SET", "TABLESPACE") || a.at("SET", "ACCESS", "METHOD")
	if a.mysql {
		anew = a.at("CONVERT", "TO") || a.at("FORCE") || a.at("ENGINE") || a.at("ORDER", "BY") || a.at("ROW_FORMAT")
	}
	if anew && !a.fresh && !a.careful {
		l.report("DU322", a.start, "%s writes table %s anew, locked meanwhile: do it when nobody uses it", strings.ToUpper(a.peek().raw), a.table)
	}
}
