// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// directory is a directory of migrations, read once. It is the migrate.Dir of the executor, which asks for the checksum before each
// file: computing it anew would make a run's cost grow with the square of the number of files.
type directory struct {
	*migrate.MemDir
	files []migrate.File
	byVer map[string]*file
	sum   migrate.HashFile
	hash  string // the first line of atlas.sum; "" for a directory without files
}

// file is one file of migrations, split into statements.
type file struct {
	migrate.File
	stmts []*migrate.Stmt
	inTx  bool
}

// readDirectory reads the directory at path and verifies it. Symbolic links that lead out of it are not followed: the runner's
// environment and mounts are no migrations.
func readDirectory(path string) (*directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, failf(v1alpha1.IntegrityFailed, "directory of migrations: %v", err)
	}
	defer root.Close()
	d := &directory{MemDir: &migrate.MemDir{}, byVer: map[string]*file{}}
	if err := d.load(root); err != nil {
		return nil, failf(v1alpha1.IntegrityFailed, "directory of migrations: %v", err)
	}
	if d.sum, err = migrate.NewHashFile(d.files); err != nil {
		return nil, failf(v1alpha1.IntegrityFailed, "directory of migrations: %v", err)
	}
	if err := migrate.Validate(d); err != nil {
		return nil, checksumFailure(err)
	}
	if len(d.files) > 0 {
		d.hash = "h1:" + d.sum.Sum()
	}
	for _, f := range d.files {
		if err := d.parse(f); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *directory) load(root *os.Root) error {
	names, err := fs.Glob(root.FS(), "*.sql")
	if err != nil {
		return err
	}
	if _, err := root.Stat(migrate.HashFileName); !errors.Is(err, fs.ErrNotExist) {
		names = append(names, migrate.HashFileName)
	}
	for _, name := range names {
		info, err := root.Stat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() { // reading a pipe would wait for ever
			return fmt.Errorf("%s is not a regular file", name)
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return err
		}
		if err := d.WriteFile(name, data); err != nil {
			return err
		}
	}
	d.files, err = d.MemDir.Files()
	return err
}

// Files implements migrate.Dir.
func (d *directory) Files() ([]migrate.File, error) { return d.files, nil }

// Checksum implements migrate.Dir.
func (d *directory) Checksum() (migrate.HashFile, error) { return d.sum, nil }

// last is the last version of the directory, "" for an empty one.
func (d *directory) last() string {
	if len(d.files) == 0 {
		return ""
	}
	return d.files[len(d.files)-1].Version()
}

func (d *directory) parse(f migrate.File) error {
	failed := func(format string, args ...any) error {
		err := failf(v1alpha1.IntegrityFailed, format, args...)
		err.File, err.Version = f.Name(), f.Version()
		return err
	}
	if other, double := d.byVer[f.Version()]; double {
		return failed("%s and %s have the same version", other.Name(), f.Name())
	}
	if _, err := d.sum.SumByName(f.Name()); err != nil {
		return failed("%s asks with 'atlas:sum ignore' not to be hashed, and only what is hashed is executed", f.Name())
	}
	stmts, err := migrate.FileStmtDecls(&postgres.Driver{}, f)
	if err != nil {
		return failed("%s:%v", f.Name(), err) // Atlas begins its error with line and column
	}
	parsed := &file{File: f, stmts: stmts, inTx: true}
	local, ok := f.(*migrate.LocalFile)
	if !ok {
		return failed("unexpected type %T of file", f)
	}
	switch modes := local.Directive("txmode"); {
	case len(modes) == 0 || len(modes) == 1 && modes[0] == "file":
	case len(modes) == 1 && modes[0] == "none":
		parsed.inTx = false
	default:
		return failed("txmode of a file is one of none and file, not %q", modes)
	}
	d.byVer[f.Version()] = parsed
	return nil
}

func checksumFailure(err error) error {
	const ask = "; if the directory is as it should be, run 'atlas migrate hash' and build the image again"
	var mismatch *migrate.ChecksumError
	switch {
	case errors.As(err, &mismatch):
		f := failf(v1alpha1.IntegrityFailed, "%s line %d: %s was %s since the directory was hashed%s",
			migrate.HashFileName, mismatch.Line, mismatch.File, mismatch.Reason, ask)
		f.File = mismatch.File
		return f
	case errors.Is(err, migrate.ErrChecksumNotFound):
		f := failf(v1alpha1.IntegrityFailed, "the directory has no %s%s", migrate.HashFileName, ask)
		f.File = migrate.HashFileName
		return f
	default:
		f := failf(v1alpha1.IntegrityFailed, "%s: %v%s", migrate.HashFileName, err, ask)
		f.File = migrate.HashFileName
		return f
	}
}

var (
	transactionControl = regexp.MustCompile(`(?i)^(?:(?:BEGIN|START\s+TRANSACTION|COMMIT|END|ABORT|PREPARE\s+TRANSACTION)\b|` +
		`ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s*(?:;|$|AND\b))`) // but ROLLBACK TO a savepoint is fine
	copyFromClient = regexp.MustCompile(`(?is)^COPY\b[^;]*\bFROM\s+STDIN\b`)
)

// executable refuses statements that would break what the runner promises about every file, before the first one is executed.
func (f *file) executable() error {
	for i, stmt := range f.stmts {
		var why string
		switch text := strings.TrimSpace(stmt.Text); {
		case transactionControl.MatchString(text):
			why = "the runner itself begins and commits a transaction for each file; for a file without one, use '-- atlas:txmode none' followed by an empty line"
		case copyFromClient.MatchString(text):
			why = "there is no client that could send the data; use INSERT"
		default:
			continue
		}
		err := failf(v1alpha1.IntegrityFailed, "%s cannot be executed from a file: %s", verb(stmt.Text), why)
		err.File, err.Version, err.Statement = f.Name(), f.Version(), int32(i+1)
		return err
	}
	return nil
}

var words = regexp.MustCompile(`^\s*([A-Za-z]+(?:\s+[A-Za-z_]+\b)?)`)

// verb is what may be logged of a statement: its first two words at most. The rest may hold data.
func verb(stmt string) string {
	m := words.FindStringSubmatch(stmt)
	if m == nil {
		return "statement"
	}
	return strings.ToUpper(strings.Join(strings.Fields(m[1]), " "))
}
