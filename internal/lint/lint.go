// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
)

// Options say how files are linted.
type Options struct {
	// Dialect of the statements.
	Dialect directory.Dialect
	// Config is the content of the directory's .atlas.hcl; nil where it has none.
	Config []byte
	// TxMode of the run, for files that ask for none; file where empty.
	TxMode v1alpha1.TxMode
	// Together is set where the files will be applied to a database in one go: what one of them creates is new to those after it. Without it they are looked
	// at one by one, as by a check in CI, where some of them may have been applied long ago.
	Together bool
}

// Run finds what is to be said against files: first the configuration, then each file in order, by line and code.
func Run(o Options, files []*directory.File) []v1alpha1.Finding {
	l := &linter{Options: o}
	l.config, l.findings = parseConfig(o.Config)
	for _, f := range files {
		if l.created == nil || !o.Together {
			l.created = created{}
		}
		l.findings = append(l.findings, l.lint(f)...)
	}
	return l.findings
}

// linter lints files, one after the other.
type linter struct {
	Options
	config   config
	findings []v1alpha1.Finding
	created  created
	*pass
}

// pass is about one file.
type pass struct {
	file     *directory.File
	findings []v1alpha1.Finding
	// transaction tells whether the file is executed in one.
	transaction bool
	// statement that is being read: where it begins, and what is silenced about it.
	statement string
	line      int32
	silenced  silencer
	// renamed are the findings, by their index, about what old pods miss; they are withdrawn where it comes back under the old name.
	renamed map[object]int
	// unvalidated are the constraints that the file adds NOT VALID.
	unvalidated map[object]bool
}

func (l *linter) lint(f *directory.File) []v1alpha1.Finding {
	l.start(f)
	l.check()
	found := slices.DeleteFunc(l.pass.findings, func(f v1alpha1.Finding) bool { return f.Code == "" })
	slices.SortStableFunc(found, func(a, b v1alpha1.Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Code, b.Code))
	})
	return found
}

func (l *linter) start(f *directory.File) {
	l.pass = &pass{file: f, renamed: map[object]int{}, unvalidated: map[object]bool{}}
	l.transaction = cmp.Or(f.TxMode, l.TxMode, v1alpha1.TxModeFile) != v1alpha1.TxModeNone
}

// report says something against the statement, at a token of it. It returns the index of the finding, or -1 where that is silenced.
func (l *linter) report(code string, at int, format string, args ...any) int {
	if l.silenced.silences(code) || slices.Contains(l.config.off, code) {
		return -1
	}
	return l.add(code, l.line+int32(strings.Count(l.statement[:at], "\n")), format, args...)
}

// add adds a finding at a line of the file.
func (l *linter) add(code string, line int32, format string, args ...any) int {
	l.pass.findings = append(l.pass.findings, l.config.finding(l.file.Name(), line, code, format, args...))
	return len(l.pass.findings) - 1
}

// finding makes one, with the severity that is configured.
func (c *config) finding(file string, line int32, code, format string, args ...any) v1alpha1.Finding {
	return v1alpha1.Finding{File: file, Line: line, Code: code, Severity: c.severity(code), Message: clip(fmt.Sprintf(format, args...), 500)}
}

// object is something in a database that the files create: a schema, table, index, or a part of a table.
type object struct {
	kind string
	name name
	part string
}

// created are the objects that are new. The value tells whether that is certain: CREATE ... IF NOT EXISTS may have found one that was there.
type created map[object]bool

// add notes what is created.
func (c created) add(o object, certain bool) { c[o] = c[o] || certain }

// known tells whether an object is new, as far as is known.
func (c created) known(kind string, n name, part string) bool {
	_, ok := c[object{kind, n, part}]
	return ok
}
