// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"fmt"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// parse parses a file on its own.
func parse(t *testing.T, format v1alpha1.Format, dialect Dialect, text string) *File {
	t.Helper()
	how, err := formatOf(format)
	if err != nil {
		t.Fatal(err)
	}
	f := &File{LocalFile: migrate.NewLocalFile("1.sql", []byte(text)), version: "1"}
	f.err = f.parse(how, dialect)
	return f
}

func TestDirectives(t *testing.T) {
	cases := map[string]struct {
		format v1alpha1.Format
		text   string
		mode   v1alpha1.TxMode
		strays string
		err    string
	}{
		"none":                       {text: "SELECT 1;"},
		"as Atlas wants it":          {text: "-- atlas:txmode none\n\nSELECT 1;", mode: "none"},
		"file":                       {text: "-- atlas:txmode file\n\nSELECT 1;", mode: "file"},
		"no empty line":              {text: "-- atlas:txmode none\nSELECT 1;", mode: "none"},
		"after other comments":       {text: "-- Copyright\n\n-- atlas:nolint\n-- atlas:txmode none\n-- Fast.\nSELECT 1;", mode: "none"},
		"Windows":                    {text: "-- atlas:txmode none\r\n\r\nSELECT 1;\r\n", mode: "none"},
		"indented":                   {text: "\n  -- atlas:txmode none\nSELECT 1;", mode: "none"},
		"hash":                       {text: "# atlas:txmode none\nSELECT 1;", mode: "none"},
		"nothing else":               {text: "-- atlas:txmode none", mode: "none"},
		"all":                        {text: "-- atlas:txmode all\nSELECT 1;", err: `not ["all"]`},
		"without a value":            {text: "-- atlas:txmode\nSELECT 1;", err: `not [""]`},
		"two":                        {text: "-- atlas:txmode none\n-- atlas:txmode file\nSELECT 1;", err: `not ["none" "file"]`},
		"a word more":                {text: "-- atlas:txmode none please\nSELECT 1;", err: `not ["none please"]`},
		"below":                      {text: "SELECT 1;\n-- atlas:txmode none\n\nSELECT 2;", strays: "2 txmode"},
		"in a statement":             {text: "SELECT\n  -- atlas:txmode none\n  1;", strays: "2 txmode"},
		"at the end":                 {text: "SELECT 1;\n\n\n-- atlas:txmode none", strays: "4 txmode"},
		"after a block comment":      {text: "/* Copyright */\n-- atlas:txmode none\nSELECT 1;", strays: "2 txmode"},
		"on the line of a statement": {text: "SELECT 1; -- atlas:txmode none"},
		"both":                       {text: "-- atlas:txmode none\nSELECT 1;\n-- atlas:txmode file\n", mode: "none", strays: "3 txmode"},
		"checkpoint":                 {text: "-- atlas:checkpoint\n\nSELECT 1;"},
		"checkpoint, no empty line":  {text: "-- atlas:checkpoint\nSELECT 1;", strays: "1 checkpoint"},
		"delimiter":                  {text: "-- atlas:delimiter --\nSELECT 1;"},
		"delimiter, second line":     {text: "-- Here.\n-- atlas:delimiter --\nSELECT 1;", strays: "2 delimiter"},
		"delimiter without a space":  {text: "--atlas:delimiter --\nSELECT 1;", strays: "1 delimiter"},
		"sum, second line":           {text: "-- Here.\n-- atlas:sum ignore\nSELECT 1;", strays: "2 sum"},
		"of a statement":             {text: "SELECT 1;\n-- atlas:nolint\nSELECT 2;"},

		"golang-migrate":                 {format: "golang-migrate", text: "-- atlas:txmode none\nSELECT 1;", mode: "none"},
		"golang-migrate, checkpoint":     {format: "golang-migrate", text: "-- atlas:checkpoint\n\nSELECT 1;", strays: "1 checkpoint"},
		"goose":                          {format: "goose", text: "-- +goose Up\n-- +goose NO TRANSACTION\nSELECT 1;", mode: "none"},
		"goose, directive":               {format: "goose", text: "-- +goose Up\n-- atlas:txmode none\nSELECT 1;", mode: "none"},
		"goose, both":                    {format: "goose", text: "-- atlas:txmode none\n-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;", mode: "none"},
		"goose, contradiction":           {format: "goose", text: "-- atlas:txmode file\n-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;", err: "remove one of them"},
		"goose, delimiter":               {format: "goose", text: "-- atlas:delimiter --\n-- +goose Up\nSELECT 1;", strays: "1 delimiter"},
		"dbmate":                         {format: "dbmate", text: "-- migrate:up transaction:false\nSELECT 1;", mode: "none"},
		"dbmate, in a transaction":       {format: "dbmate", text: "-- migrate:up transaction:true\nSELECT 1;"},
		"liquibase":                      {format: "liquibase", text: "--liquibase formatted sql\n--changeset a:1 runInTransaction:false\nSELECT 1;", mode: "none"},
		"liquibase, not all of the file": {format: "liquibase", text: "--changeset a:1 runInTransaction:false\nSELECT 1;\n--changeset a:2\nSELECT 1;", err: "two files"},
		"flyway":                         {format: "flyway", text: "-- atlas:txmode none\nSELECT 1;", mode: "none"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := parse(t, c.format, Postgres, c.text)
			if c.err != "" {
				mustRefuse(t, f.Err(), v1alpha1.IntegrityFailed, "1.sql", "1.sql:", c.err)
				return
			}
			var strays []string
			for _, s := range f.Strays {
				strays = append(strays, fmt.Sprint(s.Line, " ", s.Name))
			}
			if f.Err() != nil || f.TxMode != c.mode || strings.Join(strays, ", ") != c.strays {
				t.Errorf("txmode %q, strays %v, %v", f.TxMode, strays, f.Err())
			}
		})
	}
}

func TestErrIsToldByTheFile(t *testing.T) {
	d := mustRead(t, Options{Dir: plain(t, files{"1_a.up.sql": "SELECT (1;", "2_b.up.sql": "SELECT 1;"}), Format: v1alpha1.FormatGolangMigrate})
	f, _ := d.File("1")
	mustRefuse(t, f.Err(), v1alpha1.IntegrityFailed, "1_a.up.sql", "1_a.up.sql:1:8: unclosed '('")
	if _, err := f.StmtDecls(); err == nil {
		t.Error("Atlas's executor would take it for a file without statements")
	}
	if _, err := f.Stmts(); err == nil || len(f.Statements()) != 0 {
		t.Errorf("%v, %v", f.Statements(), err)
	}
	if f, _ := d.File("2"); f.Err() != nil {
		t.Error(f.Err())
	}
}
