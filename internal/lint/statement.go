// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"slices"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// verbs are the words that a statement begins with where a rule may be about it.
var verbs = map[string]func(*linter, *cursor){
	"CREATE": (*linter).create, "ALTER": (*linter).alter, "DROP": (*linter).drop, "RENAME": (*linter).rename,
	"TRUNCATE": (*linter).truncate, "DELETE": (*linter).remove, "UPDATE": (*linter).update,
	"LOCK": (*linter).lock, "FLUSH": (*linter).flush, "SET": (*linter).set, "USE": (*linter).use, "SELECT": (*linter).selects,
	"BEGIN": (*linter).control, "START": (*linter).control, "COMMIT": (*linter).control, "END": (*linter).control, "ABORT": (*linter).control,
	"PREPARE": (*linter).control, "ROLLBACK": (*linter).control, "XA": (*linter).control, "COPY": (*linter).copies, "LOAD": (*linter).copies,
	"VACUUM": (*linter).maintain, "CLUSTER": (*linter).maintain, "REINDEX": (*linter).maintain, "REFRESH": (*linter).maintain, "OPTIMIZE": (*linter).maintain,
}

// look reads a statement by its first word. Those that begin with another one are not even split: most of the bytes of migrations are rows.
func (l *linter) look(sql string) {
	lex := newLexer(l.Dialect, sql)
	first := lex.next()
	for first.kind == comment {
		first = lex.next()
	}
	if first.kind != word {
		return
	}
	reader, ok := verbs[strings.ToUpper(first.raw)]
	if !ok || first.is("SELECT") && !strings.Contains(sql, "set_config") {
		return
	}
	c := read(l.Dialect, sql)
	if !c.mysql {
		l.outsideTransaction(&c)
	}
	reader(l, &c)
}

// outsideTransaction is about statements that PostgreSQL refuses in a transaction.
func (l *linter) outsideTransaction(c *cursor) {
	if !l.transaction {
		return
	}
	const top = "put '-- atlas:txmode none' and an empty line at the top of a file of its own"
	first := c.peek()
	switch {
	case first.is("CREATE", "DROP", "ALTER", "REINDEX") && slices.ContainsFunc(c.tokens, func(t token) bool { return t.is("CONCURRENTLY") }):
		l.report("PG103", first.at, "CONCURRENTLY cannot run in a transaction: %s", top)
	case c.at("VACUUM"), c.at("CREATE", "DATABASE"), c.at("DROP", "DATABASE"), c.at("CREATE", "TABLESPACE"), c.at("DROP", "TABLESPACE"), c.at("ALTER", "SYSTEM"),
		c.at("REINDEX", "DATABASE"), c.at("REINDEX", "SYSTEM"), c.at("CREATE", "SUBSCRIPTION"):
		l.report("DU403", first.at, "This %s cannot run in a transaction: %s", strings.ToUpper(first.raw), top)
	}
}

// create reads CREATE statements.
func (l *linter) create(c *cursor) {
	start := c.take().at
	c.accept("OR", "REPLACE")
	c.acceptAny("GLOBAL", "LOCAL", "TEMPORARY", "TEMP", "UNLOGGED", "FOREIGN", "RECURSIVE", "ONLINE", "OFFLINE")
	unique := c.accept("UNIQUE")
	slow := c.peek().is("FULLTEXT", "SPATIAL")
	c.acceptAny("FULLTEXT", "SPATIAL")
	switch {
	case c.accept("TABLE"):
		l.createTable(c)
	case c.accept("MATERIALIZED", "VIEW"):
		certain := !c.accept("IF", "NOT", "EXISTS")
		l.named("NM102", c)
		l.created.add(object{"table", c.name(), ""}, certain)
	case c.accept("VIEW"), c.mysql && c.peek().is("ALGORITHM", "DEFINER", "SQL") && c.skipTo("VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT").is("VIEW"):
		c.accept("IF", "NOT", "EXISTS")
		l.comesBack(object{"table", c.name(), ""})
	case c.accept("INDEX"):
		l.createIndex(c, start, unique, slow)
	case c.accept("SCHEMA"), c.mysql && c.accept("DATABASE"):
		certain := !c.accept("IF", "NOT", "EXISTS")
		if !c.at("AUTHORIZATION") {
			l.named("NM101", c)
			l.created.add(object{"schema", c.name(), ""}, certain)
		}
	}
}

