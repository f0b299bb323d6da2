// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// leaveServer, set in the environment, makes the test binary start a server,
// print its URL and directory, and wait to be killed.
const leaveServer = "POSTGRES_TEST_LEAVE_SERVER"

var shared *Server

func TestMain(m *testing.M) {
	if os.Getenv(leaveServer) != "" {
		leave()
	}
	os.Exit(Main(m, &shared))
}

func leave() {
	server, err := Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(server.AdminURL())
	fmt.Println(server.dir)
	select {}
}

func TestDatabasesAreApart(t *testing.T) {
	first, second := Connect(t, shared.NewDatabase(t)), Connect(t, shared.NewDatabase(t))
	for _, conn := range []*pgx.Conn{first, second} {
		if _, err := conn.Exec(t.Context(), "CREATE TABLE pets (name text)"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDatabaseIsDroppedThoughInUse(t *testing.T) {
	var database string
	t.Run("user", func(t *testing.T) {
		database = shared.NewDatabase(t)
		conn, err := pgx.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = conn.Exec(context.Background(), "SELECT pg_sleep(600)") }()
	})
	_, err := pgx.Connect(t.Context(), database)
	if state(err) != "3D000" {
		t.Errorf("connecting to a dropped database: %v, want SQLSTATE 3D000", err)
	}
}

func TestPasswordIsChecked(t *testing.T) {
	_ = shared.NewDatabase(t)
	const password = "p@ss'w/ord?"
	name := "user_" + rand.Text()
	shared.CreateUser(t, name, password)

	Connect(t, shared.URLAs(name, password, "postgres"))
	_, err := pgx.Connect(t.Context(), shared.URLAs(name, "wrong", "postgres"))
	if state(err) != "28P01" {
		t.Errorf("connecting with a wrong password: %v, want SQLSTATE 28P01", err)
	}
}

func TestOutage(t *testing.T) {
	server := Start(t, WithSetting("max_connections", "17"))
	database := server.NewDatabase(t)
	conn := Connect(t, database)
	var max string
	if err := conn.QueryRow(t.Context(), "SHOW max_connections").Scan(&max); err != nil || max != "17" {
		t.Errorf("max_connections is %q (%v), want 17", max, err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE pets (name text)"); err != nil {
		t.Fatal(err)
	}

	if err := server.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the connection outlived the server")
	}
	var op *net.OpError
	if _, err := pgx.Connect(t.Context(), database); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("connecting to a stopped server: %v, want a refused connection", err)
	}

	if err := server.Start(); err != nil {
		t.Fatalf("start again: %v", err)
	}
	if _, err := Connect(t, database).Exec(t.Context(), "SELECT name FROM pets"); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	if err := server.Start(); err == nil {
		t.Error("a running server was started once more")
	}
}

func TestBadSettingTellsTheServersWords(t *testing.T) {
	_ = shared.NewDatabase(t)
	server, err := Run(WithSetting("max_connections", "many"))
	if err == nil {
		_ = server.Close()
		t.Fatal("the server runs with max_connections=many")
	}
	if !strings.Contains(err.Error(), "max_connections") {
		t.Errorf("the error does not name the setting: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	_ = shared.NewDatabase(t)
	server, err := Run()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(server.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", server.dir, err)
	}
}

// A test process that is killed cannot clean up, so the kernel has to.
func TestServerDiesWithTheTest(t *testing.T) {
	_ = shared.NewDatabase(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), leaveServer+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	address, err := url.Parse(lines.Text())
	if err != nil || address.Host == "" {
		t.Fatalf("the child printed %q instead of a URL (%v)", lines.Text(), err)
	}
	lines.Scan()
	dir := lines.Text()
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Clean(dir)) })

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	deadline := time.Now().Add(stopTimeout)
	for {
		conn, err := net.Dial("tcp", address.Host)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server outlived the test that started it")
		}
		time.Sleep(20 * time.Millisecond) // nothing tells that a foreign process has ended
	}
}

func TestNewestVersionWins(t *testing.T) {
	older, newer := major("/usr/lib/postgresql/9.6/bin/initdb"), major("/usr/lib/postgresql/15/bin/initdb")
	if older >= newer {
		t.Errorf("9.6 counts as %d and 15 as %d", older, newer)
	}
}

func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func TestDump(t *testing.T) {
	first, second := shared.NewDatabase(t), shared.NewDatabase(t)
	for _, database := range []string{first, second} {
		Exec(t, database, "CREATE TABLE pets (name text)")
	}
	if Dump(t, first) != Dump(t, second) {
		t.Errorf("two dumps of the same differ:\n%s\n%s", Dump(t, first), Dump(t, second))
	}
	Exec(t, second, "INSERT INTO pets VALUES ('Rex')")
	if Dump(t, first, "--schema-only") != Dump(t, second, "--schema-only") || Dump(t, first) == Dump(t, second) {
		t.Error("only the dump with the data shows a row")
	}
}
