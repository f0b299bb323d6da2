// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

const (
	// settleTimeout is how long what must be written after a cancelled statement may take.
	settleTimeout = 20 * time.Second
	lockPause     = 100 * time.Millisecond
	lockMaxPause  = 2 * time.Second
	lockLogEvery  = 30 * time.Second
)

// lockName is the Atlas CLI's: runs of either keep the other out.
const lockName = "atlas_migrate_execute"

// probeRunner has the database probe for us as we do for it, so that a runner whose node or network is gone does not keep lock and transaction for the
// two hours that an operating system waits, or the quarter of an hour for which it repeats what is not acknowledged. Servers that lack one of these
// settings go without.
const probeRunner = `SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
	('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '15'), ('tcp_keepalives_count', '4'), ('tcp_user_timeout', '75s')
) AS probes (name, value) USING (name)`

// session is the one connection of a run. It is the ExecQuerier of Atlas's driver.
type session struct {
	db   *sql.DB
	conn *sql.Conn
	pg   *pgx.Conn // the connection below conn
}

func connect(ctx context.Context, config *pgx.ConnConfig) (*session, error) {
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, err
	}
	s := &session{db: db, conn: conn}
	err = conn.Raw(func(c any) error {
		s.pg = c.(*stdlib.Conn).Conn()
		return nil
	})
	if err == nil {
		_, err = s.pg.Exec(ctx, probeRunner)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

// close ends the session, and with it the lock and any transaction.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	_ = s.pg.Close(ctx)
	_ = s.conn.Close()
	_ = s.db.Close()
}

// ExecContext executes statements without arguments as they are, by the simple protocol. It does not go through database/sql, which would
// give up the connection where ctx is cancelled just before, and would hide the error.
func (s *session) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tag, err := s.pg.Exec(ctx, query, args...)
	return driver.RowsAffected(tag.RowsAffected()), err
}

// QueryContext is what Atlas inspects the database with.
func (s *session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, query, args...)
}

// lost says that the connection is gone.
func (s *session) lost() bool { return s.pg.IsClosed() }

// txStatus is I outside of a transaction, T in one, E in one that failed.
func (s *session) txStatus() byte { return s.pg.PgConn().TxStatus() }

// lock waits for the lock of migrations in this database. It asks again and again, as Atlas does: a statement that waits would itself hold
// up a CREATE INDEX CONCURRENTLY of the lock's holder.
func (s *session) lock(ctx context.Context, timeout time.Duration, log *slog.Logger) error {
	start, pause := time.Now(), lockPause
	var told time.Time
	for {
		var held bool
		if err := s.pg.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", lockID()).Scan(&held); err != nil {
			return err
		}
		waited := time.Since(start)
		switch {
		case held:
			log.Info("lock taken", "waitedSeconds", waited.Seconds())
			return nil
		case waited >= timeout:
			return failf(v1alpha1.LockTimeout, "another run held the lock of migrations (advisory lock %s) for %s", lockName, timeout)
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

// unlock lets the next run begin without waiting until the database has noticed the end of this session.
func (s *session) unlock(ctx context.Context) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	_, err := s.pg.Exec(ctx, "SELECT pg_advisory_unlock($1)", lockID())
	return err
}

// lockID is the number that Atlas makes of the lock's name.
func lockID() int64 {
	h := fnv.New32()
	_, _ = h.Write([]byte(lockName))
	return int64(h.Sum32())
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
