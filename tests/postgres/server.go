// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
	"github.com/subganapathy/automatic-db-upgrades/tests/process"
)

const (
	superuser    = "postgres"
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
	sqlTimeout   = 30 * time.Second
)

// ErrNotInstalled says that this machine has no PostgreSQL server binaries.
var ErrNotInstalled = errors.New(
	"PostgreSQL is not installed (no initdb in /usr/lib/postgresql/*/bin or PATH): install the package postgresql")

// Server is one PostgreSQL server. Its methods may be called concurrently.
type Server struct {
	bin      string // directory of initdb and postgres
	dir      string // holds the data directory and the log
	port     int
	password string
	settings []string
	owner    *syscall.Credential // nil: the test's own user

	mu   sync.Mutex
	proc *process.Process // nil while stopped
}

// Option changes how a server is run.
type Option func(*Server)

// WithSetting sets a parameter of the server, as in postgresql.conf.
func WithSetting(name, value string) Option {
	return func(s *Server) { s.settings = append(s.settings, "-c", name+"="+value) }
}

// Start runs a server that is stopped and removed when the test ends. Where
// PostgreSQL is missing it fails the test if CI is true and skips it if not.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	server, err := Run(opts...)
	if errors.Is(err, ErrNotInstalled) {
		missing(tb)
	}
	if err != nil {
		tb.Fatalf("run PostgreSQL: %v", err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Errorf("close PostgreSQL: %v", err)
		}
	})
	return server
}

// Run runs a server until Close. It returns a nil Server and ErrNotInstalled
// where PostgreSQL is missing.
func Run(opts ...Option) (*Server, error) {
	bin, err := findBinaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, password: rand.Text()}
	for _, opt := range opts {
		opt(s)
	}
	if err := s.create(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Main runs the tests of a package with one server for all of them, and returns
// the code to exit with. Where PostgreSQL is missing the server is nil.
func Main(m *testing.M, server **Server) int {
	var err error
	*server, err = Run()
	if err != nil && !errors.Is(err, ErrNotInstalled) {
		log.Print(err)
		return 1
	}
	code := m.Run()
	if err := (*server).Close(); err != nil {
		log.Print(err)
		return 1
	}
	return code
}

// Close stops the server and removes its data. Closing a nil Server is allowed.
func (s *Server) Close() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.Stop(), os.RemoveAll(s.dir))
}

// URL is the superuser's connection URL of a database of this server.
func (s *Server) URL(db string) string {
	return s.URLAs(superuser, s.password, db)
}

// URLAs is the connection URL of a database for some user and password.
func (s *Server) URLAs(name, password, db string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(name, password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:     "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// AdminURL is the superuser's connection URL of the maintenance database.
func (s *Server) AdminURL() string {
	return s.URL("postgres")
}

// NewDatabase makes an empty database of a unique name and returns the
// superuser's URL of it. It is dropped when the test ends, whoever is still
// connected. On a nil Server it does what Start does where PostgreSQL is missing.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	if s == nil {
		missing(tb)
	}
	name := "test_" + rand.Text()
	id := pgx.Identifier{name}.Sanitize()
	if err := s.exec("CREATE DATABASE " + id + " TEMPLATE template0"); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if !s.running() {
			return
		}
		if err := s.exec("DROP DATABASE " + id + " WITH (FORCE)"); err != nil {
			tb.Errorf("drop database %s: %v", name, err)
		}
	})
	return s.URL(name)
}

// CreateUser makes a user that may log in with the password, and nothing else.
// It lives as long as the server, so its name has to be unique.
func (s *Server) CreateUser(tb testing.TB, name, password string) {
	tb.Helper()
	err := s.exec("CREATE ROLE " + pgx.Identifier{name}.Sanitize() + " LOGIN PASSWORD " + quote(password))
	if err != nil {
		tb.Fatalf("create user %s: %v", name, err)
	}
}

// Start starts a stopped server on the port that it had, with the data that it
// had, and returns when it accepts connections.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		return errors.New("the server is running already")
	}
	args := []string{
		"-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off",
	}
	// A killed test leaves nobody to shut the server down, so it is told to do that at once.
	proc, err := process.Start(s.command("postgres", append(args, s.settings...)...), s.log(), syscall.SIGQUIT)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	if err := s.awaitReady(proc); err != nil {
		return errors.Join(err, proc.Stop(syscall.SIGINT, stopTimeout))
	}
	s.proc = proc
	return nil
}

// Stop shuts the server down in PostgreSQL's fast mode: open transactions are
// rolled back and clients are disconnected. Connections are refused afterwards.
// Stopping a stopped server does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	err := s.proc.Stop(syscall.SIGINT, stopTimeout)
	s.proc = nil
	return err
}

// Restart stops and starts the server.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start()
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil
}

// create makes the directory, picks the port and fills the data directory.
func (s *Server) create() error {
	var err error
	// PostgreSQL refuses to be run by root, so its package's own user is taken then.
	if s.owner, err = process.Unprivileged("postgres"); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
		return err
	}
	// The password goes through a file because arguments can be read by all.
	passwordFile := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(s.password), 0o600); err != nil {
		return err
	}
	if err := process.Own(s.owner, s.dir, passwordFile); err != nil {
		return err
	}
	initdb := s.command("initdb", "-D", s.data(), "-U", superuser, "--pwfile="+passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	listener, err := loopback.Listen()
	if err != nil {
		return err
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	return listener.Close()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir // the user may be unable to read the test's own directory
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return cmd
}

// awaitReady returns once the server accepts connections, or with the server's
// own words when it ends before that.
func (s *Server) awaitReady(proc *process.Process) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.AdminURL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-proc.Done():
			log, _ := os.ReadFile(s.log())
			return fmt.Errorf("postgres ended: %w: %s", proc.Err(), bytes.TrimSpace(log))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not accept connections: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.AdminURL())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func missing(tb testing.TB) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(ErrNotInstalled)
	}
	tb.Skipf("SKIPPED, NOT TESTED: %v", ErrNotInstalled)
}

// findBinaries returns the directory of the newest installed server: Debian
// keeps one for each major version and puts none of them in PATH.
func findBinaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrNotInstalled
	}
	// The binaries find their libraries and data relative to their real place.
	path, err = filepath.EvalSymlinks(path)
	return filepath.Dir(path), err
}

// major is the 15 of /usr/lib/postgresql/15/bin/initdb.
func major(initdb string) int {
	version, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
	if err != nil {
		return 0
	}
	return version
}

// quote makes an SQL string literal: CREATE ROLE takes no parameters.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
