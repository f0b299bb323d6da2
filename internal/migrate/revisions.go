// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

const (
	historyTable = "atlas_schema_revisions"
	// historySchema holds the history where neither the options nor the URL name a schema.
	historySchema = "atlas_schema_revisions"
	// cloudRow is no revision: the Atlas CLI keeps an identifier of the table in it.
	cloudRow = ".atlas_cloud_identifier"
	// maxQuoted is how many characters of a statement an error repeats.
	maxQuoted = 200
)

// historyWords are the statements of the history in one dialect.
type historyWords struct {
	quote        func(string) string
	find         string // of table $1 the schemas, of $2 and $3, that have it
	fold         bool   // names of schemas are the same in upper and lower case
	schemaExists string // counts the schemas called $1
	createSchema string // before its name
	columns      string // of the table
	order        string // by version
	values       string // of a row
	update       string // behind the values, for a row that is there
	mark         string // behind UPDATE and the table: error, error_stmt and version
}

// revisions is the history of migrations in a database, kept as the Atlas CLI keeps it. It is read once, under the lock.
type revisions struct {
	session
	historyWords
	schema  string
	table   string // quoted, with its schema
	present bool
	list    []*migrate.Revision // as they are in the database, by version
	// holding keeps rows back until flush: those of a transaction are nobody else's business before its end, and a plan writes none at all.
	holding bool
	held    []*migrate.Revision
}

// openRevisions finds the history: in the schema that the options name, in that of the URL, or in a schema of its own. It creates nothing.
func openRevisions(ctx context.Context, s session, named, urlSchema string) (*revisions, error) {
	r := &revisions{session: s, historyWords: s.words(), schema: historySchema}
	switch {
	case named != "":
		r.schema = named
	case urlSchema != "":
		r.schema = urlSchema
	}
	r.table = r.quote(r.schema) + "." + r.quote(historyTable)
	elsewhere, err := r.locate(ctx)
	if err != nil {
		return nil, err
	}
	if !r.present && elsewhere && named == "" {
		return nil, result.Errorf(v1alpha1.HistoryConflict, "the database URL names schema %s, which has no history of migrations, but schema %s has one: "+
			"to go on with that one, set apply.revisionsSchema (--revisions-schema) to it, or take the schema out of the URL; drop it if it is not in use", r.schema, historySchema)
	}
	return r, r.load(ctx)
}

// locate says whether the history is where it should be, and whether there is one where it would be by default.
func (r *revisions) locate(ctx context.Context) (bool, error) {
	rows, err := r.query(ctx, r.find, historyTable, r.schema, historySchema)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var elsewhere bool
	for rows.Next() {
		var schema string
		if err := rows.Scan(&schema); err != nil {
			return false, err
		}
		r.present = r.present || schema == r.schema || r.fold && strings.EqualFold(schema, r.schema)
		elsewhere = elsewhere || schema == historySchema
	}
	return elsewhere, rows.Err()
}

// create makes the table, and its schema, where they are missing.
func (r *revisions) create(ctx context.Context) error {
	if r.present {
		return nil
	}
	var schemas int
	if err := scalar(ctx, r.session, &schemas, r.schemaExists, r.schema); err != nil {
		return err
	}
	if err := r.begin(ctx); err != nil { // where the database has transactions for that, the two come together
		return err
	}
	if schemas == 0 {
		if err := r.exec(ctx, r.createSchema+r.quote(r.schema)); err != nil {
			return err
		}
	}
	if err := r.exec(ctx, "CREATE TABLE "+r.table+" "+r.columns); err != nil {
		return err
	}
	r.present = true
	return r.commit(ctx)
}

