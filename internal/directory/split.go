// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"ariga.io/atlas/sql/migrate"
)

// Dialect is the kind of SQL that the statements of a directory are in.
type Dialect string

// The dialects.
const (
	Postgres Dialect = "postgres"
	// MySQL is also that of MariaDB.
	MySQL Dialect = "mysql"
)

// section is a part of a file, from one offset to another.
type section struct {
	start, end int
	// whole is set where it is one statement, whatever semicolons it has.
	whole bool
	// closed is set where its last statement must end with a semicolon.
	closed bool
}

// Statements splits a text that is no file, as the files of the dialect are split.
func (d Dialect) Statements(text string) ([]*migrate.Stmt, error) { return d.scan(text) }

// scan splits text into statements as Atlas's driver for the dialect does, but for two things. A comment at the end without a newline is no statement. And
// blocks of BEGIN and END, for whose end the scanner looks in vain to the end of the text, doubling its work with each one that is within another, are only
// looked for where there can be any: in PostgreSQL, only those of BEGIN ATOMIC are not in quotes.
func (d Dialect) scan(text string) ([]*migrate.Stmt, error) {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	begin, options := beginAtomic, migrate.ScannerOptions{MatchBeginAtomic: true, MatchDollarQuote: true, EscapedStringExt: true}
	if d == MySQL {
		begin, options = beginOfBlock, migrate.ScannerOptions{MatchBegin: true, BackslashEscapes: true, HashComments: true}
	}
	begins, ends := len(begin.FindAllStringIndex(text, -1)), len(endOfBlock.FindAllStringIndex(text, -1))
	if ends == 0 {
		options.MatchBegin, options.MatchBeginAtomic = false, false
	} else if begins > ends+maxOpenBlocks && !hasDelimiter(text) {
		return nil, errors.New("1:1: too many blocks that have a BEGIN and no END: set a delimiter for them with '-- atlas:delimiter'")
	}
	if loneQuote.MatchString(text) {
		return nil, errors.New("1:1: DELIMITER with nothing but a quote, which is none")
	}
	return (&migrate.Scanner{ScannerOptions: options}).Scan(text)
}

// maxOpenBlocks is how many blocks of a text may seem to have no end.
const maxOpenBlocks = 6

var (
	beginOfBlock = regexp.MustCompile(`(?i)\bBEGIN\s`)
	beginAtomic  = regexp.MustCompile(`(?i)\bBEGIN\s+ATOMIC\s`)
	endOfBlock   = regexp.MustCompile(`(?i)\bEND\b`)
	loneQuote    = regexp.MustCompile(`(?i)DELIMITER [\s\pZ\x{85}]*'[\s\pZ\x{85}]*(?:\n|$)`) // on which the scanner would panic
	blank        = regexp.MustCompile(`[^\n]`)
)

// split splits the sections of a file. Its errors begin with line and column.
func (d Dialect) split(text string, sections []section) ([]*migrate.Stmt, error) {
	var all []*migrate.Stmt
	for _, s := range sections {
		part, at := text[s.start:s.end], s.start
		if s.whole {
			all = append(all, one(part, at)...)
			continue
		}
		stmts, err := d.scan(part)
		if err != nil {
			// Once more, with all before it blank, to have the line in the file.
			if _, again := d.scan(blank.ReplaceAllString(text[:s.start], " ") + part); again != nil {
				err = again
			}
			return nil, err
		}
		if hasDelimiter(part) {
			at += strings.Index(part, "\n") + 1 // from which the scanner counts
		}
		for _, stmt := range stmts {
			stmt.Pos += at
		}
		if n := len(stmts); s.closed && n > 0 && !strings.HasSuffix(stmts[n-1].Text, ";") {
			return nil, lineError(text, stmts[n-1].Pos, "a statement without a semicolon at its end")
		}
		all = append(all, stmts...)
	}
	return all, nil
}

// one makes all of a text one statement, with the comments before it apart from it as the scanner has them. There is none in a text of comments.
func one(text string, at int) []*migrate.Stmt {
	stmt := &migrate.Stmt{Text: text}
	for {
		stmt.Text = strings.TrimLeftFunc(stmt.Text, unicode.IsSpace)
		end := -1
		switch {
		case strings.HasPrefix(stmt.Text, "--"):
			end = strings.Index(stmt.Text, "\n") + 1
		case strings.HasPrefix(stmt.Text, "/*"):
			if end = strings.Index(stmt.Text, "*/"); end >= 0 {
				end += len("*/")
			}
		}
		if end <= 0 {
			break
		}
		stmt.Comments = append(stmt.Comments, stmt.Text[:end])
		if stmt.Text = stmt.Text[end:]; strings.HasPrefix(stmt.Text, "\n") {
			stmt.Comments = nil // an empty line parts them from the statement
		}
	}
	stmt.Pos = at + len(text) - len(stmt.Text)
	if stmt.Text = strings.TrimSpace(stmt.Text); stmt.Text == "" {
		return nil
	}
	return []*migrate.Stmt{stmt}
}

// hasDelimiter tells whether the first line of a text sets the delimiter.
func hasDelimiter(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	m := directive.FindStringSubmatch(first)
	return m != nil && m[1] == "-- " && m[2] == "delimiter"
}

// lineError is an error that begins with line and column, as the scanner's do.
func lineError(text string, at int, message string) error {
	before := text[:at]
	return fmt.Errorf("%d:%d: %s", 1+strings.Count(before, "\n"), at-strings.LastIndex(before, "\n"), message)
}