// drop reads DROP statements.
func (l *linter) drop(c *cursor) {
	start := c.take().at
	if c.accept("TEMPORARY") {
		return
	}
	c.acceptAny("FOREIGN", "MATERIALIZED")
	what := c.take()
	kind := strings.ToUpper(what.raw)
	concurrently := c.accept("CONCURRENTLY")
	c.accept("IF", "EXISTS")
	switch kind {
	case "TABLE", "TABLES":
		for _, n := range c.names() {
			l.dropTable(n, start)
		}
	case "SCHEMA", "DATABASE":
		for _, n := range c.names() {
			if !l.created[object{"schema", n, ""}] {
				l.report("DS101", start, "Drops %s %s and all that is in it: keep a backup, and drop it when nothing uses it any more", strings.ToLower(kind), n)
			}
		}
	case "INDEX":
		l.dropIndex(c, start, concurrently)
	case "OWNED":
		l.report("DU204", start, "DROP OWNED drops whatever belongs to a role: drop by name what has to go")
	default:
		if cascades(c) {
			l.report("DU204", start, "DROP %s with CASCADE drops whatever depends on it, columns of tables too: drop by name what has to go", kind)
		}
	}
}

// cascades tells whether a statement ends with CASCADE.
func cascades(c *cursor) bool {
	return len(c.tokens) > 0 && c.tokens[len(c.tokens)-1].is("CASCADE")
}

func (l *linter) dropTable(n name, at int) {
	o := object{"table", n, ""}
	if !l.created[o] {
		l.report("DS102", at, "Drops table %s with its rows: stop using it in one release, and drop it in a later one, with a backup", n)
	}
	delete(l.created, o)
}

// dropIndex reads what follows DROP INDEX.
func (l *linter) dropIndex(c *cursor, at int, concurrently bool) {
	if c.mysql {
		c.name()
		if c.accept("ON") {
			l.copying(c, c.name(), at)
		}
		return
	}
	if concurrently {
		return
	}
	for _, n := range c.names() {
		if !l.created.known("index", n, "") {
			l.report("PG102", at, "Drops index %s under a lock that stops all use of its table: use DROP INDEX CONCURRENTLY in a file with txmode none", n)
		}
	}
}

// createIndex reads what follows CREATE INDEX.
func (l *linter) createIndex(c *cursor, at int, unique, slow bool) {
	concurrently := c.accept("CONCURRENTLY")
	unlessThere := c.accept("IF", "NOT", "EXISTS")
	var index name
	if !c.at("ON") {
		l.named("NM104", c)
		index = c.name()
	}
	c.skipTo("ON")
	only := c.accept("ONLY")
	table := c.name()
	index.schema = table.schema // an index is in the schema of its table, and says so only when it is dropped
	if l.created.known("table", table, "") {
		l.created[object{"index", index, ""}] = true
		return
	}
	columns := c.skipToGroup()
	if unique {
		l.unique(table, &columns, at)
	}
	switch {
	case c.mysql && slow:
		l.report("DU322", at, "A FULLTEXT or SPATIAL index on table %s is built under a lock that blocks writes: build it when nobody writes", table)
	case c.mysql:
		l.copying(c, table, at)
	case concurrently && unlessThere:
		l.report("DU331", at, "IF NOT EXISTS passes over the invalid index that a failed CONCURRENTLY leaves: put DROP INDEX CONCURRENTLY IF EXISTS before, and leave it out here")
	case !concurrently && !only:
		l.report("PG101", at, "Builds an index on table %s under a lock that blocks writes: use CREATE INDEX CONCURRENTLY in a file with txmode none", table)
	}
}

