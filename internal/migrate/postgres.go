// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// findProbes makes the settings by which the database probes for us as we do for it, so that a runner whose node or network is gone does not keep lock and
// transaction for the two hours that an operating system waits, or the quarter of an hour for which it repeats what is not acknowledged. Servers that lack
// one of these settings go without.
const findProbes = `SELECT coalesce(string_agg(format('SET %s = %L; ', name, value), '' ORDER BY name), '') FROM pg_catalog.pg_settings JOIN (VALUES
	('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '15'), ('tcp_keepalives_count', '4'), ('tcp_user_timeout', '75s')
) AS probes (name, value) USING (name)`

// postgresSession is a session of PostgreSQL.
type postgresSession struct {
	config *pgx.ConnConfig
	db     *sql.DB
	conn   *sql.Conn
	pg     *pgx.Conn // the connection below conn
	// settings are what reset executes.
	settings string
	// touched says that there are limits, or settings that a file may have changed.
	touched bool
	limited bool
}

func connectPostgres(ctx context.Context, config *pgx.ConnConfig, l limits) (*postgresSession, error) {
	s := &postgresSession{config: config, db: stdlib.OpenDB(*config)}
	s.db.SetMaxOpenConns(1)
	if err := s.open(ctx, l); err != nil {
		_ = s.db.Close()
		return nil, err
	}
	return s, nil
}

func (s *postgresSession) open(ctx context.Context, l limits) error {
	var err error
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	err = s.conn.Raw(func(c any) error {
		s.pg = c.(*stdlib.Conn).Conn()
		return nil
	})
	if err != nil {
		return err
	}
	var version, probes string
	var backend uint32
	query := "SELECT version(), pg_backend_pid(), (" + findProbes + ")"
	if err := s.pg.QueryRow(ctx, query).Scan(&version, &backend, &probes); err != nil {
		return err
	}
	if !strings.HasPrefix(version, "PostgreSQL") || strings.Contains(version, "CockroachDB") {
		return result.Errorf(v1alpha1.DatabaseUnreachable, "the database is not PostgreSQL but another one that speaks its protocol: it cannot keep other runs out")
	}
	if backend != s.pg.PgConn().PID() {
		if err := s.refusePooler(ctx); err != nil {
			return err
		}
	}
	s.settings = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; " + probes
	if l.lockTimeout > 0 {
		s.settings += fmt.Sprintf("SET lock_timeout = %d; ", max(1, l.lockTimeout.Milliseconds()))
	}
	if l.statementTimeout > 0 {
		s.settings += fmt.Sprintf("SET statement_timeout = %d; ", max(1, l.statementTimeout.Milliseconds()))
	}
	s.limited = l != (limits{})
	return s.exec(ctx, probes)
}

// refusePooler looks whether what is between us and the database shares our server connection with others while we are idle, as PgBouncer does in its
// transaction mode: lock and settings would be somebody else's then. A second client, while it is in a transaction, is given the server connection that
// this one has used last; where each client has one of its own, it cannot be.
func (s *postgresSession) refusePooler(ctx context.Context) error {
	const tries = 3
	for range tries {
		mine, err := backendOf(ctx, s.pg)
		if err != nil {
			return err
		}
		other, err := pgx.ConnectConfig(ctx, s.config)
		if err != nil {
			return at(secondClient, err)
		}
		theirs, err := backendOf(ctx, other)
		_ = other.Close(ctx)
		if err != nil {
			return at(secondClient, err)
		}
		if theirs == mine {
			return result.Errorf(v1alpha1.DatabaseUnreachable, "the database is behind a pooler that gives a server connection away after each transaction or statement, "+
				"as PgBouncer does with pool_mode transaction: neither lock nor settings would last; let DATABASE_URL name the database itself, or a pool with pool_mode session")
		}
	}
	return nil
}

const secondClient = "connect a second time, to find out whether the pooler between us and the database shares connections (its pool must be larger than one)"

func backendOf(ctx context.Context, conn *pgx.Conn) (int, error) {
	var pid int
	err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return pid, err
}

func (s *postgresSession) close() {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	_ = s.pg.Close(ctx)
	_ = s.conn.Close()
	_ = s.db.Close()
}

// exec does not go through database/sql, which would give up the connection where ctx is cancelled just before, and would hide the error.
func (s *postgresSession) exec(ctx context.Context, query string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := s.pg.Exec(ctx, query, args...)
	return err
}

func (s *postgresSession) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.conn.QueryContext(ctx, query, args...)
}

// statement notes whether settings may be others than those of the run from now on.
func (s *postgresSession) statement(ctx context.Context, query string) error {
	s.touched = s.touched || mayDoSettings.MatchString(query)
	return s.exec(ctx, query)
}

var mayDoSettings = regexp.MustCompile(`(?i)\b(?:SET|set_config|DO|CALL)\b`)

