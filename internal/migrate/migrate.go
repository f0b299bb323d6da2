// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/directory"
	"github.com/subganapathy/automatic-db-upgrades/internal/lint"
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
	// Format of the directory; empty is that of Atlas.
	Format v1alpha1.Format
	// URL of the database, postgres:// or mysql://.
	URL string
	// TLS of the connection.
	TLS TLS
	// Plan only tells what would be applied. It takes no lock.
	Plan bool

	// Baseline is the version that a database without a history is taken to be at. It goes without AllowDirty.
	Baseline string
	// AllowDirty applies everything to a database that has no history and is not empty.
	AllowDirty bool
	// ExecOrder is what becomes of files that come late; empty is linear.
	ExecOrder v1alpha1.ExecOrder
	// TxMode is what a transaction holds; empty is file.
	TxMode v1alpha1.TxMode
	// RevisionsSchema holds the history; empty for that of the URL, or one of its own.
	RevisionsSchema string
	// ToVersion is the last version to apply; empty for all.
	ToVersion string
	// Resolve is the answer to a doubt; the zero value is none.
	Resolve Resolution
	// Lint is what becomes of findings about the pending files; empty is Off.
	Lint v1alpha1.LintMode

	// LockTimeout is how long to wait for another run in the same database; zero stands for DefaultLockTimeout.
	LockTimeout time.Duration
	// StatementLockTimeout is how long a statement may wait for a lock; zero leaves that to the database.
	StatementLockTimeout time.Duration
	// StatementTimeout is how long a statement may run; zero leaves that to the database.
	StatementTimeout time.Duration
	// Deadline is how long the run may take, waiting included; zero for as long as it takes.
	Deadline time.Duration

	// Version of this program, recorded in the history of migrations.
	Version string
	// Log takes the progress.
	Log *slog.Logger

	retryPause time.Duration // shorter in tests
}

// Resolution is a person's answer to a doubt about a statement.
type Resolution struct {
	// ID of the doubt. It means nothing for any other one.
	ID string
	// Skip the statement, as it took effect, rather than execute it again.
	Skip bool
}

var resolutionPattern = regexp.MustCompile(`^(redo|skip):([A-Z2-7]{8})$`)

// ParseResolution reads redo:ID or skip:ID.
func ParseResolution(s string) (Resolution, error) {
	m := resolutionPattern.FindStringSubmatch(s)
	if m == nil {
		return Resolution{}, fmt.Errorf("%q is neither redo:ID nor skip:ID with the eight characters of an ID as the failure tells it", s)
	}
	return Resolution{ID: m[2], Skip: m[1] == "skip"}, nil
}

func (o Options) withDefaults() Options {
	o.LockTimeout = cmp.Or(o.LockTimeout, DefaultLockTimeout)
	o.ExecOrder = cmp.Or(o.ExecOrder, v1alpha1.ExecOrderLinear)
	o.TxMode = cmp.Or(o.TxMode, v1alpha1.TxModeFile)
	o.retryPause = cmp.Or(o.retryPause, retryPause)
	return o
}

// Run applies what is pending, and says what it did. Cancelling ctx cancels the statement that is running; Run returns once the database has
// answered, or after half a minute.
func Run(ctx context.Context, o Options) result.Result {
	o = o.withDefaults()
	if o.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Deadline, errDeadline)
		defer cancel()
	}
	scrub := newScrubber(o.URL)
	m := &migration{Options: o, status: &v1alpha1.MigrationStatus{}}
	m.Log = scrub.logger(o.Log)
	m.try(ctx)
	switch f := m.status.Failure; {
	case f != nil:
		f.Error = scrub.Replace(f.Error)
		m.Log.Error("migration failed", "class", string(f.Class), "file", f.File, "statement", int(f.Statement), "sqlState", f.SQLState, "error", f.Error)
	case o.Plan:
		m.Log.Info("plan finished", "currentVersion", m.status.CurrentVersion, "pendingFiles", len(m.status.Planned), "findings", len(m.status.Findings),
			"databaseAhead", m.status.DatabaseAhead)
	default:
		m.Log.Info("migration finished", "currentVersion", m.status.CurrentVersion, "appliedFiles", len(m.status.Applied), "databaseAhead", m.status.DatabaseAhead)
	}
	return result.Result{Migration: m.status}
}

