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
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// errDeadline is the cause of a context that was cancelled by the deadline of the run.
var errDeadline = errors.New("the deadline passed")

// failure is an error that knows what the result should say of it.
type failure struct{ v1alpha1.Failure }

func (f *failure) Error() string { return f.Failure.Error }

func failf(class v1alpha1.FailureClass, format string, args ...any) *failure {
	return &failure{v1alpha1.Failure{Class: class, Error: fmt.Sprintf(format, args...)}}
}

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

// failureOf says what err means. ctx is the run's: its cause tells a deadline from a signal. lost says that the connection is gone.
func failureOf(ctx context.Context, err error, lost bool) v1alpha1.Failure {
	var known *failure
	if errors.As(err, &known) {
		return known.Failure
	}
	if class := historyClass(err); class != "" {
		return v1alpha1.Failure{Class: class, Error: historyWords(err)}
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the connection's own timer may have been a moment ahead
	}
	// The text of Atlas's error holds the statement, which may hold data. Where the row could not be written either, the statement's error tells more.
	var stmt *migrate.StmtExecError
	if errors.As(err, &stmt) {
		err = stmt.Err
	}
	var db *pgconn.PgError
	if errors.As(err, &db) && (ctx.Err() == nil || db.Code != codeCanceled) {
		words := databaseWords(db)
		var step *stepError
		if errors.As(err, &step) {
			words = step.step + ": " + words
		}
		return v1alpha1.Failure{Class: classOfState(db.Code), SQLState: db.Code, Error: words}
	}
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

const (
	codeCanceled         = "57014"
	codeInTransaction    = "25001"
	codeTooManyClients   = "53300"
	codeLockNotAvailable = "55P03"
	codeDeadlock         = "40P01"
	codeSerialization    = "40001"
)

func classOfState(code string) v1alpha1.FailureClass {
	switch code {
	case codeLockNotAvailable, codeDeadlock, codeSerialization:
		return v1alpha1.LockTimeout
	case codeTooManyClients, "57P01", "57P02", "57P03", "57P05", "25P03":
		return v1alpha1.DatabaseUnreachable
	}
	if strings.HasPrefix(code, "08") {
		return v1alpha1.DatabaseUnreachable
	}
	return v1alpha1.StatementFailed
}

func databaseWords(db *pgconn.PgError) string {
	words := db.Message
	if db.Detail != "" {
		words += "; detail: " + db.Detail
	}
	if db.Hint != "" {
		words += "; hint: " + db.Hint
	}
	if db.Code == codeInTransaction {
		words += "; to run this file without one, begin it with the line '-- atlas:txmode none' and an empty line"
	}
	return words
}

func historyClass(err error) v1alpha1.FailureClass {
	var (
		nonLinear *migrate.HistoryNonLinearError
		notClean  *migrate.NotCleanError
		missing   *migrate.MissingMigrationError
		changed   migrate.HistoryChangedError
	)
	if errors.As(err, &nonLinear) || errors.As(err, &notClean) || errors.As(err, &missing) || errors.As(err, &changed) {
		return v1alpha1.HistoryConflict
	}
	return ""
}

// historyWords tell the user what to do; Atlas's own speak of its command line.
func historyWords(err error) string {
	var (
		nonLinear *migrate.HistoryNonLinearError
		notClean  *migrate.NotCleanError
		missing   *migrate.MissingMigrationError
		changed   migrate.HistoryChangedError
	)
	switch {
	case errors.As(err, &nonLinear):
		names := make([]string, len(nonLinear.OutOfOrder))
		for i, f := range nonLinear.OutOfOrder {
			names[i] = f.Name()
		}
		return fmt.Sprintf("not applied, but older than the last version applied: %s; rename what was added late to a newer version, run 'atlas migrate hash', and build the image again",
			strings.Join(names, ", "))
	case errors.As(err, &notClean):
		return fmt.Sprintf("the database has no history of migrations, but it is not empty: %s; if it is the right one, "+
			"record the version that it is at with 'atlas migrate set' once", notClean.Reason)
	case errors.As(err, &missing):
		return fmt.Sprintf("version %s is applied in part, but the directory does not have it: use an image that does", missing.Version)
	case errors.As(err, &changed):
		return fmt.Sprintf("%s is applied in part, and its statement %d, which was applied, has changed since: restore it, and change only what comes after",
			changed.File, changed.Stmt)
	default:
		return err.Error()
	}
}
