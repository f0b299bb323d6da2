// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
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

// readDirectory reads the directory dir and verifies it. Symbolic links that lead out of it are not followed: the runner's
// environment and mounts are no migrations. With imageRoot, dir is an absolute path in the image that is mounted there.
func readDirectory(imageRoot, dir string) (*directory, error) {
	d := &directory{MemDir: &migrate.MemDir{}, byVer: map[string]*file{}}
	if err := d.open(imageRoot, dir); err != nil {
		return nil, err
	}
	var err error
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

// open loads the files. What is wrong with a mounted image is told as fetch would tell it.
func (d *directory) open(imageRoot, dir string) error {
	if imageRoot == "" {
		root, err := os.OpenRoot(dir)
		if err == nil {
			defer root.Close()
			err = d.load(root)
		}
		if err != nil {
			return failf(v1alpha1.IntegrityFailed, "directory of migrations: %v", err)
		}
		return nil
	}
	image, err := os.OpenRoot(imageRoot)
	if err != nil {
		return failf(v1alpha1.Internal, "the mounted image: %v", err)
	}
	defer image.Close()
	dir = path.Clean(dir)
	root, err := openMounted(image, dir)
	if err == nil {
		defer root.Close()
		err = d.load(root)
	}
	if err != nil {
		return failf(v1alpha1.ImageInvalid, "directory %q of the image: %v", dir, err)
	}
	return nil
}

// openMounted opens the clean absolute path dir in a mounted image. Like fetch it refuses a link on the way: an absolute one would mean this container's root.
func openMounted(image *os.Root, dir string) (*os.Root, error) {
	at := "."
	for name := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		parent := at
		at = path.Join(at, name)
		info, err := image.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("it is not in it (directories seen in /%s: %s): set migrations.dir to the one that holds the migrations",
				strings.TrimPrefix(parent, "."), directoriesIn(image, parent))
		case err != nil:
			return nil, readable(err)
		case info.Mode().Type() == fs.ModeSymlink:
			return nil, fmt.Errorf("/%s is a symbolic link: set migrations.dir to the directory that it leads to", at)
		case !info.IsDir():
			return nil, fmt.Errorf("/%s is not a directory: set migrations.dir to the one that holds the migrations", at)
		}
	}
	if entries, err := entriesOf(image, at, maxFiles); err == nil && len(entries) == 0 {
		return nil, errors.New("it holds no files: set migrations.dir to the one that holds the migrations")
	}
	root, err := image.OpenRoot(at)
	return root, readable(err)
}

// directoriesIn are the names of some directories, for a message.
func directoriesIn(image *os.Root, at string) string {
	const most = 20
	entries, _ := entriesOf(image, at, maxFiles) // the error that led here says more
	var names []string
	for _, e := range entries {
		if e.IsDir() && len(names) < most && len(e.Name()) <= 64 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return cmp.Or(strings.Join(names, ", "), "none")
}

// readable says what to do about files that only their owner may read. In an image that is mounted they keep their modes.
func readable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let everybody read it, as with COPY --chmod", err)
	}
	return err
}

// Bounds of a directory, as fetch has them: one that is mounted has passed no other.
const (
	maxFiles = 10_000
	maxBytes = 64 << 20
)

// entriesOf reads the names in a directory, sorted. More than most of them are refused before they fill the memory.
func entriesOf(root *os.Root, at string, most int) ([]fs.DirEntry, error) {
	dir, err := root.Open(at)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > most {
		return nil, fmt.Errorf("it has more than %d entries", most)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (d *directory) load(root *os.Root) error {
	entries, err := entriesOf(root, ".", maxFiles)
	if err != nil {
		return readable(err)
	}
	left := int64(maxBytes)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".sql") && name != migrate.HashFileName {
			continue
		}
		data, err := readFile(root, name, left)
		if err != nil {
			return readable(err)
		}
		left -= int64(len(data))
		if err := d.WriteFile(name, data); err != nil {
			return err
		}
	}
	d.files, err = d.MemDir.Files()
	return err
}

// readFile reads a regular file of at most so many bytes. Others are not even opened: a pipe would make that wait for ever.
func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if info.Size() > most {
		return nil, fmt.Errorf("its files hold more than %d bytes (reached at %s)", maxBytes, name)
	}
	return root.ReadFile(name)
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
