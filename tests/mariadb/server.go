// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package mariadb

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
	"github.com/subganapathy/automatic-db-upgrades/tests/process"
)

const (
	superuser    = "admin"
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
	sqlTimeout   = 30 * time.Second
)

// ErrNotInstalled says that this machine has no MariaDB server binaries.
var ErrNotInstalled = errors.New(
	"MariaDB is not installed (no mariadbd in /usr/sbin or PATH): install the packages mariadb-server-core and mariadb-client")

// Server is one MariaDB server. Its methods may be called concurrently.
type Server struct {
	bin      string // path of mariadbd
	dir      string // holds the data directory, the socket and the log
	port     int
	password string
	settings []string
	owner    *syscall.Credential // nil: the test's own user

	mu   sync.Mutex
	proc *process.Process // nil while stopped
}

// Option changes how a server is run.
type Option func(*Server)

// WithSetting sets a variable of the server, as in my.cnf.
func WithSetting(name, value string) Option {
	return func(s *Server) { s.settings = append(s.settings, "--"+name+"="+value) }
}

// Start runs a server that is stopped and removed when the test ends. Where
// MariaDB is missing it fails the test if CI is true and skips it if not.
func Start(tb testing.TB, opts ...Option) *Server {
	tb.Helper()
	server, err := Run(opts...)
	if errors.Is(err, ErrNotInstalled) {
		missing(tb)
	}
	if err != nil {
		tb.Fatalf("run MariaDB: %v", err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Errorf("close MariaDB: %v", err)
		}
	})
	return server
}

// Run runs a server until Close. It returns a nil Server and ErrNotInstalled
// where MariaDB is missing.
func Run(opts ...Option) (*Server, error) {
	bin, err := find()
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
// the code to exit with. Where MariaDB is missing the server is nil.
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

// URL is the administrator's connection URL of a database of this server.
func (s *Server) URL(db string) string {
	return s.URLAs(superuser, s.password, db)
}

// URLAs is the connection URL of a database for some user and password.
func (s *Server) URLAs(name, password, db string) string {
	u := url.URL{
		Scheme: "mysql",
		User:   url.UserPassword(name, password),
		Host:   net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)),
		Path:   "/" + db,
	}
	return u.String()
}

// AdminURL is the administrator's connection URL of no database.
func (s *Server) AdminURL() string {
	return s.URL("")
}

// NewDatabase makes an empty database of a unique name and returns the
// administrator's URL of it. When the test ends, whoever is connected to it is
// cut off and it is dropped. On a nil Server it does what Start does where
// MariaDB is missing.
func (s *Server) NewDatabase(tb testing.TB) string {
	tb.Helper()
	if s == nil {
		missing(tb)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := s.exec("CREATE DATABASE " + name); err != nil {
		tb.Fatalf("create a database: %v", err)
	}
	tb.Cleanup(func() {
		if !s.running() {
			return
		}
		if err := s.drop(name); err != nil {
			tb.Errorf("drop database %s: %v", name, err)
		}
	})
	return s.URL(name)
}

// CreateUser makes a user that may log in with the password, and nothing else.
// It lives as long as the server, so its name has to be unique.
func (s *Server) CreateUser(tb testing.TB, name, password string) {
	tb.Helper()
	if err := s.exec("CREATE USER " + quote(name) + " IDENTIFIED BY " + quote(password)); err != nil {
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
	args := append([]string{"--no-defaults"}, s.paths()...)
	args = append(args, "--bind-address=127.0.0.1", "--port="+strconv.Itoa(s.port), "--skip-name-resolve", "--skip-log-bin",
		"--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci", "--innodb-buffer-pool-size=64M")
	proc, err := process.Start(s.command(s.bin, append(args, s.settings...)...), s.log(), syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("start mariadbd: %w", err)
	}
	if err := s.awaitReady(proc); err != nil {
		return errors.Join(err, proc.Stop(syscall.SIGTERM, stopTimeout))
	}
	s.proc = proc
	return nil
}

// Stop shuts the server down: open transactions are rolled back and clients are
// disconnected. Connections are refused afterwards. Stopping a stopped server
// does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	err := s.proc.Stop(syscall.SIGTERM, stopTimeout)
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
	if s.owner, err = process.Unprivileged("nobody"); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "mariadb-"); err != nil {
		return err
	}
	// The password goes through a file because arguments can be read by all.
	users := filepath.Join(s.dir, "users.sql")
	// Users can be made only once there are tables of rights, and these have been read.
	text := fmt.Sprintf("FLUSH PRIVILEGES;\nCREATE USER %s IDENTIFIED BY %s;\nGRANT ALL ON *.* TO %[1]s WITH GRANT OPTION;\n", quote(superuser), quote(s.password))
	if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
		return err
	}
	if err := process.Own(s.owner, s.dir, users); err != nil {
		return err
	}
	// The system's root may log in over the socket only, which nobody but the owner of its directory can reach.
	install := s.command("mariadb-install-db", append([]string{"--no-defaults", "--skip-test-db", "--skip-name-resolve",
		"--auth-root-authentication-method=socket", "--extra-file=" + users}, s.paths()...)...)
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w: %s", err, bytes.TrimSpace(out))
	}
	listener, err := loopback.Listen()
	if err != nil {
		return err
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	return listener.Close()
}

// paths are the options that the data directory is filled and used with.
func (s *Server) paths() []string {
	return []string{
		"--datadir=" + filepath.Join(s.dir, "data"), "--tmpdir=" + s.dir, "--socket=" + filepath.Join(s.dir, "socket"),
		"--pid-file=" + filepath.Join(s.dir, "pid"), "--innodb-log-file-size=16M",
	}
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
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
		conn, err := connect(ctx, s.AdminURL())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-proc.Done():
			log, _ := os.ReadFile(s.log())
			return fmt.Errorf("mariadbd ended: %w: %s", proc.Err(), bytes.TrimSpace(log))
		case <-ctx.Done():
			return fmt.Errorf("mariadbd does not accept connections: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := connect(ctx, s.AdminURL())
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, sql)
	return errors.Join(err, conn.Close())
}

// drop removes a database. A session may hold metadata locks on its tables,
// which would be waited for.
func (s *Server) drop(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := connect(ctx, s.AdminURL())
	if err != nil {
		return err
	}
	defer conn.Close()
	var sessions sql.NullString
	if err := conn.QueryRowContext(ctx, "SELECT GROUP_CONCAT(id) FROM information_schema.processlist WHERE db = ?", name).Scan(&sessions); err != nil {
		return err
	}
	for id := range strings.SplitSeq(sessions.String, ",") {
		_, _ = conn.ExecContext(ctx, "KILL "+id) // it may have ended
	}
	_, err = conn.ExecContext(ctx, "DROP DATABASE "+name)
	return err
}

func missing(tb testing.TB) {
	tb.Helper()
	if os.Getenv("CI") == "true" {
		tb.Fatal(ErrNotInstalled)
	}
	tb.Skipf("SKIPPED, NOT TESTED: %v", ErrNotInstalled)
}

// find returns the path of the server, which Debian puts where only root looks.
func find() (string, error) {
	for _, name := range []string{"mariadbd", "/usr/sbin/mariadbd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotInstalled
}

// quote makes an SQL string literal.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
