// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// sessionVariables are what a file may set that changes the meaning of the statements of the next. COM_RESET_CONNECTION would set them back too, and
// release the lock.
var sessionVariables = []string{
	"sql_mode", "foreign_key_checks", "unique_checks", "time_zone", "sql_safe_updates", "character_set_client", "character_set_connection",
	"collation_connection", "lock_wait_timeout", "innodb_lock_wait_timeout", "tx_isolation", "transaction_isolation",
}

// mysqlSession is a session of MySQL or MariaDB.
type mysqlSession struct {
	db   *sql.DB
	conn *sql.Conn
	id   int64 // by which the server knows it
	fold bool  // the server takes names of databases as the same in upper and lower case
	// killer is a second session, which cancels what the first one does. It is opened at once: a token that lets us in may not live long.
	killer *sql.Conn
	// settings are what reset executes.
	settings []string
	limits   limits
	status   byte
	dead     bool
	// touched says that a statement, say a procedure, may have left a transaction open, or have turned autocommit off.
	touched bool
}

func connectMySQL(ctx context.Context, config *mysql.Config, l limits) (*mysqlSession, error) {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	s := &mysqlSession{db: sql.OpenDB(connector), limits: l, status: txIdle}
	s.db.SetMaxOpenConns(2)
	greeting, cancel := context.WithTimeoutCause(ctx, config.Timeout, errSilent) // the driver's own limit ends with the dialling
	defer cancel()
	if err := s.open(greeting, config.DBName); err != nil {
		_ = s.db.Close()
		if greeting.Err() != nil && ctx.Err() == nil {
			err = context.Cause(greeting)
		}
		return nil, err
	}
	return s, nil
}

var errSilent = errors.New("the server did not answer in time")

func (s *mysqlSession) open(ctx context.Context, database string) error {
	var err error
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	if s.killer, err = s.db.Conn(ctx); err != nil {
		return err
	}
	var servers [2]string
	for i, conn := range []*sql.Conn{s.conn, s.killer} { // neither is closed for being idle while the other one works for hours
		if _, err := conn.ExecContext(ctx, "SET SESSION wait_timeout = 2147483"); err != nil {
			return err
		}
		if err := conn.QueryRowContext(ctx, "SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id)").Scan(&servers[i]); err != nil {
			return err
		}
	}
	if servers[0] != servers[1] { // the killer would kill a stranger's statement
		return result.Errorf(v1alpha1.DatabaseUnreachable, "the host of the database URL stands for several servers: the lock that keeps other runs out is that of one; let DATABASE_URL name one")
	}
	if err := s.conn.QueryRowContext(ctx, "SELECT CONNECTION_ID(), @@lower_case_table_names <> 0").Scan(&s.id, &s.fold); err != nil {
		return err
	}
	if database != "" {
		s.settings = append(s.settings, "USE "+quoteMySQL(database))
	}
	variables, err := s.variables(ctx)
	if err != nil {
		return err
	}
	if l := s.limits.lockTimeout; l > 0 {
		seconds := int(math.Ceil(l.Seconds()))
		variables = append(variables, fmt.Sprintf("SESSION lock_wait_timeout = %d, SESSION innodb_lock_wait_timeout = %d", seconds, seconds))
	}
	s.settings = append(s.settings, "SET "+strings.Join(variables, ", "))
	return s.reset(ctx)
}

// variables are the assignments that give the session's variables the values that they have now.
func (s *mysqlSession) variables(ctx context.Context) ([]string, error) {
	rows, err := s.conn.QueryContext(ctx, "SHOW SESSION VARIABLES WHERE Variable_name IN ('"+strings.Join(sessionVariables, "', '")+"')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []string{"SESSION autocommit = 1", "SESSION completion_type = 'NO_CHAIN'"} // whatever the server or the URL says: rows are committed as they are written
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		all = append(all, fmt.Sprintf("SESSION %s = %s", name, literalMySQL(value)))
	}
	return all, rows.Err()
}

// literalMySQL is a value as SHOW VARIABLES prints it, to be set again.
func literalMySQL(value string) string {
	if number.MatchString(value) {
		return value
	}
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(value) + "'"
}

var number = regexp.MustCompile(`^\d+$`)