// load reads the history.
func (r *revisions) load(ctx context.Context) error {
	r.list = nil
	if !r.present {
		return nil
	}
	rows, err := r.query(ctx, `SELECT version, description, type, applied, total, executed_at, execution_time,
			coalesce(error, ''), coalesce(error_stmt, ''), hash, partial_hashes, operator_version FROM `+r.table+r.order)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			v       migrate.Revision
			kind    int64
			took    int64
			partial []byte
		)
		err := rows.Scan(&v.Version, &v.Description, &kind, &v.Applied, &v.Total, &v.ExecutedAt, &took,
			&v.Error, &v.ErrorStmt, &v.Hash, &partial, &v.OperatorVersion)
		if err != nil {
			return err
		}
		if v.Version == cloudRow {
			continue
		}
		v.Type, v.ExecutionTime = migrate.RevisionType(kind), time.Duration(took)
		if len(partial) > 0 {
			if err := json.Unmarshal(partial, &v.PartialHashes); err != nil {
				return fmt.Errorf("partial_hashes of version %s: %w", v.Version, err)
			}
		}
		r.list = append(r.list, &v)
	}
	return rows.Err()
}

// Ident implements migrate.RevisionReadWriter.
func (r *revisions) Ident() *migrate.TableIdent {
	return &migrate.TableIdent{Name: historyTable, Schema: r.schema}
}

// ReadRevisions implements migrate.RevisionReadWriter.
func (r *revisions) ReadRevisions(context.Context) ([]*migrate.Revision, error) { return r.list, nil }

// ReadRevision implements migrate.RevisionReadWriter.
func (r *revisions) ReadRevision(_ context.Context, version string) (*migrate.Revision, error) {
	for i := len(r.list) - 1; i >= 0; i-- { // a file of which there is a row is usually the last
		if v := r.list[i]; v.Version == version {
			again := *v // Atlas changes it before it is written
			return &again, nil
		} else if v.Version < version {
			break
		}
	}
	return nil, migrate.ErrRevisionNotExist
}

// WriteRevision implements migrate.RevisionReadWriter. It is not cancelled with ctx: the row has to tell what the statements did.
func (r *revisions) WriteRevision(ctx context.Context, v *migrate.Revision) error {
	if r.holding {
		if n := len(r.held); n > 0 && r.held[n-1].Version == v.Version {
			r.held = r.held[:n-1]
		}
		r.held = append(r.held, v)
		return nil
	}
	alone := r.txStatus() == txOpen // the transaction of one statement and this
	if err := r.write(ctx, v); err != nil || !alone {
		return err
	}
	ctx, cancel := settle(ctx)
	defer cancel()
	return at("commit", r.commit(ctx))
}

// hold keeps what is written from now on.
func (r *revisions) hold() { r.holding, r.held = true, nil }

// drop forgets what was held.
func (r *revisions) drop() { r.holding, r.held = false, nil }

// flush writes what was held.
func (r *revisions) flush(ctx context.Context) error {
	for _, v := range r.held {
		if err := r.write(ctx, v); err != nil {
			return err
		}
	}
	r.drop()
	return nil
}

func (r *revisions) write(ctx context.Context, v *migrate.Revision) error {
	hashes := v.PartialHashes
	if v.Applied == v.Total { // a complete file has none, and it is complete with its last statement
		hashes = nil
	}
	partial, err := json.Marshal(hashes)
	if err != nil {
		return err
	}
	ctx, cancel := settle(ctx)
	defer cancel()
	return r.record(ctx, "INSERT INTO "+r.table+` (version, description, type, applied, total, executed_at, execution_time,
			error, error_stmt, hash, partial_hashes, operator_version) `+r.values+" "+r.update,
		v.Version, v.Description, int64(v.Type), v.Applied, v.Total, v.ExecutedAt, int64(v.ExecutionTime),
		v.Error, v.ErrorStmt, v.Hash, string(partial), v.OperatorVersion)
}

// DeleteRevision implements migrate.RevisionReadWriter. The executor never asks for it.
func (r *revisions) DeleteRevision(context.Context, string) error { return errors.ErrUnsupported }

// doubt is the mark of a statement that was started where it cannot commit together with its row. The next write of the row takes it away.
// docs/runner.md shows it to users.
type doubt struct {
	id        string
	statement int
}

var doubtPattern = regexp.MustCompile(`^dbupgrade: in doubt: ([A-Z2-7]{8}): statement \d+ `)