// unique is about making the values of columns unique in a table that may have rows. Columns that are new have none yet.
func (l *linter) unique(table name, columns *cursor, at int) {
	var old []string
	for _, part := range columns.list() {
		n := part.name()
		switch {
		case n.name == "", part.at("(") && !part.mysql:
			old = append(old, "an expression")
		case !l.created.known("column", table, n.name):
			old = append(old, short(n.name))
		}
	}
	if len(old) > 0 {
		l.report("MF101", at, "Unique over %s in table %s: fails where rows have the same values, so remove those first", clip(strings.Join(old, ", "), 80), table)
	}
}

// truncate reads TRUNCATE.
func (l *linter) truncate(c *cursor) {
	start := c.take().at
	c.accept("TABLE")
	c.accept("ONLY")
	for _, n := range c.names() {
		if !l.created[object{"table", n, ""}] {
			l.report("DU201", start, "Deletes all rows of table %s: say which rows with DELETE ... WHERE, or do it outside of migrations", n)
		}
	}
}

// remove reads DELETE.
func (l *linter) remove(c *cursor) {
	start := c.take().at
	c.acceptAny("LOW_PRIORITY", "QUICK", "IGNORE")
	if !c.accept("FROM") {
		return // from several tables, by a join
	}
	c.accept("ONLY")
	n := c.name()
	if l.created[object{"table", n, ""}] || c.has("WHERE") || c.has("LIMIT") {
		return
	}
	l.report("DU202", start, "Deletes all rows of table %s: add a WHERE that says which rows", n)
}

// update reads UPDATE.
func (l *linter) update(c *cursor) {
	start := c.take().at
	c.acceptAny("LOW_PRIORITY", "IGNORE", "ONLY")
	n := c.name()
	if l.created.known("table", n, "") {
		return
	}
	l.fills(*c, n)
	if !c.has("WHERE") && !c.has("LIMIT") {
		l.report("DU203", start, "Updates all rows of table %s and locks them until the transaction ends: add a WHERE, and go in batches", n)
	}
}

// fills notes which columns an UPDATE gives a value where they have none.
func (l *linter) fills(c cursor, table name) {
	for len(c.tokens) > 0 {
		if n := c.name(); n.name == "" {
			c.take()
			continue
		} else if c.at("IS", "NULL") {
			l.created[object{"filled", table, n.name}] = true
		}
	}
}

// locksHistory is what MySQL would do with such a lock.
const locksHistory = "%s is refused by the runner, which it would keep from the table of its history: leave the locks to the statements"

// lock reads LOCK TABLE and LOCK TABLES.
func (l *linter) lock(c *cursor) {
	start := c.take().at
	if c.mysql {
		if c.peek().is("TABLE", "TABLES") {
			l.report("DU402", start, locksHistory, "LOCK TABLES")
		}
		return
	}
	for _, weak := range []string{"ACCESS", "ROW"} {
		if c.has("IN", weak, "SHARE", "MODE") {
			return
		}
	}
	if c.has("IN", "ROW", "EXCLUSIVE", "MODE") {
		return
	}
	l.report("DU321", start, "LOCK TABLE shuts out the app until the transaction ends: leave the locks to the statements, or take a weaker mode")
}

// flush reads FLUSH TABLES WITH READ LOCK.
func (l *linter) flush(c *cursor) {
	if c.mysql && c.has("READ", "LOCK") {
		l.report("DU402", c.peek().at, locksHistory, "FLUSH TABLES WITH READ LOCK")
	}
}

