// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"regexp"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// unfit are the statements that cannot be executed from a file, with the reason.
type unfit struct {
	pattern *regexp.Regexp
	why     string
}

const ownTransactions = "the runner itself begins and commits a transaction for each file; for a file without one, use '-- atlas:txmode none'"

const unlocks = "it would give back the lock that keeps other runs out; leave it out"

var unfitIn = map[directory.Dialect][]unfit{
	directory.Postgres: {
		{regexp.MustCompile(`(?i)^(?:(?:BEGIN|START\s+TRANSACTION|COMMIT|END|ABORT|PREPARE\s+TRANSACTION)\b|` +
			`ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s*(?:;|$|AND\b))`), ownTransactions}, // but ROLLBACK TO a savepoint is fine
		{regexp.MustCompile(`(?is)^COPY\b[^;]*\bFROM\s+STDIN\b`), "there is no client that could send the data; use INSERT"},
		{regexp.MustCompile(`(?i)^(?:DISCARD\s+ALL|SELECT\s+pg_advisory_unlock_all)\b`), unlocks},
	},
	directory.MySQL: {
		{regexp.MustCompile(`(?i)^(?:BEGIN|START\s+TRANSACTION|COMMIT|XA|ROLLBACK(?:\s+WORK)?\s*(?:;|$|AND\b))`), ownTransactions},
		{regexp.MustCompile(`(?is)^SET\b.*\b(?:AUTOCOMMIT|COMPLETION_TYPE)\b`), ownTransactions},
		{regexp.MustCompile(`(?i)^(?:DO|SELECT)\s+RELEASE_ALL_LOCKS\b`), unlocks},
		{regexp.MustCompile(`(?i)^(?:LOCK\s+TABLES?|FLUSH\s+TABLES?\b.*\bREAD\s+LOCK)\b`), "it would keep the runner from the table of its history; leave it out"},
		{regexp.MustCompile(`(?is)^LOAD\s+DATA\b.*\bLOCAL\b`), "there is no client that could send the data; use INSERT"},
	},
}

// executable refuses statements that would break what the runner promises about every file, before the first one is executed.
func executable(f *directory.File, dialect directory.Dialect) error {
	for i, stmt := range f.Statements() {
		for _, text := range parts(stmt.Text, dialect) {
			if why := unfitness(text, dialect); why != "" {
				err := f.Errorf("%s cannot be executed from a file: %s", verb(text), why)
				err.Statement = int32(i + 1)
				return err
			}
		}
	}
	return nil
}

// parts are the statements of a text that a delimiter of the file's own has left together, which only PostgreSQL executes at once.
func parts(text string, dialect directory.Dialect) []string {
	if dialect != directory.Postgres || !strings.Contains(strings.TrimRight(text, "; \t\r\n"), ";") {
		return []string{text}
	}
	stmts, err := dialect.Statements(text)
	if err != nil {
		return []string{text} // the state of the transaction is looked at after it
	}
	var texts []string
	for _, stmt := range stmts {
		texts = append(texts, stmt.Text)
	}
	return texts
}

func unfitness(text string, dialect directory.Dialect) string {
	text = strings.TrimSpace(leadingComments.ReplaceAllString(text, ""))
	for _, u := range unfitIn[dialect] {
		if u.pattern.MatchString(text) {
			return u.why
		}
	}
	return ""
}

// procedural are statements of which a part may stay where they fail: what they call or hold can commit.
var procedural = regexp.MustCompile(`(?is)^(?:CALL|EXECUTE|IF|CASE|FOR|WHILE|LOOP|REPEAT|\w+\s*:)|^DO\b.*\bCOMMIT\b`)

var words = regexp.MustCompile(`^\s*([A-Za-z]+(?:\s+[A-Za-z_]+\b)?)`)

// verb is what may be logged of a statement: its first two words at most. The rest may hold data.
func verb(stmt string) string {
	m := words.FindStringSubmatch(stmt)
	if m == nil {
		return "statement"
	}
	return strings.ToUpper(strings.Join(strings.Fields(m[1]), " "))
}