// migration is one run.
type migration struct {
	Options
	status  *v1alpha1.MigrationStatus
	dir     *directory.Directory
	target  target
	session session
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
		f := failureOf(ctx, err, nil)
		m.status.Failure = &f
	}
}

func (m *migration) run(ctx context.Context) error {
	var err error
	if m.target, err = parseTarget(m.URL, m.TLS); err != nil {
		return err
	}
	if err := m.read(); err != nil {
		return err
	}
	m.session, err = m.target.connect(ctx, limits{lockTimeout: m.StatementLockTimeout, statementTimeout: m.StatementTimeout})
	if err != nil {
		return unreachable(ctx, err)
	}
	defer m.session.close()
	m.Log.Info("connected", "database", m.target.database, "user", m.target.user)
	do := m.locked
	if m.Plan {
		do = m.plan
	}
	if err := do(ctx); err != nil {
		f := failureOf(ctx, err, m.session)
		if m.exec != nil {
			m.exec.place(&f)
		}
		return &result.Error{Failure: f}
	}
	return nil
}

// read reads the directory, and checks what the options say about it.
func (m *migration) read() error {
	var err error
	m.dir, err = directory.Read(directory.Options{Dir: m.Dir, ImageRoot: m.ImageRoot, Format: m.Format, Dialect: m.target.dialect})
	if err != nil {
		return err
	}
	target := cmp.Or(m.ToVersion, m.dir.Last())
	m.status.Total, m.status.TargetVersion, m.status.DirectoryHash = int32(m.dir.Len()), target, m.dir.Hash()
	m.Log.Info("directory read", "files", m.dir.Len(), "targetVersion", target, "hash", m.dir.Hash())
	for name, version := range map[string]string{"toVersion (--to-version)": m.ToVersion, "baseline (--baseline)": m.Baseline} {
		if _, ok := m.dir.File(version); version != "" && !ok {
			return result.Errorf(v1alpha1.IntegrityFailed, "apply.%s is %q, and the directory has no such version; its last one is %q", name, version, m.dir.Last())
		}
	}
	if m.Baseline == "" {
		return nil
	}
	if m.AllowDirty {
		return result.Errorf(v1alpha1.IntegrityFailed, "apply.baseline (--baseline) and apply.allowDirty (--allow-dirty) exclude each other: the first says where to begin, the second that it is at the first file")
	}
	if f, _ := m.dir.File(m.Baseline); f.IsCheckpoint() {
		return result.Errorf(v1alpha1.IntegrityFailed, "apply.baseline (--baseline) is %q, which is a checkpoint, and those are for empty databases: name the version before it", m.Baseline)
	}
	return nil
}

// locked does what needs the lock of migrations.
func (m *migration) locked(ctx context.Context) error {
	if err := waitForLock(ctx, m.session, m.LockTimeout, m.Log); err != nil {
		return at("take the lock", err)
	}
	defer func() {
		ctx, cancel := settle(ctx)
		defer cancel()
		if err := m.session.unlock(ctx); err != nil {
			m.Log.Warn("the lock was not given back; it ends with the connection", "error", err.Error())
		}
	}()
	files, err := m.pending(ctx)
	if err != nil {
		return err
	}
	return m.apply(ctx, files)
}