// set reads SET.
func (l *linter) set(c *cursor) {
	start := c.take().at
	if c.mysql {
		if c.has("AUTOCOMMIT") {
			l.report("DU402", start, "SET autocommit is refused by the runner, which itself begins and commits transactions: leave it out")
		}
		return
	}
	c.accept("SESSION")
	if local := c.accept("LOCAL"); !local && (c.at("SEARCH_PATH") || c.at("SCHEMA")) {
		l.report("DU401", start, "SET search_path sends the rest of the file to another schema, and ends with it: write the schema before each name")
	}
}

// selects reads SELECT set_config('search_path', ...), which dumps begin with.
func (l *linter) selects(c *cursor) {
	for i, t := range c.tokens {
		if t.is("set_config") && i+2 < len(c.tokens) && strings.EqualFold(c.tokens[i+2].raw, "'search_path'") {
			l.report("DU401", t.at, "set_config of search_path sends the rest of the file to another schema, and ends with it: write the schema before each name")
		}
	}
}

// use reads USE.
func (l *linter) use(c *cursor) {
	if c.mysql {
		l.report("DU401", c.peek().at, "USE sends the rest of the file to another database, and ends with it: write the database before each name")
	}
}

// control reads the statements that begin and end transactions.
func (l *linter) control(c *cursor) {
	first := c.take()
	switch {
	case first.is("START") && !c.at("TRANSACTION"), first.is("PREPARE") && !c.at("TRANSACTION"), first.is("END", "ABORT") && c.mysql,
		first.is("XA") && !c.mysql, c.at("NOT", "ATOMIC"): // a block of MariaDB
		return
	case first.is("ROLLBACK"):
		c.acceptAny("WORK", "TRANSACTION")
		if c.at("TO") {
			return // to a savepoint
		}
	}
	l.report("DU402", first.at, "%s is refused by the runner, which itself begins and commits transactions: leave it out; for a file without one, use txmode none",
		strings.ToUpper(first.raw))
}

// copies reads COPY and LOAD DATA.
func (l *linter) copies(c *cursor) {
	first := c.peek()
	if !c.mysql && first.is("COPY") && c.has("FROM", "STDIN") || c.mysql && c.at("LOAD", "DATA") && c.has("LOCAL") {
		l.report("DU402", first.at, "%s from a client is refused by the runner: there is none that could send the data; use INSERT", strings.ToUpper(first.raw))
	}
}

// maintain reads statements that write a table anew, or its indexes.
func (l *linter) maintain(c *cursor) {
	first := c.take()
	verb := strings.ToUpper(first.raw)
	options := c.group()
	switch {
	case verb == "VACUUM" && !options.has("FULL") && !c.at("FULL"),
		(verb == "REINDEX" || verb == "REFRESH") && (c.has("CONCURRENTLY") || options.has("CONCURRENTLY")),
		verb == "REFRESH" && c.accept("MATERIALIZED", "VIEW") && l.created.known("table", c.name(), ""),
		c.mysql != (verb == "OPTIMIZE"):
		return
	}
	l.report("DU322", first.at, "%s locks what it works on until it has ended: do it outside of migrations, or with CONCURRENTLY where there is such a form", verb)
}

// named looks at the name that comes next, which is given to something.
func (l *linter) named(code string, c *cursor) {
	at, given := c.peek().at, c.written()
	kind := map[string]string{"NM101": "schema", "NM102": "table", "NM103": "column", "NM104": "index", "NM105": "foreign_key", "NM106": "check"}[code]
	p, ok := l.config.names[kind]
	if !ok {
		p, ok = l.config.names[""]
	}
	if !ok || given == "" || p.match.MatchString(given) {
		return
	}
	message := clip(p.message, 100)
	if message == "" {
		message = "it must match " + clip(p.match.String(), 80)
	}
	l.report(code, at, "The %s name %s breaks the naming policy: %s", strings.ReplaceAll(kind, "_", " "), short(given), message)
}

// comesBack withdraws the finding that something is missed by old pods.
func (l *linter) comesBack(o object) {
	if i, ok := l.renamed[o]; ok && i >= 0 {
		l.pass.findings[i] = v1alpha1.Finding{}
	}
}
