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

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// executor executes files through Atlas's executor, for which it is the logger and what of a driver that asks for: ExecContext and CheckClean.
type executor struct {
	migrate.Driver // nil: there is nothing else to ask for
	session
	history   *revisions
	atlas     *migrate.Executor
	log       *slog.Logger
	txMode    v1alpha1.TxMode
	urlSchema string
	retries   *retries

	file    *directory.File // being executed, nil between files
	skipped int             // of its statements, applied by an earlier run
	number  int             // of its statement being executed, from 1; 0 before and after them
}

func newExecutor(m *migration) (*executor, error) {
	e := &executor{session: m.session, history: m.history, log: m.Log, txMode: m.TxMode, urlSchema: m.target.schema,
		retries: &retries{pause: m.retryPause, count: &m.status.LockRetries, log: m.Log}}
	options := []migrate.ExecutorOption{
		migrate.WithLogger(e), migrate.WithOperatorVersion("DBUpgrade " + m.Version),
		migrate.WithAllowDirty(m.AllowDirty), migrate.WithBaselineVersion(m.Baseline), migrate.WithExecOrder(execOrders[m.ExecOrder]),
	}
	var err error
	e.atlas, err = migrate.NewExecutor(e, m.dir, m.history, options...)
	return e, err
}

var execOrders = map[v1alpha1.ExecOrder]migrate.ExecOrder{
	v1alpha1.ExecOrderLinear:     migrate.ExecOrderLinear,
	v1alpha1.ExecOrderLinearSkip: migrate.ExecOrderLinearSkip,
	v1alpha1.ExecOrderNonLinear:  migrate.ExecOrderNonLinear,
}

// inTransaction says whether a file and its row go into one transaction. Outside of one, each statement gets its own where it can be rolled back.
func (e *executor) inTransaction(f *directory.File) bool {
	if !e.wantsTransaction(f) {
		return false
	}
	for _, stmt := range f.Statements() {
		if !e.transactional(stmt.Text) {
			return false
		}
	}
	return true
}

func (e *executor) wantsTransaction(f *directory.File) bool {
	switch {
	case e.txMode == v1alpha1.TxModeAll:
		return true
	case f.TxMode != "":
		return f.TxMode == v1alpha1.TxModeFile
	default:
		return e.txMode != v1alpha1.TxModeNone
	}
}

// apply executes the statements of a file that are not applied yet, and returns how many.
func (e *executor) apply(ctx context.Context, f *directory.File) (int, error) {
	execute := e.execute
	if e.txMode != v1alpha1.TxModeAll && e.inTransaction(f) {
		execute = func(ctx context.Context, f *directory.File) error {
			return e.retries.do(ctx, f.Name(), e.rolledBack, func() error {
				return e.transact(ctx, func() error { return e.execute(ctx, f) })
			})
		}
	}
	if err := execute(ctx, f); err != nil {
		return 0, err
	}
	e.file = nil
	return len(f.Statements()) - e.skipped, nil
}

// execute executes a file in the transaction that there is, or in none. It finds the session as it was at connect, so that what it does cannot depend on
// which files ran before it in the same run.
func (e *executor) execute(ctx context.Context, f *directory.File) error {
	e.file, e.skipped, e.number = f, 0, 0
	if err := e.reset(ctx); err != nil {
		return err
	}
	return e.atlas.Execute(ctx, f)
}

// transact does something and writes the rows of it in one transaction.
func (e *executor) transact(ctx context.Context, do func() error) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	e.history.hold()
	err := do()
	settled, cancel := settle(ctx)
	defer cancel()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		e.number = 0
		err = e.history.flush(settled)
	}
	if err == nil {
		err = at("commit", e.commit(settled))
	}
	if err == nil {
		return nil
	}
	e.history.drop()
	if failed := e.rollback(settled); failed != nil {
		e.log.Warn("the transaction was not rolled back; it ends with the connection", "error", failed.Error())
	}
	return err
}

// ExecContext executes one statement for Atlas's executor, which writes the row of the file afterwards, also where the statement failed.
func (e *executor) ExecContext(ctx context.Context, query string, _ ...any) (sql.Result, error) {
	e.number++
	if e.txStatus() != txIdle {
		return nil, e.perform(ctx, query)
	}
	return nil, e.retries.do(ctx, fmt.Sprintf("%s statement %d", e.file.Name(), e.number), repeatable(query), func() error {
		return e.alone(ctx, query)
	})
}