func quoteMySQL(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func (s *mysqlSession) close() {
	_ = s.conn.Close()
	_ = s.killer.Close()
	_ = s.db.Close()
}

// statement has a timer of ours, since MySQL has one for queries only.
func (s *mysqlSession) statement(ctx context.Context, query string) error {
	s.touched = s.touched || !s.transactional(query) && !ddl.MatchString(query)
	err := s.limited(ctx, query)
	if err != nil && s.touched && s.status == txIdle && !s.dead {
		settled, cancel := settle(ctx)
		defer cancel()
		_ = s.exec(settled, "ROLLBACK") // where that fails, so does what comes next
	}
	return err
}

func (s *mysqlSession) limited(ctx context.Context, query string) error {
	limit := s.limits.statementTimeout
	if limit == 0 {
		return s.exec(ctx, query)
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := s.exec(timed, query)
	if err != nil && timed.Err() != nil && ctx.Err() == nil && !s.dead {
		return result.Errorf(v1alpha1.StatementFailed, "the statement was cancelled: it ran for longer than the statement timeout of %s", limit)
	}
	return err
}

func (s *mysqlSession) exec(ctx context.Context, query string, args ...any) error {
	_, err := attended(s, ctx, func(ctx context.Context) (sql.Result, error) { return s.conn.ExecContext(ctx, query, args...) })
	if ctx.Err() != nil && !s.dead { // a request to kill may have come after the end of its statement, and would hit the next
		settled, cancel := settle(ctx)
		defer cancel()
		_, _ = s.conn.ExecContext(settled, "DO 0")
	}
	return err
}

// record commits, with the row, what a statement may have left open.
func (s *mysqlSession) record(ctx context.Context, query string, args ...any) error {
	err := s.exec(ctx, query, args...)
	if err == nil && s.touched && s.status == txIdle {
		err = s.exec(ctx, "COMMIT")
	}
	return err
}

func (s *mysqlSession) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return attended(s, ctx, func(ctx context.Context) (*sql.Rows, error) { return s.conn.QueryContext(ctx, query, args...) })
}

// attended does something on the connection. It does not give ctx to the driver, which would close the connection when that is cancelled: it has the server
// end what it is at, and gives the connection up only if it does not answer.
func attended[T any](s *mysqlSession, ctx context.Context, do func(context.Context) (T, error)) (T, error) { //nolint:revive // methods have no type parameters
	if err := ctx.Err(); err != nil {
		var none T
		return none, err
	}
	inner, abandon := context.WithCancel(context.WithoutCancel(ctx))
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-done:
		case <-ctx.Done():
			s.kill(done, abandon)
		}
	}()
	got, err := do(inner) // rows are read later, so inner is cancelled by nobody but kill
	close(done)
	<-stopped
	var answer *mysql.MySQLError
	if err != nil && (!errors.As(err, &answer) || answer.Number == errKilled || answer.Number == errShutdown) {
		s.dead = true
	}
	return got, err
}

// kill asks the server to end the statement until it is done, again and again: a request that comes before its statement is without effect.
func (s *mysqlSession) kill(done <-chan struct{}, abandon func()) {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	for {
		_, _ = s.killer.ExecContext(ctx, fmt.Sprintf("KILL QUERY %d", s.id)) // if it cannot be sent, the time limit ends the statement
		select {
		case <-done:
			return
		case <-ctx.Done():
			abandon()
			return
		case <-time.After(cancelPause):
		}
	}
}

func (s *mysqlSession) reset(ctx context.Context) error {
	s.touched = false
	for _, set := range s.settings {
		if err := s.exec(ctx, set); err != nil {
			return err
		}
	}
	return nil
}

func (s *mysqlSession) readOnly(ctx context.Context) error {
	return s.exec(ctx, "SET SESSION TRANSACTION READ ONLY")
}

func (s *mysqlSession) begin(ctx context.Context) error {
	if s.touched { // doing so later, in the transaction, would commit it
		if err := s.exec(ctx, "SET SESSION autocommit = 1"); err != nil {
			return err
		}
	}
	return s.tx(ctx, "START TRANSACTION", txOpen)
}
func (s *mysqlSession) commit(ctx context.Context) error   { return s.tx(ctx, "COMMIT", txIdle) }
func (s *mysqlSession) rollback(ctx context.Context) error { return s.tx(ctx, "ROLLBACK", txIdle) }

func (s *mysqlSession) tx(ctx context.Context, statement string, then byte) error {
	if err := s.exec(ctx, statement); err != nil {
		return err
	}
	s.status = then
	return nil
}

func (s *mysqlSession) txStatus() byte { return s.status }

func (s *mysqlSession) lost() bool { return s.dead }

// dml are the statements that neither commit by themselves nor can do so through what they call. A procedure can.
var dml = regexp.MustCompile(`(?i)^\s*(INSERT|UPDATE|DELETE|REPLACE|SELECT|WITH|VALUES|DO)\b`)

// ddl are statements that leave no transaction open.
var ddl = regexp.MustCompile(`(?i)^\s*(?:CREATE|ALTER|DROP|RENAME|TRUNCATE|GRANT|REVOKE)\b`)

