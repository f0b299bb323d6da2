// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// format is how a tool names its migrations and writes them down.
//
// Names, versions, descriptions and order are those of Atlas's readers (ariga.io/atlas/sql/sqltool), so that its CLI reads the same directory and history
// in the same way. Where Atlas and the tool do not agree about a file, it is refused: one of them would execute it and the other would not.
type format struct {
	name v1alpha1.Format
	// file looks at a name without its directory. A file that is no migration has no version; why is said where it must be refused.
	file func(name string) (m migration, why string)
	// example of a name.
	example string
	// deep is set where directories below the first one hold migrations too.
	deep bool
	// sort puts them into order, and leaves out what others stand for; nil is the order of names.
	sort func([]migration) []migration
	// numbered is set where the tool compares versions as numbers.
	numbered bool
	// sections of a file that are executed; nil is all of it.
	sections func(text string, d Dialect) ([]section, v1alpha1.TxMode, error)
	// directives is set where the ones of Atlas about the whole file have their usual effect.
	directives bool
	// check refuses what the tool would not execute as it stands.
	check func(*File) error
}

// migration is what the name of a file says.
type migration struct {
	name          string // with its directories
	version, desc string
	// baseline is set where it stands for all versions up to its own.
	baseline bool
}

var (
	atlas   = &format{name: v1alpha1.FormatAtlas, file: local, directives: true}
	formats = []*format{
		atlas,
		{name: v1alpha1.FormatGolangMigrate, file: golangMigrate, example: "0001_init.up.sql", numbered: true, directives: true},
		{name: v1alpha1.FormatGoose, file: goose, example: "00001_init.sql", numbered: true, sections: gooseSections},
		{name: v1alpha1.FormatFlyway, file: flyway, example: "V01__init.sql", numbered: true, deep: true, sort: sortFlyway, directives: true, check: noPlaceholders},
		{name: v1alpha1.FormatLiquibase, file: local, example: "0001_init.sql", sections: changesets, directives: true, check: noPlaceholders},
		{name: v1alpha1.FormatDBMate, file: dbmate, example: "20260102150405_init.sql", numbered: true, sections: dbmateSections},
	}
)

func formatOf(name v1alpha1.Format) (*format, error) {
	name = cmp.Or(name, v1alpha1.FormatAtlas)
	var known []string
	for _, f := range formats {
		if f.name == name {
			return f, nil
		}
		known = append(known, string(f.name))
	}
	return nil, result.Errorf(v1alpha1.IntegrityFailed, "the format of the directory is %q, which is none of %s", name, strings.Join(known, ", "))
}

// pick takes the migrations from the names of a directory, in the order in which they are executed.
func (f *format) pick(names []string) ([]migration, error) {
	var picked []migration
	sql := 0
	for _, name := range names {
		m, why := f.entry(name)
		if why != "" {
			err := result.Errorf(v1alpha1.IntegrityFailed, "%s: %s", name, why)
			err.File = name
			return nil, err
		}
		if strings.HasSuffix(name, ".sql") {
			sql++
		}
		if m.version != "" {
			m.name = strings.TrimSuffix(name, "/")
			picked = append(picked, m)
		}
	}
	if len(picked) == 0 && sql > 0 {
		return nil, result.Errorf(v1alpha1.IntegrityFailed, "none of the directory's %d .sql files has the name of a migration of %s, such as %s: "+
			"set migrations.format to the tool that they are of", sql, f.name, f.example)
	}
	if f.sort != nil {
		picked = f.sort(picked)
	}
	return picked, f.ordered(picked)
}

// entry looks at one name of the directory, which for a directory ends in a slash.
func (f *format) entry(name string) (migration, string) {
	if !strings.HasSuffix(name, "/") {
		return f.file(path.Base(name))
	}
	name = strings.TrimSuffix(name, "/")
	if f.name == v1alpha1.FormatLiquibase && !strings.HasPrefix(name, ".") {
		return migration{}, "a directory in the directory is not read: put all files into one, with names in the order of execution"
	}
	return f.file(name) // reading what has the name of a migration will fail
}

// ordered refuses versions that do not ascend. The history compares them as text, most tools as numbers: 10 would come before 9.
func (f *format) ordered(picked []migration) error {
	if f == atlas { // whose CLI is content with any order
		return nil
	}
	for i := 1; i < len(picked); i++ {
		a, b := picked[i-1], picked[i]
		why := ""
		switch {
		case a.version == b.version || f.numbered && compareNumbers(a.version, b.version) == 0:
			why = "have the same version"
		case f.numbered && (a.version > b.version || compareNumbers(a.version, b.version) > 0):
			why = "have versions that sort differently as numbers and as text, as the history does: give all of them the same number of digits (docs/formats.md, Versions)"
		case a.version > b.version:
			why = "sort differently by name and by version, the part before the first _: rename one of them"
		default:
			continue
		}
		err := result.Errorf(v1alpha1.IntegrityFailed, "%s and %s %s", a.name, b.name, why)
		err.File, err.Version = b.name, b.version
		return err
	}
	return nil
}

