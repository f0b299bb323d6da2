// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package atlas

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ariga.io/atlas/sql/migrate"
	_ "ariga.io/atlas/sql/mysql"
	_ "ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/sqlclient"
	_ "github.com/go-sql-driver/mysql"
)

const (
	linear    = migrate.ExecOrderLinear
	nonLinear = migrate.ExecOrderNonLinear
)

// inOrder is Atlas's library with an order of execution, which this release of the CLI cannot choose.
func inOrder(order migrate.ExecOrder) func(t *testing.T, dir, url, schema string) error {
	return func(t *testing.T, dir, url, schema string) error {
		t.Helper()
		return withExecutor(t, dir, url, schema, func(ex *migrate.Executor) error { return ex.ExecuteN(t.Context(), 0) }, migrate.WithExecOrder(order))
	}
}

// to is Atlas's library with a version to end at, which the CLI has no flag for.
func to(version string) func(t *testing.T, dir, url, schema string) error {
	return func(t *testing.T, dir, url, schema string) error {
		t.Helper()
		return withExecutor(t, dir, url, schema, func(ex *migrate.Executor) error { return ex.ExecuteTo(t.Context(), version) })
	}
}

func withExecutor(t *testing.T, path, url, schema string, use func(*migrate.Executor) error, opts ...migrate.ExecutorOption) error {
	t.Helper()
	client, err := sqlclient.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	dir, err := migrate.NewLocalDir(path)
	if err != nil {
		t.Fatal(err)
	}
	ex, err := migrate.NewExecutor(client.Driver, dir, &table{client.DB, schema}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	err = use(ex)
	t.Logf("Atlas: %v", err)
	if errors.Is(err, migrate.ErrNoPendingFiles) {
		return nil // as the CLI takes it
	}
	return err
}

// table is a history that the CLI made, as plainly as can be.
type table struct {
	db     *sql.DB
	schema string
}

func (r *table) name() string { return r.schema + ".atlas_schema_revisions" }

func (r *table) Ident() *migrate.TableIdent {
	return &migrate.TableIdent{Name: "atlas_schema_revisions", Schema: r.schema}
}

func (r *table) ReadRevisions(ctx context.Context) ([]*migrate.Revision, error) {
	rows, err := r.db.QueryContext(ctx, "SELECT version, description, type, applied, total, COALESCE(error, ''), COALESCE(error_stmt, ''), hash, COALESCE(partial_hashes, 'null') FROM "+
		r.name()+" ORDER BY version")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*migrate.Revision
	for rows.Next() {
		var (
			v      migrate.Revision
			hashes []byte
		)
		if err := rows.Scan(&v.Version, &v.Description, &v.Type, &v.Applied, &v.Total, &v.Error, &v.ErrorStmt, &v.Hash, &hashes); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(hashes, &v.PartialHashes); err != nil {
			return nil, err
		}
		all = append(all, &v)
	}
	return all, rows.Err()
}

func (r *table) ReadRevision(ctx context.Context, version string) (*migrate.Revision, error) {
	all, err := r.ReadRevisions(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		if v.Version == version {
			return v, nil
		}
	}
	return nil, migrate.ErrRevisionNotExist
}

func (r *table) WriteRevision(ctx context.Context, v *migrate.Revision) error {
	if err := r.DeleteRevision(ctx, v.Version); err != nil {
		return err
	}
	hashes, err := json.Marshal(v.PartialHashes)
	if err != nil {
		return err
	}
	_, err = r.db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO %s (version, description, type, applied, total, error, error_stmt, hash, partial_hashes,
		executed_at, execution_time, operator_version) VALUES (%s, %s, %d, %d, %d, %s, %s, %s, %s, '2026-01-01', 0, '')`, r.name(),
		literal(v.Version), literal(v.Description), v.Type, v.Applied, v.Total, literal(v.Error), literal(v.ErrorStmt), literal(v.Hash), literal(string(hashes))))
	return err
}

func (r *table) DeleteRevision(ctx context.Context, version string) error {
	_, err := r.db.ExecContext(ctx, "DELETE FROM "+r.name()+" WHERE version = "+literal(version))
	return err
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