// record goes without the limits of the run, and without the timeouts and the role that a file may have set for itself.
func (s *postgresSession) record(ctx context.Context, query string, args ...any) error {
	if !s.touched {
		return s.exec(ctx, query, args...)
	}
	idle := s.txStatus() == txIdle
	if idle {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	err := s.exec(ctx, "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL ROLE NONE")
	if err == nil {
		err = s.exec(ctx, query, args...)
	}
	if !idle {
		return err
	}
	if err != nil {
		return errors.Join(err, s.rollback(ctx))
	}
	return s.commit(ctx)
}

func (s *postgresSession) reset(ctx context.Context) error {
	s.touched = s.limited
	return s.exec(ctx, s.settings)
}

func (s *postgresSession) readOnly(ctx context.Context) error {
	return s.exec(ctx, "SET default_transaction_read_only = on")
}

func (s *postgresSession) begin(ctx context.Context) error    { return s.exec(ctx, "BEGIN") }
func (s *postgresSession) commit(ctx context.Context) error   { return s.exec(ctx, "COMMIT") }
func (s *postgresSession) rollback(ctx context.Context) error { return s.exec(ctx, "ROLLBACK") }

func (s *postgresSession) txStatus() byte { return s.pg.PgConn().TxStatus() }

func (s *postgresSession) lost() bool { return s.pg.IsClosed() }

func (s *postgresSession) transactional(string) bool { return true }

func (s *postgresSession) tryLock(ctx context.Context) (bool, error) {
	var held bool
	err := s.pg.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", lockID()).Scan(&held)
	return held, err
}

// unlock lets the next run begin without waiting until the database has noticed the end of this session.
func (s *postgresSession) unlock(ctx context.Context) error {
	return s.exec(ctx, "SELECT pg_advisory_unlock($1)", lockID())
}

// lockID is the number that Atlas makes of the lock's name.
func lockID() int64 {
	h := fnv.New32()
	_, _ = h.Write([]byte(lockName))
	return int64(h.Sum32())
}

// foreign counts what the Atlas CLI counts, but for what belongs to an extension: providers put some into every database.
func (s *postgresSession) foreign(ctx context.Context, schema, historySchema string) (string, error) {
	var found string
	err := s.pg.QueryRow(ctx, `
		WITH own AS (
			SELECT oid, nspname AS name FROM pg_catalog.pg_namespace n
			WHERE nspname NOT LIKE 'pg\_%' AND nspname NOT IN ('information_schema', 'crdb_internal') AND ($1 = '' OR nspname = $1)
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
		)
		SELECT format('found table %s in schema %s', to_json(c.relname), to_json(own.name)) FROM pg_catalog.pg_class c JOIN own ON own.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT (own.name = $2 AND c.relname = $3)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
		UNION ALL
		SELECT format('found schema %s', to_json(name)) FROM own WHERE $1 = '' AND name NOT IN ('public', $2)
		LIMIT 1`, schema, historySchema, historyTable).Scan(&found)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return found, err
}

var concurrently = regexp.MustCompile(`(?i)\bCONCURRENTLY\b`)

// leftover finds indexes that are invalid: a statement with CONCURRENTLY that fails leaves one, which costs like others and serves nobody, and the same
// statement with IF NOT EXISTS then passes it over. Those that another session is still building do not count.
func (s *postgresSession) leftover(ctx context.Context, stmt string, failed bool) (string, error) {
	if !concurrently.MatchString(stmt) || s.txStatus() != txIdle {
		return "", nil
	}
	var names string
	err := s.pg.QueryRow(ctx, `
		SELECT coalesce(string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname), '')
		FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT i.indisvalid AND ($1 = '' OR position(lower(c.relname) in lower($1)) > 0)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid AND p.pid <> pg_backend_pid())`,
		map[bool]string{true: "", false: stmt}[failed]).Scan(&names)
	if err != nil || names == "" {
		return "", err
	}
	return "invalid index(es) in the database: " + names + "; what this statement has left has to be dropped, with DROP INDEX CONCURRENTLY, before another try", nil
}

const (
	codeCanceled         = "57014"
	codeInTransaction    = "25001"
	codeTooManyClients   = "53300"
	codeLockNotAvailable = "55P03"
	codeDeadlock         = "40P01"
	codeSerialization    = "40001"
)

func explainPostgres(db *pgconn.PgError) databaseError {
	return databaseError{class: classOfState(db.Code), code: db.Code, words: postgresWords(db), cancelled: db.Code == codeCanceled}
}

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

func postgresWords(db *pgconn.PgError) string {
	words := db.Message
	if db.Detail != "" {
		words += "; detail: " + db.Detail
	}
	if db.Hint != "" {
		words += "; hint: " + db.Hint
	}
	if db.Code == codeInTransaction {
		words += "; to run this file without one, begin it with the line '-- atlas:txmode none'"
	}
	return words
}

func (s *postgresSession) words() historyWords {
	return historyWords{
		quote: func(name string) string { return pgx.Identifier{name}.Sanitize() },
		find: `SELECT DISTINCT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relname = $1 AND c.relkind IN ('r', 'p') AND n.nspname IN ($2, $3)`,
		// CREATE SCHEMA IF NOT EXISTS would ask for the right to create schemas even where there is nothing to create.
		schemaExists: "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1",
		createSchema: "CREATE SCHEMA ",
		columns: `(
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
		)`,
		// The order is that of bytes, whatever the database's collation: Atlas searches the list by it.
		order:  ` ORDER BY version COLLATE "C"`,
		values: "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12)",
		update: `ON CONFLICT (version) DO UPDATE SET type = excluded.type, applied = excluded.applied, total = excluded.total,
			execution_time = excluded.execution_time, error = excluded.error, error_stmt = excluded.error_stmt, hash = excluded.hash,
			partial_hashes = excluded.partial_hashes, operator_version = excluded.operator_version`,
		mark: "SET error = $1, error_stmt = $2 WHERE version = $3",
	}
}