// local is the name of a file as Atlas itself reads it.
func local(name string) (migration, string) {
	if !strings.HasSuffix(name, ".sql") {
		return migration{}, ""
	}
	f := migrate.NewLocalFile(name, nil)
	if f.Version() == "" {
		return migration{}, "its name has no version before the first _: give it one, or leave it out of the directory"
	}
	return migration{version: f.Version(), desc: f.Desc()}, ""
}

var (
	golangMigrateName = regexp.MustCompile(`^([0-9]+)_(.*)\.up\.([^.]*)$`)
	numberedName      = regexp.MustCompile(`^([0-9]+)_(.*)\.([a-z]+)$`)
	dbmateName        = regexp.MustCompile(`^([0-9]+)(?:_(.*))?\.sql$`)
	flywayName        = regexp.MustCompile(`^([VB])([0-9]+(?:[._][0-9]+)*)__(.+?)\.([a-z0-9]+)$`)
	flywayCallback    = regexp.MustCompile(`^(?:before|after)[A-Z][A-Za-z]*(?:__.*)?\.sql$`)
)

func golangMigrate(name string) (migration, string) {
	m := golangMigrateName.FindStringSubmatch(name)
	switch {
	case m == nil && strings.HasSuffix(name, ".up.sql"):
		return migration{}, "golang-migrate would not execute it, its name is not like 0001_init.up.sql: rename it, or leave it out of the directory"
	case m == nil: // among them down files
		return migration{}, ""
	case m[3] != "sql":
		return migration{}, "only .sql files can be executed here: rename it"
	}
	return migration{version: m[1], desc: m[2]}, ""
}

func goose(name string) (migration, string) {
	m := numberedName.FindStringSubmatch(name)
	switch {
	case m != nil && m[3] == "go" && !strings.HasSuffix(name, "_test.go"):
		return migration{}, "a migration in Go cannot be executed here: write it in SQL, or leave it out of the directory if it is applied everywhere"
	case !strings.HasSuffix(name, ".sql"):
		return migration{}, ""
	case m == nil:
		return migration{}, "goose would not execute it, its name is not like 00001_init.sql: rename it, or leave it out of the directory"
	}
	return migration{version: m[1], desc: m[2]}, ""
}

func dbmate(name string) (migration, string) {
	m := dbmateName.FindStringSubmatch(name)
	switch {
	case !strings.HasSuffix(name, ".sql"):
		return migration{}, ""
	case m == nil:
		return migration{}, "its name is not like 20260102150405_init.sql, whose version is what stands before the first _: rename it, or leave it out of the directory"
	}
	return migration{version: m[1], desc: m[2]}, ""
}

func flyway(name string) (migration, string) {
	m := flywayName.FindStringSubmatch(name)
	switch {
	case m != nil && m[4] == "sql":
		return migration{version: m[2], desc: m[3], baseline: m[1] == "B"}, ""
	case m != nil && strings.HasSuffix(name, ".sql.conf"):
		return migration{}, "configurations of scripts are not read: leave it out of the directory, and write '-- atlas:txmode none' at the top of a script " +
			"that has executeInTransaction=false"
	case m != nil:
		return migration{}, "only .sql files can be executed here: write it in SQL, or leave it out of the directory if it is applied everywhere"
	case !strings.HasSuffix(name, ".sql"):
		return migration{}, ""
	case strings.HasPrefix(name, "R__"):
		return migration{}, "a repeatable migration has no version, and would be executed once and never again: make it a versioned one, a new one for each change"
	case flywayCallback.MatchString(name):
		return migration{}, "callbacks are not executed here: leave it out of the directory, and write what it does into the migrations"
	case strings.ContainsAny(name[:1], "VBR"):
		return migration{}, "Flyway would not execute it, its name is not like V01__init.sql: rename it, or leave it out of the directory"
	}
	return migration{}, "" // among them undo migrations
}

// sortFlyway sorts by version, and leaves out what the last baseline stands for.
func sortFlyway(picked []migration) []migration {
	slices.SortStableFunc(picked, func(a, b migration) int {
		if n := compareNumbers(a.version, b.version); n != 0 || a.baseline == b.baseline {
			return n
		}
		if a.baseline { // after the version that it has in it
			return 1
		}
		return -1
	})
	last := 0
	for i, m := range picked {
		if m.baseline && (!picked[last].baseline || compareNumbers(picked[last].version, m.version) < 0) {
			last = i
		}
	}
	return picked[last:]
}

// compareNumbers compares versions of numbers with dots or underscores between them.
func compareNumbers(a, b string) int {
	return slices.CompareFunc(numbers(a), numbers(b), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
}

// numbers are the digits of a version's numbers without zeros before them, and without numbers at the end that are zero: 1.0 is 1.
func numbers(version string) []string {
	parts := strings.FieldsFunc(version, func(r rune) bool { return r == '.' || r == '_' })
	for i := range parts {
		parts[i] = strings.TrimLeft(parts[i], "0")
	}
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	return parts
}