// plan tells what would be applied.
func (m *migration) plan(ctx context.Context) error {
	if err := m.session.readOnly(ctx); err != nil {
		return err
	}
	files, err := m.pending(ctx)
	for _, f := range files {
		m.Log.Info("file planned", "file", f.Name(), "statements", len(f.Statements()), "transaction", m.exec.inTransaction(f))
		m.status.Planned = append(m.status.Planned, v1alpha1.PlannedFile{Version: f.Version(), Description: f.Desc(), Statements: int32(len(f.Statements()))})
	}
	return err
}

// pending finds the files to execute, and looks at them. When it fails, nothing has been executed or written but a person's answer to a doubt; what the
// history has to say before the first file is held back.
func (m *migration) pending(ctx context.Context) ([]*directory.File, error) {
	var err error
	if m.history, err = openRevisions(ctx, m.session, m.RevisionsSchema, m.target.schema); err != nil {
		return nil, at("read the history", err)
	}
	if err := m.resolve(ctx); err != nil {
		return nil, at("record the answer", err)
	}
	m.observe()
	if m.exec, err = newExecutor(m); err != nil {
		return nil, err
	}
	m.history.hold()
	next, err := m.exec.atlas.Pending(ctx)
	m.status.Pending = int32(len(next))
	for _, rev := range m.history.list {
		if err := inDoubt(m.dir, rev); err != nil {
			return nil, err
		}
	}
	if err != nil && !errors.Is(err, migrate.ErrNoPendingFiles) {
		return nil, err
	}
	begun, err := m.begun(next)
	if err != nil {
		return nil, err
	}
	m.status.Pending += int32(len(begun))
	files, err := m.wanted(append(begun, next...))
	if err != nil {
		return nil, err
	}
	if err := m.resume(ctx, files); err != nil {
		return nil, err
	}
	return files, m.lint(files)
}

// resolve writes a person's answer into the history.
func (m *migration) resolve(ctx context.Context) error {
	if m.Resolve == (Resolution{}) || m.Plan {
		return nil
	}
	resolved, err := m.history.resolve(ctx, m.dir, m.Resolve)
	if err != nil {
		return err
	}
	m.Log.Info("answer to a doubt", "id", m.Resolve.ID, "skip", m.Resolve.Skip, "recorded", resolved)
	return nil
}

// observe tells where the database is.
func (m *migration) observe() {
	for _, rev := range m.history.list {
		if rev.Applied == rev.Total {
			m.status.CurrentVersion = rev.Version
		}
	}
	if n := len(m.history.list); n > 0 {
		m.status.DatabaseAhead = m.history.list[n-1].Version > m.dir.Last()
	}
}

// begun are the files that an earlier run has left applied in part, but for the last one, which is all that Atlas looks at: with the order non-linear, a file
// may have failed that later ones are behind. They come first.
func (m *migration) begun(pending []migrate.File) ([]migrate.File, error) {
	var files []migrate.File
	for _, rev := range m.history.list {
		isPending := func(f migrate.File) bool { return f.Version() == rev.Version }
		if rev.Applied == rev.Total || slices.ContainsFunc(pending, isPending) {
			continue
		}
		f, ok := m.dir.File(rev.Version)
		if !ok {
			return nil, &migrate.MissingMigrationError{Version: rev.Version, Description: rev.Description}
		}
		files = append(files, f)
	}
	return files, nil
}

// wanted are those of the pending files that are to be executed, if all of them can be.
func (m *migration) wanted(pending []migrate.File) ([]*directory.File, error) {
	var files []*directory.File
	for _, p := range pending {
		f, ok := m.dir.File(p.Version())
		if !ok {
			return nil, fmt.Errorf("no file of version %q", p.Version())
		}
		if m.ToVersion != "" && f.Version() > m.ToVersion {
			continue
		}
		if err := m.fit(f); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		m.Log.Info("nothing to apply", "currentVersion", m.status.CurrentVersion)
	}
	return files, nil
}