// alone executes a statement of a file that has no transaction. Where it can be rolled back, it gets one for itself and its row, which ends when that is
// written; else its row says, before, that it was started.
func (e *executor) alone(ctx context.Context, query string) error {
	if e.wantsTransaction(e.file) && e.transactional(query) {
		if err := e.begin(ctx); err != nil {
			return err
		}
		err := e.perform(ctx, query)
		if err != nil {
			settled, cancel := settle(ctx)
			defer cancel()
			_ = e.rollback(settled) // where that fails, so does what comes next
		}
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	open := newDoubt(e.number)
	if err := e.history.mark(ctx, e.file.Version(), open, query); err != nil {
		return err
	}
	err := e.perform(ctx, query)
	switch {
	case err == nil:
		return e.checkLeftover(ctx, query)
	case e.lost():
		f := open.failure("the connection was lost", query)
		f.Failure.Error += "; the error: " + err.Error()
		return f
	case procedural.MatchString(query) && failureOf(ctx, err, e.session).Class != v1alpha1.StatementFailed: // which is final; others are tried again
		return &doubtError{open, open.failure(failureOf(ctx, err, e.session).Error, query)}
	case repeatable(query)(err):
		return e.unmarked(ctx, err)
	default:
		return e.explainLeftover(ctx, query, err)
	}
}

// unmarked takes back the mark of a statement that the database has refused, so that nobody who looks while it waits sees a doubt.
func (e *executor) unmarked(ctx context.Context, err error) error {
	if failed := e.history.unmark(ctx, e.file.Version()); failed != nil {
		return failed
	}
	return err
}

// perform executes a statement.
func (e *executor) perform(ctx context.Context, query string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	log := e.log.With("file", e.file.Name(), "statement", e.number, "verb", verb(query))
	log.Info("statement started")
	want, start := e.txStatus(), time.Now()
	err := e.statement(ctx, query)
	if err == nil && e.txStatus() != want {
		err = result.Errorf(v1alpha1.StatementFailed, "the statement began or ended a transaction, which is the runner's to do")
	}
	if err != nil {
		log.Error("statement failed", "seconds", time.Since(start).Seconds(), "error", err.Error())
		return err
	}
	log.Info("statement executed", "seconds", time.Since(start).Seconds())
	return nil
}

// checkLeftover fails where a statement succeeded and left something invalid, as CREATE INDEX CONCURRENTLY IF NOT EXISTS does with what an earlier try has
// left.
func (e *executor) checkLeftover(ctx context.Context, query string) error {
	ctx, cancel := settle(ctx) // the statement was executed, and has to be counted
	defer cancel()
	left, err := e.leftover(ctx, query, false)
	if err == nil && left != "" {
		err = result.Errorf(v1alpha1.StatementFailed, "the statement was executed, but it did not do its work: %s", left)
	}
	return err
}

// explainLeftover adds to the error of a statement what that has left.
func (e *executor) explainLeftover(ctx context.Context, query string, err error) error {
	settled, cancel := settle(ctx)
	defer cancel()
	left, failed := e.leftover(settled, query, true)
	if failed != nil || left == "" {
		return err
	}
	f := failureOf(ctx, err, e.session)
	f.Error += "; " + left
	if f.Class == v1alpha1.LockTimeout {
		f.Class = v1alpha1.StatementFailed // to be tried again by a person only
	}
	return &result.Error{Failure: f}
}

func isLockTimeout(err error) bool {
	db, ok := explain(err)
	return ok && db.class == v1alpha1.LockTimeout
}

// rolledBack is isLockTimeout for transactions, of which nothing may be left: beginning another one can commit it.
func (e *executor) rolledBack(err error) bool { return e.txStatus() == txIdle && isLockTimeout(err) }

// repeatable is isLockTimeout for statements that leave nothing behind where they fail.
func repeatable(query string) func(error) bool {
	return func(err error) bool { return !concurrently.MatchString(query) && isLockTimeout(err) }
}

// Log implements migrate.Logger.
func (e *executor) Log(entry migrate.LogEntry) {
	if f, ok := entry.(migrate.LogFile); ok {
		e.skipped, e.number = f.Skip, f.Skip
	}
}

// CheckClean implements migrate.CleanChecker, for the schema of the URL or for the whole database.
func (e *executor) CheckClean(ctx context.Context, history *migrate.TableIdent) error {
	found, err := e.foreign(ctx, e.urlSchema, history.Schema)
	if err != nil || found == "" {
		return err
	}
	return &migrate.NotCleanError{Reason: found}
}

// place adds to a failure what was being executed.
func (e *executor) place(f *v1alpha1.Failure) {
	if e.file == nil || f.File != "" {
		return
	}
	f.File, f.Version, f.Statement = e.file.Name(), e.file.Version(), int32(e.number)
	if e.number == 0 || f.Class != v1alpha1.Interrupted && f.Class != v1alpha1.DeadlineExceeded {
		return
	}
	switch {
	case e.txMode == v1alpha1.TxModeAll:
		f.Error += fmt.Sprintf("; statement %d was cancelled, and all files rolled back", e.number)
	case e.inTransaction(e.file):
		f.Error += fmt.Sprintf("; statement %d was cancelled, and the file rolled back", e.number)
	default:
		f.Error += fmt.Sprintf("; statement %d was cancelled, and those before it stay applied", e.number)
	}
}
