// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// File is one file of migrations, split into statements. The Pos of each is its offset in the file.
type File struct {
	*migrate.LocalFile
	version, desc string
	checkpoint    bool
	stmts         []*migrate.Stmt
	err           *result.Error
	// TxMode that the file asks for, file or none; empty where it does not.
	TxMode v1alpha1.TxMode
	// Sum is the file's hash in atlas.sum, or what that would be. It covers the files before it too.
	Sum string
	// Strays are directives for the whole file that do not take effect where they stand.
	Strays []Stray
}

// Stray is a directive that does not take effect.
type Stray struct {
	// Line on which it stands, counted from 1.
	Line int
	// Name of the directive: txmode, checkpoint, delimiter or sum.
	Name string
}

// Version implements migrate.File.
func (f *File) Version() string { return f.version }

// Desc implements migrate.File.
func (f *File) Desc() string { return f.desc }

// StmtDecls implements migrate.File, without splitting the file again.
func (f *File) StmtDecls() ([]*migrate.Stmt, error) { return f.stmts, f.Err() }

// Stmts implements migrate.File.
func (f *File) Stmts() ([]string, error) {
	texts := make([]string, len(f.stmts))
	for i, s := range f.stmts {
		texts[i] = s.Text
	}
	return texts, f.Err()
}

// Statements of the file that are executed, in order; none where Err says why.
func (f *File) Statements() []*migrate.Stmt { return f.stmts }

// Err says why the file cannot be executed, nil where it can as far as is known. It is an IntegrityFailed, and never there in the format of Atlas, whose
// directories Read then refuses.
func (f *File) Err() error {
	if f.err == nil {
		return nil
	}
	return f.err
}

// Errorf is an integrity error about the file.
func (f *File) Errorf(format string, args ...any) *result.Error {
	err := result.Errorf(v1alpha1.IntegrityFailed, format, args...)
	err.File, err.Version = f.Name(), f.Version()
	return err
}

// parse finds out what the file says.
func (f *File) parse(format *format, dialect Dialect) *result.Error {
	if bytes.HasPrefix(f.Bytes(), []byte("\xef\xbb\xbf")) || bytes.HasPrefix(f.Bytes(), []byte("\xff\xfe")) || bytes.HasPrefix(f.Bytes(), []byte("\xfe\xff")) {
		return f.Errorf("%s begins with a byte order mark, which is no SQL: save it as UTF-8 without one", f.Name())
	}
	f.checkpoint = format == atlas && f.LocalFile.IsCheckpoint()
	text := string(f.Bytes())
	sections, tool := []section{{end: len(text)}}, v1alpha1.TxMode("")
	if format.sections != nil {
		var err error
		if sections, tool, err = format.sections(text, dialect); err != nil {
			return f.Errorf("%s:%v", f.Name(), err)
		}
	}
	if err := f.readDirectives(text, format, tool); err != nil {
		return f.Errorf("%s: %v", f.Name(), err)
	}
	stmts, err := dialect.split(text, sections)
	if err != nil {
		return f.Errorf("%s:%v", f.Name(), err) // it begins with line and column
	}
	f.stmts = stmts
	if format.name == v1alpha1.FormatGolangMigrate && f.TxMode != v1alpha1.TxModeNone {
		f.stmts = withoutTransaction(stmts)
	}
	if format.check != nil {
		if err := format.check(f); err != nil {
			f.stmts = nil
			return f.Errorf("%s: %v", f.Name(), err)
		}
	}
	return nil
}

// directive is Atlas's own expression.
var directive = regexp.MustCompile(`^([ -~]*)atlas:(\w+)(?: +(.+))*`)

// readDirectives finds those that are about the whole file. Atlas wants an empty line after those at the top, without which it takes them for comments on the
// first statement; a transaction mode takes effect here all the same, anywhere before the first statement. Tool is what the file asks for in the
// words of its own tool.
func (f *File) readDirectives(text string, format *format, tool v1alpha1.TxMode) error {
	f.TxMode = tool
	if !strings.Contains(text, "atlas:") {
		return nil
	}
	var modes []string
	top, number := true, 0
	for line := range strings.Lines(text) {
		number++
		text := strings.TrimSpace(line)
		comment := strings.HasPrefix(text, "--") || strings.HasPrefix(text, "#")
		top = top && (comment || text == "")
		if !comment || !strings.Contains(line, "atlas:") {
			continue
		}
		m := directive.FindStringSubmatch(strings.TrimRight(line, " \r\n"))
		if m == nil {
			continue
		}
		effective := true
		switch m[2] {
		case "txmode":
			if effective = top; top {
				modes = append(modes, m[3])
			}
		case "checkpoint":
			effective = f.checkpoint && top
		case "delimiter":
			effective = format.directives && number == 1 && m[1] == "-- "
		case "sum":
			effective = number == 1
		}
		if !effective {
			f.Strays = append(f.Strays, Stray{Line: number, Name: m[2]})
		}
	}
	return f.setTxMode(modes)
}

func (f *File) setTxMode(modes []string) error {
	if len(modes) == 0 {
		return nil
	}
	mode := v1alpha1.TxMode(modes[0])
	if len(modes) > 1 || mode != v1alpha1.TxModeFile && mode != v1alpha1.TxModeNone {
		return fmt.Errorf("the txmode of a file is one of none and file, not %q", modes)
	}
	if f.TxMode != "" && f.TxMode != mode {
		return errors.New("it asks for no transaction, and for txmode file in a directive: remove one of them")
	}
	f.TxMode = mode
	return nil
}

// IsCheckpoint implements migrate.CheckpointFile. Only Atlas's own format has checkpoints.
func (f *File) IsCheckpoint() bool { return f.checkpoint }
