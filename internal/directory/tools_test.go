// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// TestContent reads files as other tools have them. A statement follows its line and a colon.
func TestContent(t *testing.T) {
	const function = "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN\n  RETURN 1;\nEND; $$;"
	cases := map[string]struct {
		format  v1alpha1.Format
		dialect Dialect
		text    string
		want    []string
		refused string // or else what the error says
	}{
		"golang-migrate":                        {"golang-migrate", Postgres, "SELECT 1; SELECT 2;\n" + function, []string{"1:SELECT 1;", "1:SELECT 2;", "2:" + function}, ""},
		"golang-migrate, empty":                 {"golang-migrate", Postgres, "", nil, ""},
		"golang-migrate, transaction":           {"golang-migrate", Postgres, "-- One.\nBEGIN;\nSELECT 1;\nCOMMIT;\n", []string{"3:SELECT 1;"}, ""},
		"golang-migrate, other words":           {"golang-migrate", MySQL, "start transaction;\nSELECT 1;\ncommit work", []string{"2:SELECT 1;"}, ""},
		"golang-migrate, nothing else":          {"golang-migrate", Postgres, "BEGIN;COMMIT;", nil, ""},
		"golang-migrate, isolation level":       {"golang-migrate", Postgres, "BEGIN ISOLATION LEVEL SERIALIZABLE;\nCOMMIT;", []string{"1:BEGIN ISOLATION LEVEL SERIALIZABLE;", "2:COMMIT;"}, ""},
		"golang-migrate, not all of it":         {"golang-migrate", Postgres, "BEGIN;\nCOMMIT;\nSELECT 1;", []string{"1:BEGIN;", "2:COMMIT;", "3:SELECT 1;"}, ""},
		"golang-migrate, without, with":         {"golang-migrate", Postgres, "-- atlas:txmode none\nBEGIN;\nCOMMIT;", []string{"2:BEGIN;", "3:COMMIT;"}, ""},
		"Atlas, transaction":                    {"atlas", Postgres, "BEGIN;\nSELECT 1;\nCOMMIT;", []string{"1:BEGIN;", "2:SELECT 1;", "3:COMMIT;"}, ""},
		"goose":                                 {"goose", Postgres, "-- +goose Up\nSELECT 1;\n\nSELECT\n  2; -- two\nSELECT 3; SELECT 4;\n-- +goose Down\nSELECT 5;", []string{"2:SELECT 1;", "4:SELECT\n  2;", "6:SELECT 3;", "6:SELECT 4;"}, ""},
		"goose, small letters":                  {"goose", Postgres, "--+goose up\nSELECT 1;\n-- +goose down\nSELECT 2;", []string{"2:SELECT 1;"}, ""},
		"goose, Windows":                        {"goose", Postgres, "-- +goose Up\r\nSELECT 1;\r\nSELECT 2;\r\n-- +goose Down\r\nSELECT 3;\r\n", []string{"2:SELECT 1;", "3:SELECT 2;"}, ""},
		"goose, one statement":                  {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\n\n-- Why.\nSELECT 1;\nSELECT 2;\n-- +goose StatementEnd\nSELECT 3;\n", []string{"5:SELECT 1;\nSELECT 2;", "8:SELECT 3;"}, ""},
		"goose, no statement":                   {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\n/* none */\n-- +goose StatementEnd\n", nil, ""},
		"goose, quote in a comment":             {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\nDO $$ BEGIN\n-- it's (\nEND $$\n-- +goose StatementEnd\n", []string{"3:DO $$ BEGIN\n-- it's (\nEND $$"}, ""},
		"goose, function without words":         {"goose", Postgres, "-- +goose Up\n" + function + "\n", []string{"2:" + function}, ""},
		"goose, only down":                      {"goose", Postgres, "-- +goose Up\n-- +goose Down\nSELECT 1;", nil, ""},
		"goose, a word in a line":               {"goose", Postgres, "-- +goose Up\nSELECT 'StatementEnd',\n  'Down';\n", []string{"2:SELECT 'StatementEnd',\n  'Down';"}, ""},
		"goose, a long line":                    {"goose", Postgres, "-- +goose Up\nSELECT '" + strings.Repeat("x", 1<<17) + "';\nSELECT 2;", []string{"2:SELECT '" + strings.Repeat("x", 1<<17) + "';", "3:SELECT 2;"}, ""},
		"goose, variables off":                  {"goose", Postgres, "-- +goose ENVSUB OFF\n-- +goose Up\nSELECT 1;", []string{"3:SELECT 1;"}, ""},
		"goose, variables":                      {"goose", Postgres, "-- +goose Up\n-- +goose ENVSUB ON\nSELECT '${A}';", nil, "1.sql:2:1: environment variables"},
		"goose, no Up":                          {"goose", Postgres, "-- Nothing.\n", nil, "1.sql:1:1: it has no line '-- +goose Up'"},
		"goose, empty":                          {"goose", Postgres, "", nil, "no line '-- +goose Up'"},
		"goose, before Up":                      {"goose", Postgres, "SELECT 1;\n-- +goose Up\n", nil, "1.sql:1:1: it stands before"},
		"goose, two Up":                         {"goose", Postgres, "-- +goose Up\n-- +goose Up\n", nil, "1.sql:2:1: '-- +goose up' does not belong here"},
		"goose, Down first":                     {"goose", Postgres, "-- +goose Down\n-- +goose Up\n", nil, "1.sql:1:1: '-- +goose down' does not belong here"},
		"goose, Down in a statement":            {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\n-- +goose Down\n", nil, "1.sql:3:1"},
		"goose, begin twice":                    {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\n-- +goose StatementBegin\n", nil, "1.sql:3:1"},
		"goose, begin before Up":                {"goose", Postgres, "-- +goose StatementBegin\n", nil, "1.sql:1:1"},
		"goose, end without begin":              {"goose", Postgres, "-- +goose Up\n-- +goose StatementEnd\n", nil, "1.sql:2:1"},
		"goose, begin without end":              {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\nSELECT 1;", nil, "without '-- +goose StatementEnd'"},
		"goose, unknown":                        {"goose", Postgres, "-- +goose Up\n-- +goose Sideways\n", nil, "'-- +goose sideways' is not known"},
		"goose, no semicolon":                   {"goose", Postgres, "-- +goose Up\nSELECT 1\n-- +goose Down\n", nil, "1.sql:2:1: a statement without a semicolon"},
		"goose, no SQL":                         {"goose", Postgres, "-- +goose Up\n-- +goose StatementBegin\n(\n-- +goose StatementEnd\n\nSELECT (1;\n", nil, "1.sql:6:8: unclosed '('"},
		"dbmate":                                {"dbmate", Postgres, "-- migrate:up\n" + function + "\nSELECT 2\n-- migrate:down\nSELECT 3;", []string{"2:" + function, "5:SELECT 2"}, ""},
		"dbmate, no down":                       {"dbmate", Postgres, "\n--migrate:up\nSELECT 'down';", []string{"3:SELECT 'down';"}, ""},
		"dbmate, empty":                         {"dbmate", Postgres, "-- migrate:up\n\n-- migrate:down\n", nil, ""},
		"dbmate, Windows":                       {"dbmate", Postgres, "-- migrate:up transaction:true\r\nSELECT 1;\r\n-- migrate:down\r\n", []string{"2:SELECT 1;"}, ""},
		"dbmate, other words":                   {"dbmate", Postgres, "-- migrate:upwards\n-- migrate:up\nSELECT 1;", []string{"3:SELECT 1;"}, ""},
		"dbmate, no up":                         {"dbmate", Postgres, "-- Nothing.\n", nil, "no line '-- migrate:up'"},
		"dbmate, two":                           {"dbmate", Postgres, "-- migrate:up\n-- migrate:up\n", nil, "1.sql:2:1: a second"},
		"dbmate, down first":                    {"dbmate", Postgres, "-- migrate:down\n-- migrate:up\n", nil, "1.sql:1:1: '-- migrate:down' before"},
		"dbmate, before up":                     {"dbmate", Postgres, "SELECT 1;\n-- migrate:up\n", nil, "1.sql:1:1: it stands before"},
		"dbmate, option":                        {"dbmate", Postgres, "-- migrate:up env:HOME\n", nil, `1.sql:1:1: the option "env:HOME"`},
		"flyway":                                {"flyway", Postgres, "-- One.\nSELECT 1;\nSELECT '$1', '{', $${ a}$$;", []string{"2:SELECT 1;", "3:SELECT '$1', '{', $${ a}$$;"}, ""},
		"flyway, placeholder":                   {"flyway", Postgres, "SELECT 1;\nSELECT\n  '${schema}';", nil, "1.sql: line 3 holds the placeholder ${schema}"},
		"flyway, placeholder in comments":       {"flyway", Postgres, "-- In ${schema}.\nSELECT 1;", []string{"2:SELECT 1;"}, ""},
		"liquibase":                             {"liquibase", Postgres, "--liquibase formatted sql\n--changeset a:1 dbms:postgresql splitStatements:false endDelimiter:;\n" + function + "\n--rollback DROP FUNCTION f;\n--changeset a:2 failOnError:true\nSELECT 2;\n--rollback SELECT 3;", []string{"3:" + function, "8:SELECT 2;"}, ""},
		"liquibase, plain":                      {"liquibase", Postgres, "SELECT 1;", []string{"1:SELECT 1;"}, ""},
		"liquibase, both MySQL and MariaDB":     {"liquibase", MySQL, "--changeset a:1 dbms:mysql,mariadb\nSELECT 1;", []string{"2:SELECT 1;"}, ""},
		"liquibase, other database":             {"liquibase", Postgres, "--changeset a:1 dbms:h2\nSELECT 1;", nil, "1.sql:1:1: a changeset with dbms:h2"},
		"liquibase, context":                    {"liquibase", Postgres, "\n-- changeset a:1 context:\"test or qa\"\nSELECT 1;", nil, "1.sql:2:1: a changeset with context:test or qa"},
		"liquibase, labels":                     {"liquibase", Postgres, "--changeset a:1 labels:x\n", nil, "labels:x"},
		"liquibase, runs again":                 {"liquibase", Postgres, "--changeset a:1 runOnChange:true\n", nil, "runOnChange:true"},
		"liquibase, runs always":                {"liquibase", Postgres, "--CHANGESET a:1 RUNALWAYS:TRUE\n", nil, "RUNALWAYS:true"},
		"liquibase, other delimiter":            {"liquibase", Postgres, "--changeset a:1 endDelimiter://\n", nil, "endDelimiter://"},
		"liquibase, precondition":               {"liquibase", Postgres, "--changeset a:1\n--preconditions onFail:MARK_RAN\n", nil, "1.sql:2:1: preconditions"},
		"liquibase, placeholder":                {"liquibase", Postgres, "SELECT ${a.b};", nil, "placeholder ${a.b}"},
		"liquibase, author with a strange name": {"liquibase", Postgres, "--changeset labels:1\nSELECT 1;", []string{"2:SELECT 1;"}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := parse(t, c.format, c.dialect, c.text)
			if c.refused != "" {
				mustRefuse(t, f.Err(), v1alpha1.IntegrityFailed, "1.sql", "1.sql:", c.refused)
				return
			}
			var got []string
			for _, s := range f.Statements() {
				got = append(got, strings.TrimSuffix(lineError(c.text, s.Pos, "").Error(), ": ")[:1]+":"+s.Text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || f.Err() != nil {
				t.Errorf("%v, statements (-want +got):\n%s", f.Err(), diff)
			}
		})
	}
}
