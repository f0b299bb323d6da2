// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

const (
	historyTable = "atlas_schema_revisions"
	// historySchema holds the history where the URL does not name a schema.
	historySchema = "atlas_schema_revisions"
	// cloudRow is no revision: the Atlas CLI keeps an identifier of the table in it.
	cloudRow = ".atlas_cloud_identifier"
	// doubt begins the error of a row whose statement was started outside a transaction. docs/runner.md shows it to users.
	doubt = "dbupgrade: in doubt: "
	// maxQuoted is how many characters of a statement an error repeats.
	maxQuoted = 200
)

// revisions is the history of migrations in a database, kept as the Atlas CLI keeps it.
type revisions struct {
	*session
	schema  string
	table   string // quoted, with its schema
	present bool
}

// openRevisions finds the history: in the URL's schema if it names one, else in a schema of its own. It creates nothing.
func openRevisions(ctx context.Context, s *session, urlSchema string) (*revisions, error) {
	r := &revisions{session: s, schema: urlSchema}
	if r.schema == "" {
		r.schema = historySchema
	}
	r.table = pgx.Identifier{r.schema, historyTable}.Sanitize()
	var elsewhere bool
	err := s.pg.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE n.nspname = $1) > 0, count(*) FILTER (WHERE n.nspname = $2) > 0
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = $3 AND c.relkind IN ('r', 'p')`, r.schema, historySchema, historyTable).Scan(&r.present, &elsewhere)
	if err != nil {
		return nil, err
	}
	if !r.present && elsewhere {
		return nil, failf(v1alpha1.HistoryConflict, "DATABASE_URL names schema %s, which has no history of migrations, but schema %s has one: "+
			"take search_path out of the URL to go on with that one, or drop it if it is not in use", r.schema, historySchema)
	}
	return r, nil
}

// create makes the table, and its schema, where they are missing. Schema and table come in one transaction.
func (r *revisions) create(ctx context.Context) error {
	if r.present {
		return nil
	}
	var schema bool
	// CREATE SCHEMA IF NOT EXISTS would ask for the right to create schemas even where there is nothing to create.
	err := r.pg.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", r.schema).Scan(&schema)
	if err != nil {
		return err
	}
	query := "CREATE TABLE " + r.table + ` (
		version character varying NOT NULL PRIMARY KEY,
		description character varying NOT NULL,
		type bigint NOT NULL DEFAULT 2,
		applied bigint NOT NULL DEFAULT 0,
		total bigint NOT NULL DEFAULT 0,
		executed_at timestamp with time zone NOT NULL,
		execution_time bigint NOT NULL,
		error text,
		error_stmt text,
		hash character varying NOT NULL,
		partial_hashes jsonb,
		operator_version character varying NOT NULL
	)`
	if !schema {
		query = "CREATE SCHEMA " + pgx.Identifier{r.schema}.Sanitize() + "; " + query
	}
	if _, err := r.ExecContext(ctx, query); err != nil {
		return err
	}
	r.present = true
	return nil
}

// Ident implements migrate.RevisionReadWriter.
func (r *revisions) Ident() *migrate.TableIdent {
	return &migrate.TableIdent{Name: historyTable, Schema: r.schema}
}

// ReadRevisions implements migrate.RevisionReadWriter. The order is that of bytes, whatever the database's collation: Atlas searches the list by it.
func (r *revisions) ReadRevisions(ctx context.Context) ([]*migrate.Revision, error) {
	return r.read(ctx, `WHERE version <> $1 ORDER BY version COLLATE "C"`, cloudRow)
}

// ReadRevision implements migrate.RevisionReadWriter.
func (r *revisions) ReadRevision(ctx context.Context, version string) (*migrate.Revision, error) {
	found, err := r.read(ctx, "WHERE version = $1", version)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, migrate.ErrRevisionNotExist
	}
	return found[0], nil
}

func (r *revisions) read(ctx context.Context, where string, args ...any) ([]*migrate.Revision, error) {
	if !r.present {
		return nil, nil
	}
	rows, err := r.pg.Query(ctx, `
		SELECT version, description, type, applied, total, executed_at, execution_time,
			coalesce(error, ''), coalesce(error_stmt, ''), hash, coalesce(partial_hashes::text, 'null'), operator_version
		FROM `+r.table+" "+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*migrate.Revision, error) {
		var (
			v       migrate.Revision
			kind    int64
			took    int64
			partial string
		)
		err := row.Scan(&v.Version, &v.Description, &kind, &v.Applied, &v.Total, &v.ExecutedAt, &took,
			&v.Error, &v.ErrorStmt, &v.Hash, &partial, &v.OperatorVersion)
		if err != nil {
			return nil, err
		}
		v.Type, v.ExecutionTime = migrate.RevisionType(kind), time.Duration(took)
		if err := json.Unmarshal([]byte(partial), &v.PartialHashes); err != nil {
			return nil, fmt.Errorf("partial_hashes of version %s: %w", v.Version, err)
		}
		return &v, nil
	})
}

// WriteRevision implements migrate.RevisionReadWriter. It is not cancelled with ctx: the row has to tell what the statements did.
func (r *revisions) WriteRevision(ctx context.Context, v *migrate.Revision) error {
	if r.txStatus() == 'E' {
		return nil // the row will be rolled back with the rest of the file
	}
	partial, err := json.Marshal(v.PartialHashes)
	if err != nil {
		return err
	}
	ctx, cancel := settle(ctx)
	defer cancel()
	_, err = r.pg.Exec(ctx, "INSERT INTO "+r.table+` AS r (version, description, type, applied, total, executed_at, execution_time,
			error, error_stmt, hash, partial_hashes, operator_version)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12)
		ON CONFLICT (version) DO UPDATE SET type = excluded.type, applied = excluded.applied, total = excluded.total,
			execution_time = excluded.execution_time, error = excluded.error, error_stmt = excluded.error_stmt, hash = excluded.hash,
			partial_hashes = excluded.partial_hashes, operator_version = excluded.operator_version`,
		v.Version, v.Description, int64(v.Type), v.Applied, v.Total, v.ExecutedAt, int64(v.ExecutionTime),
		v.Error, v.ErrorStmt, v.Hash, string(partial), v.OperatorVersion)
	return err
}

// DeleteRevision implements migrate.RevisionReadWriter. The executor never asks for it.
func (r *revisions) DeleteRevision(context.Context, string) error { return errors.ErrUnsupported }

// started records, outside of a transaction, that a statement is about to be executed. The next WriteRevision of the version takes it back.
func (r *revisions) started(ctx context.Context, version string, number int, stmt string) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	_, err := r.pg.Exec(ctx, "UPDATE "+r.table+" SET error = $2, error_stmt = $3 WHERE version = $1",
		version, fmt.Sprintf("%sstatement %d was started, and its outcome is not known", doubt, number), stmt)
	return err
}

// inDoubt is the failure that a row of the history stands for, nil for any other row.
func inDoubt(d *directory, v *migrate.Revision) *failure {
	if !strings.HasPrefix(v.Error, doubt) {
		return nil
	}
	f := failf(v1alpha1.InDoubt, "an earlier run was cut off while statement %d was running, outside of a transaction; find out whether it took effect, "+
		"record that in %s as the documentation of the runner says, and try again; the statement: %s", v.Applied+1, historyTable, result.Cut(v.ErrorStmt, maxQuoted))
	f.Version, f.Statement = v.Version, int32(v.Applied+1)
	if file, ok := d.byVer[v.Version]; ok {
		f.File = file.Name()
	}
	return f
}

// adapt makes the row of a partly applied file go with the file as it is now, which Atlas does not: a file may have been corrected
// after its failing statement, and a person may have counted a statement as applied without a hash of it.
func (r *revisions) adapt(ctx context.Context, f *file, v *migrate.Revision, hash string) error {
	if v.Applied > len(f.stmts) {
		return failf(v1alpha1.HistoryConflict, "%d statements of %s are applied, but it has only %d: restore those that were applied",
			v.Applied, f.Name(), len(f.stmts))
	}
	sums := statementSums(f.stmts[:v.Applied])
	for i := range min(len(v.PartialHashes), v.Applied) {
		if v.PartialHashes[i] != sums[i] {
			return migrate.HistoryChangedError{File: f.Name(), Stmt: i + 1}
		}
	}
	if v.Total == len(f.stmts) && v.Hash == hash && len(v.PartialHashes) == v.Applied {
		return nil
	}
	v.Total, v.Hash, v.PartialHashes = len(f.stmts), hash, sums
	if v.Applied == v.Total {
		v.Error, v.ErrorStmt = "", "" // of a statement that the file no longer has
	}
	return r.WriteRevision(ctx, v)
}

// statementSums are the partial hashes of statements, as Atlas computes them: each covers all statements up to its own.
func statementSums(stmts []*migrate.Stmt) []string {
	sums := make([]string, len(stmts))
	h := sha256.New()
	for i, stmt := range stmts {
		_, _ = h.Write([]byte(stmt.Text))
		sums[i] = "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return sums
}
