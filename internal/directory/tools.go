// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

var (
	beginTransaction = regexp.MustCompile(`(?i)^(?:BEGIN|START\s+TRANSACTION)(?:\s+(?:WORK|TRANSACTION))?\s*;$`)
	endTransaction   = regexp.MustCompile(`(?i)^(?:COMMIT|END)(?:\s+(?:WORK|TRANSACTION))?\s*;?$`)
)

// withoutTransaction leaves out the transaction that all of a file of golang-migrate is in: the tool opens none by itself, and the runner does.
func withoutTransaction(stmts []*migrate.Stmt) []*migrate.Stmt {
	n := len(stmts)
	if n < 2 || !beginTransaction.MatchString(stmts[0].Text) || !endTransaction.MatchString(stmts[n-1].Text) {
		return stmts
	}
	return stmts[1 : n-1]
}

// gooseParser finds the sections of a file of goose that are executed on the way up.
type gooseParser struct {
	state    string // "" before Up, then one of the annotations
	from     int    // where the section began
	sections []section
	mode     v1alpha1.TxMode
}

// The annotations of goose that say where something begins or ends.
const (
	gooseUp    = "up"
	gooseDown  = "down"
	gooseBegin = "statementbegin"
	gooseEnd   = "statementend"
)

func gooseSections(text string, _ Dialect) ([]section, v1alpha1.TxMode, error) {
	p := &gooseParser{}
	at := 0
	for line := range strings.Lines(text) {
		start := at
		at += len(line)
		rest, comment := strings.CutPrefix(line, "--")
		name, annotation := strings.CutPrefix(strings.TrimSpace(rest), "+goose")
		switch {
		case comment && annotation:
			if err := p.annotation(strings.ToLower(strings.Join(strings.Fields(name), " ")), start, at); err != nil {
				return nil, "", lineError(text, start, err.Error())
			}
		case p.state == "" && !insignificant(line):
			return nil, "", lineError(text, start, "it stands before '-- +goose Up', where goose allows no statements")
		}
	}
	switch p.state {
	case "":
		return nil, "", errors.New("1:1: it has no line '-- +goose Up', without which goose would not execute it")
	case gooseBegin:
		return nil, "", lineError(text, p.from, "'-- +goose StatementBegin' without '-- +goose StatementEnd'")
	case gooseUp:
		p.close(len(text), false)
	}
	return p.sections, p.mode, nil
}

// annotation obeys the one that stands from start to end.
func (p *gooseParser) annotation(name string, start, end int) error {
	misplaced := false
	switch name {
	case gooseUp:
		misplaced = p.state != ""
		p.state, p.from = gooseUp, end
	case gooseDown:
		misplaced = p.state != gooseUp
		p.close(start, false)
		p.state = gooseDown
	case gooseBegin:
		switch p.state {
		case gooseUp:
			p.close(start, false)
			p.state, p.from = gooseBegin, end
		case gooseDown:
		default:
			misplaced = true
		}
	case gooseEnd:
		switch p.state {
		case gooseBegin:
			p.close(start, true)
			p.state, p.from = gooseUp, end
		case gooseDown:
		default:
			misplaced = true
		}
	case "no transaction":
		p.mode = v1alpha1.TxModeNone
	case "envsub off", "envsubst off":
	case "envsub on", "envsubst on":
		return errors.New("environment variables are not put into statements here: write what they stand for, or leave it to the app")
	default:
		return fmt.Errorf("'-- +goose %s' is not known: remove it if it is a comment", name)
	}
	if misplaced {
		return fmt.Errorf("'-- +goose %s' does not belong here: Up comes first, Down after it, and StatementBegin and StatementEnd come in pairs", name)
	}
	return nil
}

func (p *gooseParser) close(at int, whole bool) {
	p.sections = append(p.sections, section{start: p.from, end: at, whole: whole, closed: !whole})
}

// insignificant lines are empty, or comments.
func insignificant(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || strings.HasPrefix(line, "--")
}

var dbmateBlock = regexp.MustCompile(`^--\s*migrate:(up|down)(?:\s+(.*?))?\s*$`)

