// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

const (
	connectTimeout = 10 * time.Second
	// settleTimeout is how long what must be written after a cancelled statement may take.
	settleTimeout = 20 * time.Second
	// cancelTimeout is how long the database may take to answer a cancellation before the connection is given up.
	cancelTimeout = 20 * time.Second
	lockPause     = 100 * time.Millisecond
	lockMaxPause  = 2 * time.Second
	lockLogEvery  = 30 * time.Second
)

const (
	// lockName is the Atlas CLI's: runs of either keep the other out.
	lockName = "atlas_migrate_execute"
	// programName is what the database shows of our sessions.
	programName = "dbupgrade-runner"
)

// States of a transaction, as PostgreSQL calls them.
const (
	txIdle = 'I' // outside of one
	txOpen = 'T' // in one; PostgreSQL has another one for those that can only be rolled back
)

// session is the one connection of a run: lock, statements and history all use it, so that losing it ends all of them.
type session interface {
	// exec executes one statement, or without arguments perhaps several, as they are. A cancelled ctx has the database cancel the statement, and leaves
	// the connection intact.
	exec(ctx context.Context, query string, args ...any) error
	query(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	// statement executes a statement of a file, within the limits of the run.
	statement(ctx context.Context, query string) error
	// record executes what the history needs, whatever limits a file has set for itself.
	record(ctx context.Context, query string, args ...any) error
	// reset makes of the session what it was at connect, and sets the limits of the run.
	reset(ctx context.Context) error
	// readOnly has the database refuse every change from now on.
	readOnly(ctx context.Context) error
	// tryLock takes the lock of migrations, if nobody else has it.
	tryLock(ctx context.Context) (bool, error)
	unlock(ctx context.Context) error
	// begin a transaction, commit it, or roll it back.
	begin(ctx context.Context) error
	commit(ctx context.Context) error
	rollback(ctx context.Context) error
	txStatus() byte
	// transactional says that what a statement does can be rolled back.
	transactional(stmt string) bool
	// leftover tells of something invalid that a statement may have left behind; empty where there is nothing.
	leftover(ctx context.Context, stmt string, failed bool) (string, error)
	// foreign finds something that is not of the history in the schema, or where that is empty in the whole database; empty where there is nothing.
	foreign(ctx context.Context, schema, historySchema string) (string, error)
	// words of the dialect for the history.
	words() historyWords
	// lost says that the connection is gone.
	lost() bool
	// close ends the session, and with it the lock and any transaction.
	close()
}

// limits of a session; zero leaves the database's own.
type limits struct {
	lockTimeout      time.Duration
	statementTimeout time.Duration
}

// waitForLock asks again and again, as Atlas does: a statement that waits would itself hold up a CREATE INDEX CONCURRENTLY of the lock's holder.
func waitForLock(ctx context.Context, s session, timeout time.Duration, log *slog.Logger) error {
	start, pause := time.Now(), lockPause
	var told time.Time
	for {
		held, err := s.tryLock(ctx)
		if err != nil {
			return err
		}
		waited := time.Since(start)
		switch {
		case held:
			log.Info("lock taken", "waitedSeconds", waited.Seconds())
			return nil
		case waited >= timeout:
			return result.Errorf(v1alpha1.LockTimeout, "another run held the lock of migrations (advisory lock %s) for %s", lockName, timeout)
		}
		if time.Since(told) >= lockLogEvery {
			told = time.Now()
			log.Info("waiting for the lock: another run is migrating this database", "waitedSeconds", waited.Seconds(), "timeoutSeconds", timeout.Seconds())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(pause, timeout-waited)):
		}
		pause = min(2*pause, lockMaxPause)
	}
}

// scalar reads the one value of a query; where there is no row, it leaves to as it is.
func scalar(ctx context.Context, s session, to any, query string, args ...any) error {
	rows, err := s.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(to); err != nil {
			return err
		}
	}
	return rows.Err()
}

// settle is the context of what must still be written when ctx is cancelled: it ends settleTimeout later than ctx.
func settle(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-late.Done():
		case <-time.After(settleTimeout):
			cancel()
		}
	})
	return late, func() {
		stop()
		cancel()
	}
}

// newDialer: a statement may run for hours in silence; probes tell that from a server that is gone.
func newDialer() *net.Dialer {
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 4}}
}
