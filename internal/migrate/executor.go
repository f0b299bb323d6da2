// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	"ariga.io/atlas/sql/schema"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// executor executes files through Atlas's executor, for which it is the driver and the logger.
type executor struct {
	*postgres.Driver
	session   *session
	history   *revisions
	atlas     *migrate.Executor
	log       *slog.Logger
	urlSchema string

	file    *file // being executed, nil between files
	skipped int   // of its statements, applied by an earlier run
	number  int   // of its statement being executed, from 1; 0 before and after them
}

func newExecutor(m *migration, urlSchema string) (*executor, error) {
	drv, err := postgres.Open(m.session)
	if err != nil {
		return nil, err
	}
	pg, ok := drv.(*postgres.Driver)
	if !ok {
		return nil, failf(v1alpha1.DatabaseUnreachable, "the database is not PostgreSQL but another one that speaks its protocol: it cannot keep other runs out")
	}
	e := &executor{Driver: pg, session: m.session, history: m.history, log: m.Log, urlSchema: urlSchema}
	e.atlas, err = migrate.NewExecutor(e, m.dir, m.history, migrate.WithLogger(e), migrate.WithOperatorVersion("DBUpgrade "+m.Version))
	return e, err
}

// Each file finds the session as it was at connect, so that what it does cannot depend on which files ran before it in the same run.
const resetSession = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL"

// apply executes the statements of a file that are not applied yet, and returns how many.
func (e *executor) apply(ctx context.Context, f *file) (int, error) {
	e.file, e.skipped, e.number = f, 0, 0
	if _, err := e.session.ExecContext(ctx, resetSession+"; "+probeRunner); err != nil {
		return 0, err
	}
	execute := e.atlas.Execute
	if f.inTx {
		execute = e.inTransaction
	}
	if err := execute(ctx, f.File); err != nil {
		return 0, err
	}
	e.file = nil
	return len(f.stmts) - e.skipped, nil
}

// inTransaction executes a file and writes its row in one transaction.
func (e *executor) inTransaction(ctx context.Context, f migrate.File) error {
	if _, err := e.session.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	err := e.atlas.Execute(ctx, f)
	ctx, cancel := settle(ctx)
	defer cancel()
	if err != nil {
		if _, failed := e.session.ExecContext(ctx, "ROLLBACK"); failed != nil {
			e.log.Warn("the transaction was not rolled back; it ends with the connection", "error", failed.Error())
		}
		return err
	}
	e.number = 0
	_, err = e.session.ExecContext(ctx, "COMMIT")
	return at("commit", err)
}

// ExecContext executes one statement for Atlas's executor, which writes the row of the file afterwards, also where the statement failed.
func (e *executor) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	e.number++
	log := e.log.With("file", e.file.Name(), "statement", e.number, "verb", verb(query))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !e.file.inTx {
		if err := e.history.started(ctx, e.file.Version(), e.number, query); err != nil {
			return nil, err
		}
	}
	log.Info("statement started")
	start := time.Now()
	res, err := e.session.ExecContext(ctx, query, args...)
	if err == nil {
		err = e.checkTransaction()
	}
	if err != nil {
		log.Error("statement failed", "seconds", time.Since(start).Seconds(), "error", err.Error())
		return nil, e.cutOff(query, err)
	}
	log.Info("statement executed", "seconds", time.Since(start).Seconds())
	return res, nil
}

// checkTransaction fails where a statement, say a procedure, ended the transaction of its file or left one open.
func (e *executor) checkTransaction() error {
	want := byte('I')
	if e.file.inTx {
		want = 'T'
	}
	if e.session.txStatus() == want {
		return nil
	}
	return failf(v1alpha1.StatementFailed, "the statement began or ended a transaction, which is the runner's to do")
}

// cutOff is err, or the doubt in which it leaves a statement outside of a transaction: no answer will come any more.
func (e *executor) cutOff(query string, err error) error {
	if e.file.inTx || !e.session.lost() {
		return err
	}
	return failf(v1alpha1.InDoubt, "the connection was lost while the statement was running, outside of a transaction; find out whether it took effect, "+
		"record that in %s as the documentation of the runner says, and try again; the statement: %s; the error: %v",
		historyTable, result.Cut(query, maxQuoted), err)
}

// Log implements migrate.Logger.
func (e *executor) Log(entry migrate.LogEntry) {
	if f, ok := entry.(migrate.LogFile); ok {
		e.skipped, e.number = f.Skip, f.Skip
	}
}

// CheckClean implements migrate.CleanChecker as the CLI does it, which is the driver's way for a whole database or one schema. But the driver
// knows the schema of a URL only where it connects itself, and takes an empty schema for the history amiss.
func (e *executor) CheckClean(ctx context.Context, history *migrate.TableIdent) error {
	opts := &schema.InspectRealmOption{Mode: schema.InspectSchemas | schema.InspectTables}
	if e.urlSchema != "" {
		opts.Schemas = []string{e.urlSchema}
	}
	realm, err := e.InspectRealm(ctx, opts)
	if err != nil {
		return err
	}
	for _, s := range realm.Schemas {
		for _, t := range s.Tables {
			if s.Name != history.Schema || t.Name != history.Name {
				return &migrate.NotCleanError{State: realm, Reason: fmt.Sprintf("found table %q in schema %q", t.Name, s.Name)}
			}
		}
		if e.urlSchema == "" && s.Name != "public" && s.Name != history.Schema {
			return &migrate.NotCleanError{State: realm, Reason: fmt.Sprintf("found schema %q", s.Name)}
		}
	}
	return nil
}

// locate adds to a failure what was being executed.
func (e *executor) locate(f *v1alpha1.Failure) {
	if e.file == nil || f.File != "" {
		return
	}
	f.File, f.Version, f.Statement = e.file.Name(), e.file.Version(), int32(e.number)
	if e.number == 0 || f.Class != v1alpha1.Interrupted && f.Class != v1alpha1.DeadlineExceeded {
		return
	}
	if e.file.inTx {
		f.Error += fmt.Sprintf("; statement %d was cancelled, and the file rolled back", e.number)
	} else {
		f.Error += fmt.Sprintf("; statement %d was cancelled, and those before it stay applied", e.number)
	}
}
