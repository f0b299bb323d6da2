// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package directory reads a directory of migrations: its files, the atlas.sum that vouches for them, the statements and directives that they hold.
package directory

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Options say where a directory is and how to read it.
type Options struct {
	// Dir is the path of the directory.
	Dir string
	// ImageRoot is the directory where an image is mounted, in which Dir is an absolute path. Empty where Dir is one of this system.
	ImageRoot string
	// Format of its files; empty is that of Atlas.
	Format v1alpha1.Format
	// Dialect of its statements.
	Dialect Dialect
}

// Directory is a directory of migrations, read once and verified. It is the migrate.Dir of Atlas's executor, which asks for the checksum before each
// file: computing it anew would make a run's cost grow with the square of the number of files.
type Directory struct {
	*migrate.MemDir // of the format of Atlas, all files; else only atlas.sum
	files           []*File
	all             []migrate.File // also those that are not executed, where there is an atlas.sum that may know them
	byVersion       map[string]*File
	sum             migrate.HashFile
	hash            string
	config          []byte
}

// configName is a file in which Atlas keeps the configuration of a directory.
const configName = ".atlas.hcl"

// Read reads a directory and verifies it. Symbolic links that lead out of it are not followed: the runner's environment and mounts are no migrations.
// Its errors are of class IntegrityFailed, or ImageInvalid where the image is to blame. In the formats of other tools, what is wrong with the content of a
// file is told by the file itself (see File.Err): a file that is applied already may well hold what cannot be executed here.
func Read(o Options) (*Directory, error) {
	format, err := formatOf(o.Format)
	if err != nil {
		return nil, err
	}
	d := &Directory{MemDir: &migrate.MemDir{}, byVersion: map[string]*File{}}
	if err := o.within(func(root *os.Root) error { return d.load(root, format) }); err != nil {
		return nil, err
	}
	if err := d.verify(format); err != nil {
		return nil, err
	}
	for _, f := range d.files {
		if f.err = f.parse(format, o.Dialect); f.err != nil && format == atlas {
			return nil, f.err
		}
	}
	return d, nil
}

// load reads the files that are migrations, and those that say something about them.
func (d *Directory) load(root *os.Root, format *format) error {
	names, err := walk(root, ".", maxFiles, format.deep)
	if err != nil {
		return err
	}
	picked, err := format.pick(names)
	if err != nil {
		return err
	}
	r := &reader{root: root, left: maxBytes}
	if err := d.loadBeside(r, names, picked); err != nil {
		return err
	}
	for _, m := range picked {
		data, err := r.read(m.name)
		if err != nil {
			return err
		}
		f := &File{LocalFile: migrate.NewLocalFile(m.name, data), version: m.version, desc: m.desc}
		if format == atlas { // which alone has checkpoints, and MemDir finds them
			if err := d.WriteFile(m.name, data); err != nil {
				return err
			}
		}
		if other, double := d.byVersion[f.version]; double {
			return f.Errorf("%s and %s have the same version", other.Name(), f.Name())
		}
		d.files, d.byVersion[f.version] = append(d.files, f), f
	}
	return nil
}

// loadBeside reads what is no migration: the directory's configuration, and its atlas.sum with what that may be about.
func (d *Directory) loadBeside(r *reader, names []string, picked []migration) error {
	var err error
	if slices.Contains(names, configName) {
		if d.config, err = r.read(configName); err != nil {
			return err
		}
	}
	if !slices.Contains(names, migrate.HashFileName) {
		return nil
	}
	sum, err := r.read(migrate.HashFileName)
	if err != nil {
		return err
	}
	if err := d.WriteFile(migrate.HashFileName, sum); err != nil {
		return err
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return path.Ext(name) != ".sql" || path.Base(name) != name })
	executed := make(map[string]bool, len(picked))
	for _, m := range picked {
		executed[m.name] = true
	}
	if !slices.ContainsFunc(names, func(name string) bool { return !executed[name] }) {
		return nil
	}
	for _, name := range names {
		data, err := r.read(name)
		if err != nil {
			return err
		}
		d.all = append(d.all, migrate.NewLocalFile(name, data))
	}
	return nil
}