func dbmateSections(text string, _ Dialect) ([]section, v1alpha1.TxMode, error) {
	var (
		up   *section
		mode v1alpha1.TxMode
		at   int
	)
	for line := range strings.Lines(text) {
		start := at
		at += len(line)
		m := dbmateBlock.FindStringSubmatch(line)
		switch {
		case m == nil && up == nil && !insignificant(line):
			return nil, "", lineError(text, start, "it stands before '-- migrate:up', where dbmate allows no statements")
		case m == nil:
		case m[1] == "up" && up != nil:
			return nil, "", lineError(text, start, "a second '-- migrate:up': make it a file of its own")
		case m[1] == "down" && up == nil:
			return nil, "", lineError(text, start, "'-- migrate:down' before '-- migrate:up'")
		case m[1] == "down":
			up.end = start
			return []section{*up}, mode, nil
		default:
			up = &section{start: at}
			for _, option := range strings.Fields(m[2]) {
				switch option {
				case "transaction:false":
					mode = v1alpha1.TxModeNone
				case "transaction:true":
				default:
					return nil, "", lineError(text, start, fmt.Sprintf("the option %q of '-- migrate:up' is not known here: remove it", option))
				}
			}
		}
	}
	if up == nil {
		return nil, "", errors.New("1:1: it has no line '-- migrate:up', without which dbmate would not execute it")
	}
	up.end = len(text)
	return []section{*up}, mode, nil
}

var (
	changeset    = regexp.MustCompile(`(?i)^\s*--\s*changeset\s+(.*)$`)
	precondition = regexp.MustCompile(`(?i)^\s*--\s*precondition`)
	attribute    = regexp.MustCompile(`\s([A-Za-z]+):("[^"]*"|\S+)`)
)

// changesets looks for what Liquibase would not simply execute. The statements of all changesets of a file are executed, in one transaction.
func changesets(text string, d Dialect) ([]section, v1alpha1.TxMode, error) {
	at, count, outside := 0, 0, 0
	for line := range strings.Lines(text) {
		start := at
		at += len(line)
		if precondition.MatchString(line) {
			return nil, "", lineError(text, start, "preconditions are not looked at here: remove it if it holds, and the changeset if it does not")
		}
		m := changeset.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		count++
		for _, a := range attribute.FindAllStringSubmatch(m[1], -1) {
			name, value := strings.ToLower(a[1]), strings.ToLower(strings.Trim(a[2], `"`))
			if name == "runintransaction" && value == "false" {
				outside++
			}
			if allowed, known := attributes[name]; known && !slices.Contains(allowed(d), value) {
				return nil, "", lineError(text, start, fmt.Sprintf("a changeset with %s:%s is not executed here as in Liquibase: remove the attribute or the changeset", a[1], value))
			}
		}
	}
	mode := v1alpha1.TxMode("")
	if outside > 0 {
		mode = v1alpha1.TxModeNone
	}
	if outside != 0 && outside != count {
		return nil, "", errors.New("1:1: some of its changesets have runInTransaction:false and some do not: make two files of it")
	}
	return []section{{end: len(text)}}, mode, nil
}

// attributes are those that decide whether, how often or how a changeset is executed, with the values that are as it is here.
var attributes = map[string]func(Dialect) []string{
	"context": only(), "contexts": only(), "contextfilter": only(), "labels": only(), "runwith": only(), "enddelimiter": only(";"),
	"runonchange": only("false"), "runalways": only("false"), "ignore": only("false"), "failonerror": only("true"),
	"dbms": func(d Dialect) []string {
		if d == MySQL {
			return []string{"mysql", "mariadb", "mysql,mariadb", "mariadb,mysql"}
		}
		return []string{"postgresql"}
	},
}

func only(values ...string) func(Dialect) []string {
	return func(Dialect) []string { return values }
}

var placeholder = regexp.MustCompile(`\$\{[^}\s]+\}`)

// noPlaceholders refuses what Flyway and Liquibase would replace in statements.
func noPlaceholders(f *File) error {
	for _, s := range f.stmts {
		if at := placeholder.FindStringIndex(s.Text); at != nil {
			line := 1 + strings.Count(string(f.Bytes()[:s.Pos]), "\n") + strings.Count(s.Text[:at[0]], "\n")
			return fmt.Errorf("line %d holds the placeholder %s, and none is replaced here: write what it stands for", line, s.Text[at[0]:at[1]])
		}
	}
	return nil
}
