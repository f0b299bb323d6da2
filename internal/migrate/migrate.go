// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// DefaultLockTimeout is how long a run waits for another one by default. Migrations take minutes now and then, and it costs nothing to wait.
const DefaultLockTimeout = 10 * time.Minute

// Options of a run.
type Options struct {
	// Dir is the path of the directory of migrations.
	Dir string
	// ImageRoot is the directory where an image is mounted, in which Dir is an absolute path. Empty where Dir is one of this system.
	ImageRoot string
	// URL of the database, postgres:// or postgresql://.
	URL string
	// LockTimeout is how long to wait for another run in the same database; zero stands for DefaultLockTimeout.
	LockTimeout time.Duration
	// Deadline is how long the run may take, waiting included; zero for as long as it takes.
	Deadline time.Duration
	// Version of this program, recorded in the history of migrations.
	Version string
	// Log takes the progress.
	Log *slog.Logger
}

// Run applies what is pending, and says what it did. Cancelling ctx cancels the statement that is running; Run returns once the database has
// answered, or after half a minute.
func Run(ctx context.Context, o Options) result.Result {
	if o.LockTimeout == 0 {
		o.LockTimeout = DefaultLockTimeout
	}
	if o.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Deadline, errDeadline)
		defer cancel()
	}
	scrub := newScrubber(o.URL)
	m := &migration{Options: o, status: &v1alpha1.MigrationStatus{}}
	m.Log = scrub.logger(o.Log)
	m.try(ctx)
	if f := m.status.Failure; f != nil {
		f.Error = scrub.Replace(f.Error)
		m.Log.Error("migration failed", "class", string(f.Class), "file", f.File, "statement", int(f.Statement), "sqlState", f.SQLState, "error", f.Error)
	} else {
		m.Log.Info("migration finished", "currentVersion", m.status.CurrentVersion, "appliedFiles", len(m.status.Applied), "databaseAhead", m.status.DatabaseAhead)
	}
	return result.Result{Migration: m.status}
}

// migration is one run.
type migration struct {
	Options
	status  *v1alpha1.MigrationStatus
	dir     *directory
	session *session
	history *revisions
	exec    *executor
}

// try runs, and puts what ended the run into the status.
func (m *migration) try(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			m.Log.Error("panic", "stack", string(debug.Stack()))
			m.status.Failure = &v1alpha1.Failure{Class: v1alpha1.Internal, Error: fmt.Sprintf("panic: %v", p)}
		}
	}()
	if err := m.run(ctx); err != nil {
		f := failureOf(ctx, err, false)
		m.status.Failure = &f
	}
}

func (m *migration) run(ctx context.Context) error {
	var err error
	if m.dir, err = readDirectory(m.ImageRoot, m.Dir); err != nil {
		return err
	}
	m.status.Total, m.status.TargetVersion, m.status.DirectoryHash = int32(len(m.dir.files)), m.dir.last(), m.dir.hash
	m.Log.Info("directory read", "files", len(m.dir.files), "targetVersion", m.status.TargetVersion, "hash", m.dir.hash)

	to, err := parseTarget(m.URL)
	if err != nil {
		return err
	}
	if m.session, err = connect(ctx, to.config); err != nil {
		return unreachable(ctx, err)
	}
	defer m.session.close()
	m.Log.Info("connected", "database", to.config.Database, "user", to.config.User)
	if err := m.withLock(ctx, to.schema); err != nil {
		f := failureOf(ctx, err, m.session.lost())
		if m.exec != nil {
			m.exec.locate(&f)
		}
		return &failure{f}
	}
	return nil
}

// withLock does what needs the lock of migrations.
func (m *migration) withLock(ctx context.Context, urlSchema string) error {
	if err := m.session.lock(ctx, m.LockTimeout, m.Log); err != nil {
		return at("take the lock", err)
	}
	defer func() {
		if err := m.session.unlock(ctx); err != nil {
			m.Log.Warn("the lock was not given back; it ends with the connection", "error", err.Error())
		}
	}()
	var err error
	if m.history, err = openRevisions(ctx, m.session, urlSchema); err != nil {
		return at("find the history", err)
	}
	pending, err := m.pending(ctx, urlSchema)
	if err != nil {
		return err
	}
	return m.apply(ctx, pending)
}

// pending finds the files to execute, none of which has been touched when it fails.
func (m *migration) pending(ctx context.Context, urlSchema string) ([]*file, error) {
	revs, err := m.history.ReadRevisions(ctx)
	if err != nil {
		return nil, at("read the history", err)
	}
	for _, rev := range revs {
		if rev.Applied == rev.Total {
			m.status.CurrentVersion = rev.Version
		}
	}
	m.status.DatabaseAhead = len(revs) > 0 && revs[len(revs)-1].Version > m.dir.last()
	if m.exec, err = newExecutor(m, urlSchema); err != nil {
		return nil, err
	}
	next, err := m.exec.atlas.Pending(ctx)
	m.status.Pending = int32(len(next))
	for _, rev := range revs {
		if f := inDoubt(m.dir, rev); f != nil {
			return nil, f
		}
	}
	if errors.Is(err, migrate.ErrNoPendingFiles) {
		m.Log.Info("nothing to apply", "currentVersion", m.status.CurrentVersion)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make([]*file, len(next))
	for i, f := range next {
		files[i] = m.dir.byVer[f.Version()]
		if err := files[i].executable(); err != nil {
			return nil, err
		}
	}
	if n := len(revs); n > 0 && revs[n-1].Applied != revs[n-1].Total {
		if err := m.resume(ctx, files, revs[n-1]); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// resume prepares the history for going on with a file that is applied in part.
func (m *migration) resume(ctx context.Context, files []*file, rev *migrate.Revision) error {
	for _, f := range files {
		if f.Version() != rev.Version {
			continue
		}
		hash, err := m.dir.sum.SumByName(f.Name())
		if err != nil {
			return err
		}
		return m.history.adapt(ctx, f, rev, hash)
	}
	return nil
}

func (m *migration) apply(ctx context.Context, files []*file) error {
	if len(files) == 0 {
		return nil
	}
	if err := m.history.create(ctx); err != nil {
		return at("create the history", err)
	}
	for _, f := range files {
		start := time.Now()
		m.Log.Info("file started", "file", f.Name(), "statements", len(f.stmts), "transaction", f.inTx)
		executed, err := m.exec.apply(ctx, f)
		if err != nil {
			return err
		}
		took := time.Since(start)
		m.Log.Info("file applied", "file", f.Name(), "statements", executed, "seconds", took.Seconds())
		m.status.Applied = append(m.status.Applied, v1alpha1.AppliedFile{
			Version: f.Version(), Description: f.Desc(), Statements: int32(executed), Duration: metav1.Duration{Duration: took},
		})
		m.status.CurrentVersion = f.Version()
		m.status.Pending--
	}
	return nil
}

// unreachable is the failure of a connection that was not made, whatever the reason.
func unreachable(ctx context.Context, err error) error {
	f := failureOf(ctx, err, false)
	if f.Class != v1alpha1.DeadlineExceeded && f.Class != v1alpha1.Interrupted {
		f.Class = v1alpha1.DatabaseUnreachable
	}
	f.Error = strings.Join(strings.Fields(f.Error), " ") // pgx lists its tries in lines
	return &failure{f}
}