// fit says why a file cannot be executed, nil where it can as far as is known.
func (m *migration) fit(f *directory.File) error {
	if err := f.Err(); err != nil {
		return err
	}
	if m.TxMode == v1alpha1.TxModeAll && f.TxMode == v1alpha1.TxModeNone {
		return f.Errorf("%s asks for no transaction, and apply.txMode (--tx-mode) is all: one of them has to go", f.Name())
	}
	if m.TxMode == v1alpha1.TxModeAll && !m.exec.inTransaction(f) {
		return f.Errorf("%s has statements that commit by themselves, and apply.txMode (--tx-mode) is all: MySQL cannot roll them back with the rest; use file", f.Name())
	}
	return executable(f, m.target.dialect)
}

// resume prepares the history for going on with files that are applied in part.
func (m *migration) resume(ctx context.Context, files []*directory.File) error {
	for _, rev := range m.history.list {
		if rev.Applied == rev.Total {
			continue
		}
		for _, f := range files {
			if f.Version() != rev.Version {
				continue
			}
			if err := m.history.adapt(ctx, f, rev); err != nil {
				return err
			}
		}
	}
	return nil
}

// lint looks for what is to be said against the files.
func (m *migration) lint(files []*directory.File) error {
	if m.Lint == "" || m.Lint == v1alpha1.LintOff || len(files) == 0 {
		return nil
	}
	m.status.Findings = lint.Run(lint.Options{Dialect: m.target.dialect, Config: m.dir.Config(), TxMode: m.TxMode, Together: true}, files)
	lint.Log(m.status.Findings, m.Log)
	if err := lint.Enforce(m.status.Findings); err != nil && m.Lint == v1alpha1.LintEnforce {
		return err
	}
	return nil
}

func (m *migration) apply(ctx context.Context, files []*directory.File) error {
	if len(files) == 0 && len(m.history.held) == 0 {
		return nil
	}
	if err := m.history.create(ctx); err != nil {
		return at("create the history", err)
	}
	if err := m.history.flush(ctx); err != nil {
		return at("write the history", err)
	}
	if m.status.CurrentVersion == "" {
		m.status.CurrentVersion = m.Baseline
	}
	if m.TxMode != v1alpha1.TxModeAll {
		return m.each(ctx, files)
	}
	return m.exec.retries.do(ctx, "the whole run", m.exec.rolledBack, func() error {
		before := m.status.DeepCopy()
		err := m.exec.transact(ctx, func() error { return m.each(ctx, files) })
		if err != nil { // nothing of it is there
			m.status.Applied, m.status.CurrentVersion, m.status.Pending = nil, before.CurrentVersion, before.Pending
		}
		return err
	})
}

// each executes files one after the other.
func (m *migration) each(ctx context.Context, files []*directory.File) error {
	for _, f := range files {
		start := time.Now()
		m.Log.Info("file started", "file", f.Name(), "statements", len(f.Statements()), "transaction", m.exec.inTransaction(f))
		executed, err := m.exec.apply(ctx, f)
		if err != nil {
			return err
		}
		took := time.Since(start)
		m.Log.Info("file applied", "file", f.Name(), "statements", executed, "seconds", took.Seconds())
		m.status.Applied = append(m.status.Applied, v1alpha1.AppliedFile{
			Version: f.Version(), Description: f.Desc(), Statements: int32(executed), Duration: metav1.Duration{Duration: took},
		})
		m.status.CurrentVersion = max(m.status.CurrentVersion, f.Version()) // a late file is behind it
		m.status.Pending--
	}
	return nil
}

// unreachable is the failure of a connection that was not made, whatever the reason.
func unreachable(ctx context.Context, err error) error {
	f := failureOf(ctx, err, nil)
	if f.Class != v1alpha1.DeadlineExceeded && f.Class != v1alpha1.Interrupted {
		f.Class = v1alpha1.DatabaseUnreachable
	}
	f.Error = strings.Join(strings.Fields(f.Error), " ") // pgx lists its tries in lines
	return &result.Error{Failure: f}
}