// settings of the session are none of a transaction, but harmless in one, unless they end it.
var (
	setting   = regexp.MustCompile(`(?i)^\s*SET\b`)
	committer = regexp.MustCompile(`(?i)\b(AUTOCOMMIT|STATEMENT|PASSWORD|ROLE|GLOBAL|PERSIST|PERSIST_ONLY)\b`)
)

// transactional is false for all statements that it does not know: at worst one of them is taken to be in doubt that is not.
func (s *mysqlSession) transactional(stmt string) bool {
	stmt = leadingComments.ReplaceAllString(stmt, "")
	return dml.MatchString(stmt) || setting.MatchString(stmt) && !committer.MatchString(stmt)
}

// leadingComments are those before a statement, but for such as hold a part of it.
var leadingComments = regexp.MustCompile(`^(?:\s+|--[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|/\*(?:[^!M*]|\*[^/])(?s:.*?)\*/)+`)

// tryLock asks for a lock of the whole server, since there is no other. The server has it wait for a second: thus whoever waits comes next.
func (s *mysqlSession) tryLock(ctx context.Context) (bool, error) {
	var held sql.NullBool
	err := scalar(ctx, s, &held, "SELECT GET_LOCK(?, 1)", lockName)
	return held.Bool, err
}

func (s *mysqlSession) unlock(ctx context.Context) error {
	return s.exec(ctx, "DO RELEASE_LOCK(?)", lockName)
}

func (s *mysqlSession) leftover(context.Context, string, bool) (string, error) { return "", nil }

func (s *mysqlSession) foreign(ctx context.Context, schema, historySchema string) (string, error) {
	var found string
	err := scalar(ctx, s, &found, `
		SELECT CONCAT('found table "', table_name, '" in database "', table_schema, '"') FROM information_schema.tables
		WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', 'innodb')
			AND (? = '' OR table_schema = ?) AND NOT (table_schema = ? AND table_name = ?)
		UNION ALL
		SELECT CONCAT('found database "', schema_name, '"') FROM information_schema.schemata
		WHERE ? = '' AND schema_name NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', 'innodb', ?)
		LIMIT 1`, schema, schema, historySchema, historyTable, schema, historySchema)
	return found, err
}

// Numbers of errors that mean something to us.
const (
	errTooManyConnections = 1040
	errShutdown           = 1053
	errTooManyUser        = 1203
	errLockWaitTimeout    = 1205
	errLockDeadlock       = 1213
	errUserLimit          = 1226
	errQueryInterrupted   = 1317
	errKilled             = 1927
	errLockNowait         = 3572
)

func explainMySQL(db *mysql.MySQLError) databaseError {
	found := databaseError{class: v1alpha1.StatementFailed, words: db.Error()}
	if db.SQLState != [5]byte{} {
		found.code = string(db.SQLState[:])
	}
	switch db.Number {
	case errLockWaitTimeout, errLockDeadlock, errLockNowait:
		found.class = v1alpha1.LockTimeout
	case errTooManyConnections, errTooManyUser, errUserLimit, errShutdown, errKilled:
		found.class = v1alpha1.DatabaseUnreachable
	case errQueryInterrupted:
		found.cancelled = true
	}
	return found
}

func (s *mysqlSession) words() historyWords {
	return historyWords{
		quote: quoteMySQL,
		find: `SELECT DISTINCT table_schema FROM information_schema.tables
			WHERE table_name = ? AND table_type = 'BASE TABLE' AND table_schema IN (?, ?)`,
		fold:         s.fold,
		schemaExists: "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?",
		createSchema: "CREATE DATABASE ",
		columns: "(" +
			"`version` varchar(255) NOT NULL, " +
			"`description` varchar(255) NOT NULL, " +
			"`type` bigint unsigned NOT NULL DEFAULT 2, " +
			"`applied` bigint NOT NULL DEFAULT 0, " +
			"`total` bigint NOT NULL DEFAULT 0, " +
			"`executed_at` timestamp NULL, " +
			"`execution_time` bigint NOT NULL, " +
			"`error` longtext NULL, " +
			"`error_stmt` longtext NULL, " +
			"`hash` varchar(255) NOT NULL, " +
			"`partial_hashes` json NULL, " +
			"`operator_version` varchar(255) NOT NULL, " +
			"PRIMARY KEY (`version`)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
		order:  " ORDER BY CAST(version AS BINARY)",
		values: "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		update: `ON DUPLICATE KEY UPDATE type = VALUES(type), applied = VALUES(applied), total = VALUES(total),
			execution_time = VALUES(execution_time), error = VALUES(error), error_stmt = VALUES(error_stmt), hash = VALUES(hash),
			partial_hashes = VALUES(partial_hashes), operator_version = VALUES(operator_version)`,
		mark: "SET error = ?, error_stmt = ? WHERE version = ?",
	}
}