// verify compares the files with atlas.sum. Only Atlas's own format must have one.
func (d *Directory) verify(format *format) error {
	files, _ := d.Files()
	var err error
	if d.sum, err = migrate.NewHashFile(files); err != nil {
		return result.Errorf(v1alpha1.IntegrityFailed, "directory of migrations: %v", err)
	}
	err = d.validate()
	if format != atlas && errors.Is(err, migrate.ErrChecksumNotFound) {
		err = migrate.WriteSumFile(d, d.sum) // Atlas's executor looks for one
	}
	if err != nil {
		return checksumFailure(err, format)
	}
	d.all = nil
	if len(d.files) > 0 {
		d.hash = "h1:" + d.sum.Sum()
	}
	hashes := make(map[string]string, len(d.sum))
	for _, s := range d.sum {
		hashes[s.N] = s.H
	}
	for _, f := range d.files {
		if f.Sum = hashes[f.Name()]; f.Sum == "" {
			return f.Errorf("%s is not in %s, and only what is hashed is executed: remove a directive 'atlas:sum ignore', and hash again", f.Name(), migrate.HashFileName)
		}
	}
	return nil
}

// validate compares the sum of the files with atlas.sum. That of an old Atlas CLI (0.13) is about all .sql files beside it, whether they are executed, or
// are, say, the down files of golang-migrate: where it is about such a file, the sum of all is the one to compare.
func (d *Directory) validate() error {
	err := migrate.Validate(d)
	var mismatch *migrate.ChecksumError
	if !errors.As(err, &mismatch) || mismatch.Reason != migrate.ReasonRemoved ||
		!slices.ContainsFunc(d.all, func(f migrate.File) bool { return f.Name() == mismatch.File }) {
		return err
	}
	if d.sum, err = migrate.NewHashFile(d.all); err != nil {
		return err
	}
	return migrate.Validate(d)
}

// Files implements migrate.Dir.
func (d *Directory) Files() ([]migrate.File, error) {
	files := make([]migrate.File, len(d.files))
	for i, f := range d.files {
		files[i] = f
	}
	return files, nil
}

// Checksum implements migrate.Dir.
func (d *Directory) Checksum() (migrate.HashFile, error) { return d.sum, nil }

// Last is the last version of the directory, empty for one without files.
func (d *Directory) Last() string {
	if len(d.files) == 0 {
		return ""
	}
	return d.files[len(d.files)-1].Version()
}

// File finds a file by its version.
func (d *Directory) File(version string) (*File, bool) {
	f, ok := d.byVersion[version]
	return f, ok
}

// Len is the number of files.
func (d *Directory) Len() int { return len(d.files) }

// Hash is the first line of atlas.sum, or what that would be; empty for a directory without files.
func (d *Directory) Hash() string { return d.hash }

// Config is the content of the directory's .atlas.hcl, nil without one. No checksum vouches for it.
func (d *Directory) Config() []byte { return d.config }

func checksumFailure(err error, format *format) error {
	command := "atlas migrate hash"
	if format != atlas {
		command += " --dir \"file://<directory>?format=" + string(format.name) + "\""
	}
	ask := fmt.Sprintf("; if the directory is as it should be, run '%s' and build the image again", command)
	f := result.Errorf(v1alpha1.IntegrityFailed, "%s: %v%s", migrate.HashFileName, err, ask)
	f.File = migrate.HashFileName
	var mismatch *migrate.ChecksumError
	switch {
	case errors.As(err, &mismatch):
		f.Failure.Error = fmt.Sprintf("%s line %d: %s was %s since the directory was hashed%s",
			migrate.HashFileName, mismatch.Line, mismatch.File, mismatch.Reason, ask)
		f.File = mismatch.File
	case errors.Is(err, migrate.ErrChecksumNotFound):
		f.Failure.Error = fmt.Sprintf("the directory has no %s%s", migrate.HashFileName, ask)
	}
	return f
}
