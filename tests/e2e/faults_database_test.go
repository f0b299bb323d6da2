//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// databaseFaults are told by the runner, and are over by themselves once the database can be reached.
func databaseFaults() []*fault {
	return append(loginToDatabaseFaults(), serviceFaults()...)
}

// serviceFaults are those of the way to the database: a Service with the site's name.
func serviceFaults() []*fault {
	through := func(s *site) string {
		return s.url(func(u *url.URL) { u.Host = s.name + "." + s.Namespace + ".svc.cluster.local" })
	}
	service := func(s *site, port int, app string) *corev1.Service {
		return &corev1.Service{ObjectMeta: s.named(), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 5432, TargetPort: intstr.FromInt(port)}},
		}}
	}
	start := func(port int, app string) func(*site) {
		return func(s *site) { s.add(service(s, port, app)); s.secret(through(s)); s.create(s.image) }
	}
	mend := func(s *site) {
		existing := &corev1.Service{ObjectMeta: s.named()}
		s.change(existing, func() {
			existing.Spec.Selector, existing.Spec.Ports = service(s, 5432, "postgres").Spec.Selector, service(s, 5432, "postgres").Spec.Ports
		})
	}
	return []*fault{
		{
			name:     "no such host",
			start:    func(s *site) { s.secret(through(s)); s.create(s.image) },
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"no-such-host.", "no such host"},
			mend:     func(s *site) { s.add(service(s, 5432, "postgres")) },
		},
		{
			name:     "port closed",
			start:    start(5433, "postgres"),
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"connection refused"},
			mend:     mend,
		},
		{
			name:     "database down",
			start:    start(5432, "nothing"),
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"connection refused"},
			mend:     mend,
		},
	}
}

func loginToDatabaseFaults() []*fault {
	mend := func(s *site) { s.secret(s.url()) }
	return []*fault{
		{
			name: "database recovers",
			start: func(s *site) {
				s.server = recovering(s.name)
				s.secret(s.url())
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"the database system is not accepting connections", "57P03"},
			mend:     func(s *site) { inServer(s.server, ": >$PGDATA/promote && kill -USR1 1") },
		},
		{
			name: "wrong password",
			start: func(s *site) {
				s.secret(s.url(func(u *url.URL) { u.User = url.UserPassword("app", "wr0ng") }))
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"password authentication failed", "28P01"},
			mend:     mend,
		},
		{
			name: "no such database",
			start: func(s *site) {
				s.exec("ALTER DATABASE " + pgx.Identifier{s.name}.Sanitize() + " RENAME TO away")
				s.secret(s.url())
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{`database "no-such-database" does not exist`, "3D000"},
			mend:     func(s *site) { s.exec("ALTER DATABASE away RENAME TO " + pgx.Identifier{s.name}.Sanitize()) },
		},
		{
			name: "too many connections",
			start: func(s *site) {
				s.exec("CREATE ROLE crowded LOGIN SUPERUSER PASSWORD 'secret' CONNECTION LIMIT 0")
				s.exec("ALTER ROLE crowded NOSUPERUSER")
				s.exec("ALTER DATABASE " + pgx.Identifier{s.name}.Sanitize() + " OWNER TO crowded")
				s.secret(s.url(func(u *url.URL) { u.User = url.UserPassword("crowded", "secret") }))
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"too many connections", "53300"},
			mend:     func(s *site) { s.exec("ALTER ROLE crowded CONNECTION LIMIT -1") },
		},
		{
			name:     "no URL",
			start:    func(s *site) { s.secret("postgres://app:s3cret%zz@[postgres/app"); s.create(s.image) },
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"URL"},
			mend:     mend,
		},
	}
}

// recovering is a team whose server, with one database more, lets nobody in because it recovers, until it is promoted.
func recovering(database string) *stage.Team {
	tb := ginkgo.GinkgoTB()
	t := newTeam("recovering")
	db := t.DB(tb)
	for _, sql := range []string{"CREATE DATABASE " + pgx.Identifier{database}.Sanitize(), "ALTER SYSTEM SET hot_standby = off"} {
		execSQL(db, sql)
	}
	inServer(t, ": >$PGDATA/standby.signal && kill -INT 1") // the kubelet starts it again, in the same pod and on the same volume
	err := wait.PollUntilContextTimeout(tb.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := pgx.ConnectConfig(ctx, db.Config())
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		return ok && pgErr.Code == "57P03" && pgErr.Detail != "", nil // without a detail it is on its way down
	})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// inServer runs a command in the container of a team's PostgreSQL, whose first process is the server.
func inServer(t *stage.Team, command string) {
	t.Kubectl(ginkgo.GinkgoTB(), "", "exec", "deployment/postgres", "--namespace="+t.Namespace, "--", "sh", "-c", command)
}
