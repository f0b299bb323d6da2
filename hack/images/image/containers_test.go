// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
)

const (
	startTimeout = time.Minute
	pollInterval = 50 * time.Millisecond
	// password has what a shell and SQL each take for their own.
	password = `a'b"c $(d) \e`
)

func TestPostgres(t *testing.T) {
	needRoot(t)
	for _, program := range []string{"dpkg-query", "ldd", "nsenter", "mount", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			unable(t, err.Error())
		}
	}
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); err != nil || len(found) == 0 {
		unable(t, "Debian's package postgresql is not installed")
	}
	images := command(t)
	img := build(t, images, repository, "postgres").(v1.Image)
	if digest(t, build(t, images, repository, "postgres")) != digest(t, img) {
		t.Error("the second build has another digest")
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "999:999" || config.Config.StopSignal != "SIGINT" {
		t.Errorf("unexpected configuration: %+v", config.Config)
	}
	p := &database{
		root: unpack(t, img), data: volume(t), env: config.Config.Env, mounts: []string{"/run/postgresql", "/var/lib/postgresql/data"},
		settings: []string{"POSTGRES_USER=team", "POSTGRES_DB=app", "POSTGRES_PASSWORD=" + password},
		client:   []string{"psql", "-At", "-c"}, login: []string{"PGHOST=127.0.0.1", "PGUSER=team", "PGDATABASE=app"}, password: "PGPASSWORD",
	}

	// A container that was killed while it made the cluster left a part of it.
	part := filepath.Join(p.data, "pgdata.new")
	if err := errors.Join(os.Mkdir(part, 0o700), os.Chown(part, 999, 999), os.WriteFile(filepath.Join(part, "PG_VERSION"), []byte("15\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.sql(t, "SELECT current_database(), current_user, current_setting('server_encoding'), current_setting('listen_addresses')", "app|team|UTF8|*")
	p.sql(t, "SELECT now() AT TIME ZONE 'Europe/Berlin' <> now() AT TIME ZONE 'Asia/Tokyo'", "t")
	p.sql(t, "CREATE EXTENSION pgcrypto", "CREATE EXTENSION")
	p.sql(t, "CREATE TABLE kept AS SELECT 42 AS answer", "SELECT 1")
	if _, err := p.enter(t, "wrong", "psql", "-c", "SELECT 1"); err == nil {
		t.Error("any password will do")
	}
	p.stop(t, syscall.SIGINT)

	p.start(t, "-c", "max_connections=17")
	p.sql(t, "SELECT answer, current_setting('max_connections') FROM kept", "42|17")
	if dump, err := p.enter(t, password, "pg_dump", "--schema-only"); err != nil || !strings.Contains(dump, "CREATE TABLE public.kept") {
		t.Errorf("pg_dump: %v\n%s", err, dump)
	}
	p.stop(t, syscall.SIGINT)
}

func TestMariaDB(t *testing.T) {
	needRoot(t)
	for _, program := range []string{"dpkg-query", "ldd", "nsenter", "mount", "ip", "mariadbd", "mariadb-dump"} {
		if _, err := exec.LookPath(program); err != nil {
			unable(t, err.Error())
		}
	}
	images := command(t)
	img := build(t, images, repository, "mariadb").(v1.Image)
	if digest(t, build(t, images, repository, "mariadb")) != digest(t, img) {
		t.Error("the second build has another digest")
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "999:999" {
		t.Errorf("unexpected configuration: %+v", config.Config)
	}
	m := &database{
		root: unpack(t, img), data: volume(t), env: config.Config.Env, mounts: []string{"/run/mysqld", "/var/lib/mysql"},
		settings: []string{"MARIADB_USER=team", "MARIADB_DATABASE=app", "MARIADB_PASSWORD=" + password},
		client:   []string{"mariadb", "--no-defaults", "--host=127.0.0.1", "--user=team", "--batch", "--skip-column-names", "app", "-e"}, password: "MYSQL_PWD",
	}

	// A container that was killed while it made the data directory left a part of it.
	part := filepath.Join(m.data, "data.new")
	if err := errors.Join(os.Mkdir(part, 0o700), os.Chown(part, 999, 999), os.WriteFile(filepath.Join(part, "ibdata1"), []byte("part"), 0o600)); err != nil {
		t.Fatal(err)
	}
	m.start(t)
	m.sql(t, "SELECT DATABASE(), CURRENT_USER(), @@character_set_server, @@bind_address", "app\tteam@%\tutf8mb4\t*")
	m.sql(t, "SELECT GET_LOCK('a', 0), ST_AsText(POINT(1, 2)), @@innodb_flush_log_at_trx_commit", "1\tPOINT(1 2)\t1")
	m.sql(t, "CREATE TABLE kept (answer int); INSERT INTO kept VALUES (42)", "")
	if _, err := m.enter(t, "wrong", m.client[0], append(slices.Clone(m.client[1:]), "SELECT 1")...); err == nil {
		t.Error("any password will do")
	}
	who, err := m.enter(t, "", "mariadb", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "--batch", "--skip-column-names", "-e", "SELECT CURRENT_USER()")
	if err != nil || who != "mysql@localhost" {
		t.Errorf("the administrator is %q (error: %v)", who, err)
	}
	m.stop(t, syscall.SIGTERM)

	m.start(t, "--max-connections=17")
	m.sql(t, "SELECT answer, @@max_connections FROM kept", "42\t17")
	dump, err := m.enter(t, password, "mariadb-dump", "--no-defaults", "--host=127.0.0.1", "--user=team", "--no-data", "app")
	if err != nil || !strings.Contains(dump, "CREATE TABLE `kept`") {
		t.Errorf("mariadb-dump: %v\n%s", err, dump)
	}
	m.stop(t, syscall.SIGTERM)
}

// database runs an image as a kubelet would: as its user, with a root file system that cannot be written but for two volumes, in
// namespaces of its own, with which all of it ends.
type database struct {
	root, data string
	mounts     []string // where a temporary volume and data are
	env        []string // the image's
	settings   []string // variables of the container
	client     []string // a command that SQL follows
	login      []string // its variables
	password   string   // the name of one more of those
	process    *exec.Cmd
	ended      chan error
	output     *bytes.Buffer
}

// container is run in the new namespaces.
const container = `set -e; root=$1 data=$2 run=$3 mount=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t tmpfs -o mode=755 dev "$root/dev"
touch "$root/dev/null"; mount --bind /dev/null "$root/dev/null"
ln -s /proc/self/fd/0 "$root/dev/stdin"
mkdir -m 1777 "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t tmpfs -o uid=999,gid=999 run "$root$run"
mount --bind "$data" "$root$mount"
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot --userspec=999:999 "$root" /entrypoint.sh "$@"`

func (p *database) start(t *testing.T, args ...string) {
	t.Helper()
	for _, dir := range []string{"dev", "proc"} { // a container runtime makes them
		if err := os.MkdirAll(filepath.Join(p.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p.output = &bytes.Buffer{}
	p.process = exec.CommandContext(t.Context(), "sh", append([]string{"-c", container, "sh", p.root, p.data, p.mounts[0], p.mounts[1]}, args...)...)
	p.process.Stdout, p.process.Stderr = p.output, p.output
	p.process.Env = slices.Clone(p.settings)
	for _, variable := range p.env {
		// What prepares the container is on this machine's path, and not in the container.
		p.process.Env = append(p.process.Env, strings.Replace(variable, "PATH=", "PATH=/usr/sbin:/usr/bin:/sbin:", 1))
	}
	p.process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = make(chan error, 1)
	go func() { p.ended <- p.process.Wait() }()

	var last string
	err := wait.PollUntilContextTimeout(t.Context(), pollInterval, startTimeout, true, func(context.Context) (bool, error) {
		select {
		case err := <-p.ended:
			return false, errors.Join(errors.New("the container ended"), err)
		default:
		}
		answer, err := p.enter(t, password, p.client[0], append(slices.Clone(p.client[1:]), "SELECT 1")...)
		last = answer
		return err == nil, nil
	})
	if err != nil {
		_ = p.process.Process.Kill() // it may have ended
		t.Fatalf("the server did not start: %v\n%s\n%s", err, last, p.output)
	}
}

// stop ends the container as a kubelet does, with the image's signal.
func (p *database) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := errors.Join(p.process.Process.Signal(signal), <-p.ended); err != nil {
		t.Fatalf("the server did not stop: %v\n%s", err, p.output)
	}
}

func (p *database) sql(t *testing.T, sql, want string) {
	t.Helper()
	if got, err := p.enter(t, password, p.client[0], append(slices.Clone(p.client[1:]), sql)...); err != nil || got != want {
		t.Errorf("%s: %q, and should be %q (error: %v)", sql, got, want, err)
	}
}

// enter runs a program in the container, which connects by the network.
func (p *database) enter(t *testing.T, password, program string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "nsenter", append([]string{"--target", strconv.Itoa(p.process.Process.Pid),
		"--mount", "--pid", "--net", "--root", "--wd", "--setuid", "999", "--setgid", "999", program}, args...)...)
	command.Env = slices.Concat(p.login, []string{p.password + "=" + password}, p.env)
	output, err := command.CombinedOutput()
	return strings.TrimSpace(string(output)), err
}

// volume is a directory of the container's user.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chown(dir, 999, 999); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPause runs it as the first process of a pod: it reaps a process that it did not start, and ends when told to.
func TestPause(t *testing.T) {
	program, err := image.Program(t.Context(), repository, "./hack/images/pause", "/pause")
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Build([]image.File{program}, v1.Config{}, image.Host())
	if err != nil {
		t.Fatal(err)
	}
	pause := contained(t, unpack(t, img), "/pause")
	pause.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	if err := pause.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(pause.Process.Pid)
	if err := exec.CommandContext(t.Context(), "nsenter", "--target", pid, "--pid", "sh", "-c", "sleep 1000 &").Run(); err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(children(t, pid))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(orphan, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), pollInterval, startTimeout, true, func(context.Context) (bool, error) {
		return children(t, pid) == "", nil
	})
	if err != nil {
		t.Errorf("it did not reap the orphan: %v", err)
	}
	if err := errors.Join(pause.Process.Signal(syscall.SIGTERM), pause.Wait()); err != nil {
		t.Errorf("it did not end well: %v", err)
	}
}

// children are the numbers of a process's children, those that have ended and were not reaped among them.
func children(t *testing.T, pid string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
