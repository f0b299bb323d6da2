// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package mariadb

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

	"github.com/go-sql-driver/mysql"
)

// leaveServer, set in the environment, makes the test binary start a server,
// print its URL and directory, and wait to be killed.
const leaveServer = "MARIADB_TEST_LEAVE_SERVER"

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
	first, second := shared.NewDatabase(t), shared.NewDatabase(t)
	Exec(t, first, "CREATE TABLE pets (id int PRIMARY KEY, name text); INSERT INTO pets VALUES (1, 'Rex'), (2, NULL)")
	Exec(t, second, "CREATE TABLE pets (id int PRIMARY KEY, name text)")
	if got := Query(t, first, "SELECT id, name FROM pets ORDER BY id"); got != "[\"1\",\"Rex\"]\n[\"2\",null]" {
		t.Errorf("rows: %s", got)
	}
	if got := Query(t, second, "SELECT * FROM pets"); got != "" {
		t.Errorf("rows: %s", got)
	}
	if a, b := Dump(t, first, "--no-data"), Dump(t, second, "--no-data"); a != b {
		t.Errorf("two dumps of the same schema differ:\n%s\n%s", a, b)
	}
	if a, b := Dump(t, first), Dump(t, second); a == b || !strings.Contains(a, "Rex") {
		t.Errorf("a dump is without its data:\n%s", a)
	}
}

// A transaction that was left open holds a lock on its table.
func TestDatabaseIsDroppedThoughInUse(t *testing.T) {
	var database string
	t.Run("user", func(t *testing.T) {
		database = shared.NewDatabase(t)
		Exec(t, database, "CREATE TABLE pets (id int)")
		conn, err := connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec("BEGIN; INSERT INTO pets VALUES (1)"); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := connect(t.Context(), database); number(err) != 1049 {
		t.Errorf("connecting to a dropped database: %v, want error 1049", err)
	}
}

func TestPasswordIsChecked(t *testing.T) {
	_ = shared.NewDatabase(t)
	const password = `p@ss'w/ord?\`
	name := "user_" + rand.Text()
	shared.CreateUser(t, name, password)

	Connect(t, shared.URLAs(name, password, ""))
	for _, user := range []string{name, "root", "", "mysql"} {
		if _, err := connect(t.Context(), shared.URLAs(user, "", "")); number(err) != 1045 {
			t.Errorf("connecting as %q without a password: %v, want error 1045", user, err)
		}
	}
}

func TestOutage(t *testing.T) {
	server := Start(t, WithSetting("max-connections", "17"))
	database := server.NewDatabase(t)
	conn := Connect(t, database)
	if got := Query(t, database, "SELECT @@max_connections"); got != `["17"]` {
		t.Errorf("max_connections is %s", got)
	}
	Exec(t, database, "CREATE TABLE pets (name text)")
	if err := server.Stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if err := conn.Ping(); err == nil {
		t.Error("the connection outlived the server")
	}
	var op *net.OpError
	if _, err := connect(t.Context(), database); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("connecting to a stopped server: %v, want a refused connection", err)
	}
	if err := server.Start(); err != nil {
		t.Fatalf("start again: %v", err)
	}
	Exec(t, database, "SELECT name FROM pets")
	if err := server.Start(); err == nil {
		t.Error("a running server was started once more")
	}
}

func TestAwait(t *testing.T) {
	database := shared.NewDatabase(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn := Connect(t, database)
	go func() { _, _ = conn.ExecContext(ctx, "DO SLEEP(600)") }()
	AwaitStatement(t, database, "DO SLEEP")
}

func TestBadSettingTellsTheServersWords(t *testing.T) {
	_ = shared.NewDatabase(t)
	server, err := Run(WithSetting("no-such-variable", "many"))
	if err == nil {
		_ = server.Close()
		t.Fatal("the server runs with an unknown variable")
	}
	if !strings.Contains(err.Error(), "no-such-variable") {
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

func number(err error) uint16 {
	var refused *mysql.MySQLError
	if errors.As(err, &refused) {
		return refused.Number
	}
	return 0
}