func newDoubt(statement int) doubt { return doubt{id: rand.Text()[:8], statement: statement} }

func (d doubt) String() string {
	return fmt.Sprintf("dbupgrade: in doubt: %s: statement %d was started, and its outcome is not known", d.id, d.statement)
}

// doubtOf reads the mark of a row.
func doubtOf(v *migrate.Revision) (doubt, bool) {
	m := doubtPattern.FindStringSubmatch(v.Error)
	if m == nil {
		return doubt{}, false
	}
	return doubt{id: m[1], statement: v.Applied + 1}, true
}

// failure is what a doubt means for a run.
func (d doubt) failure(what, stmt string) *result.Error {
	return result.Errorf(v1alpha1.InDoubt, "%s while statement %d was running, outside of a transaction; find out whether it took effect, and answer, by the annotation %s "+
		"or by --resolve, skip:%s if it did, or redo:%s to have it executed again; the statement: %s",
		what, d.statement, v1alpha1.AnnotationResolve, d.id, d.id, result.Cut(strings.TrimRight(strings.TrimSpace(stmt), ";"), maxQuoted))
}

// mark records that a statement is about to be executed.
func (r *revisions) mark(ctx context.Context, version string, d doubt, stmt string) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	return r.record(ctx, "UPDATE "+r.table+" "+r.historyWords.mark, d.String(), stmt, version)
}

// unmark takes that back, for a statement that was refused and will be tried again.
func (r *revisions) unmark(ctx context.Context, version string) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	return r.record(ctx, "UPDATE "+r.table+" "+r.historyWords.mark, "", "", version)
}

// inDoubt is the failure that a row of the history stands for, nil for any other row.
func inDoubt(d *directory.Directory, v *migrate.Revision) error {
	open, ok := doubtOf(v)
	if !ok {
		return nil
	}
	f := open.failure("an earlier run was cut off", v.ErrorStmt)
	f.Version, f.Statement = v.Version, int32(open.statement)
	if file, ok := d.File(v.Version); ok {
		f.File = file.Name()
	}
	return f
}

// doubtError is the error of a statement of which a part may have been done. By its text the row of the history says so too.
type doubtError struct {
	doubt
	failed *result.Error
}

func (e *doubtError) Error() string { return e.String() }

func (e *doubtError) Unwrap() error { return e.failed }

// resolve writes a person's answer into the row that it is for: by its ID no answer is taken for another doubt, or twice.
func (r *revisions) resolve(ctx context.Context, d *directory.Directory, answer Resolution) (bool, error) {
	for _, v := range r.list {
		open, ok := doubtOf(v)
		if !ok || open.id != answer.ID {
			continue
		}
		if answer.Skip {
			v.Applied++
			if f, ok := d.File(v.Version); ok && f.Err() == nil { // it may have got more statements meanwhile, which are still to be executed
				v.Total = len(f.Statements())
			}
		}
		v.Error, v.ErrorStmt = "", ""
		return true, r.write(ctx, v)
	}
	return false, nil
}

// adapt makes the row of a partly applied file go with the file as it is now, which Atlas does not: a file may have been corrected
// after its failing statement, and a person may have counted a statement as applied without a hash of it.
func (r *revisions) adapt(ctx context.Context, f *directory.File, v *migrate.Revision) error {
	stmts := f.Statements()
	if v.Applied > len(stmts) {
		return result.Errorf(v1alpha1.HistoryConflict, "%d statements of %s are applied, but it has only %d: restore those that were applied",
			v.Applied, f.Name(), len(stmts))
	}
	sums := statementSums(stmts[:v.Applied])
	for i := range min(len(v.PartialHashes), v.Applied) {
		if v.PartialHashes[i] != sums[i] {
			return migrate.HistoryChangedError{File: f.Name(), Stmt: i + 1}
		}
	}
	if v.Total == len(stmts) && v.Hash == f.Sum && len(v.PartialHashes) == v.Applied {
		return nil
	}
	v.Total, v.Hash, v.PartialHashes = len(stmts), f.Sum, sums
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
