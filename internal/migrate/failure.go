// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// errDeadline is the cause of a context that was cancelled by the deadline of the run.
var errDeadline = errors.New("the deadline passed")

// stepError is an error of the database in a step that is not a statement of a file.
type stepError struct {
	step string
	error
}

func (e *stepError) Error() string { return e.step + ": " + e.error.Error() }

func (e *stepError) Unwrap() error { return e.error }

// at names the step of an error, if there is one.
func at(step string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{step, err}
}

// failureOf says what err means. ctx is the run's: its cause tells a deadline from a signal. The session is nil where there is none yet.
func failureOf(ctx context.Context, err error, s session) v1alpha1.Failure {
	if known, ok := errors.AsType[*result.Error](err); ok {
		return known.Failure
	}
	if words := historyConflict(err); words != "" {
		return v1alpha1.Failure{Class: v1alpha1.HistoryConflict, Error: words}
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the connection's own timer may have been a moment ahead
	}
	// The text of Atlas's error holds the statement, which may hold data. Where the row could not be written either, the statement's error tells more.
	if stmt, ok := errors.AsType[*migrate.StmtExecError](err); ok {
		err = stmt.Err
	}
	if db, ok := explain(err); ok && (ctx.Err() == nil || !db.cancelled) {
		if step, ok := errors.AsType[*stepError](err); ok {
			db.words = step.step + ": " + db.words
		}
		return v1alpha1.Failure{Class: db.class, SQLState: db.code, Error: db.words}
	}
	lost := s != nil && s.lost()
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errDeadline):
		return v1alpha1.Failure{Class: v1alpha1.DeadlineExceeded, Error: "the deadline passed" + unanswered(lost)}
	case ctx.Err() != nil:
		return v1alpha1.Failure{Class: v1alpha1.Interrupted, Error: "the runner was told to end" + unanswered(lost)}
	case lost:
		return v1alpha1.Failure{Class: v1alpha1.DatabaseUnreachable, Error: "connection lost: " + err.Error()}
	default:
		return v1alpha1.Failure{Class: v1alpha1.Internal, Error: err.Error()}
	}
}

func unanswered(lost bool) string {
	if lost {
		return "; the database did not answer in time, so the connection was closed"
	}
	return ""
}

// databaseError is an error that the database has answered with.
type databaseError struct {
	class v1alpha1.FailureClass
	code  string // SQLSTATE
	words string
	// cancelled tells that it is the answer to a cancellation.
	cancelled bool
}

// explain says what an error of the database means; false for errors that are not the database's.
func explain(err error) (databaseError, bool) {
	if db, ok := errors.AsType[*pgconn.PgError](err); ok {
		return explainPostgres(db), true
	}
	if db, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return explainMySQL(db), true
	}
	return databaseError{}, false
}

// historyConflict says what to do where the history of the database and the directory do not agree, which Atlas's own words say of its command line;
// empty for other errors.
func historyConflict(err error) string {
	if e, ok := errors.AsType[*migrate.HistoryNonLinearError](err); ok {
		names := make([]string, len(e.OutOfOrder))
		for i, f := range e.OutOfOrder {
			names[i] = f.Name()
		}
		return fmt.Sprintf("not applied, but older than the last version applied: %s; rename what was added late to a newer version, hash the directory and build the image "+
			"again, or choose with apply.execOrder (--exec-order) to apply them (non-linear) or to pass them over (linear-skip)", strings.Join(names, ", "))
	}
	if e, ok := errors.AsType[*migrate.NotCleanError](err); ok {
		return fmt.Sprintf("the database has no history of migrations, but it is not empty: %s; if it is the right one, set apply.baseline (--baseline) to the version that it is at, "+
			"or apply.allowDirty (--allow-dirty) to execute every file in it", e.Reason)
	}
	if e, ok := errors.AsType[*migrate.MissingMigrationError](err); ok {
		return fmt.Sprintf("version %s is applied in part, but the directory does not have it: use an image that does", e.Version)
	}
	if e, ok := errors.AsType[migrate.HistoryChangedError](err); ok {
		return fmt.Sprintf("%s is applied in part, and its statement %d, which was applied, has changed since: restore it, and change only what comes after", e.File, e.Stmt)
	}
	return ""
}
