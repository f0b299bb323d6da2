//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/onsi/ginkgo/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

// One after the other on one server, each in a database of its own.
var _ = ginkgo.Describe("A team", ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
	var g *ground
	ginkgo.BeforeAll(func() { g = newGround("options") })

	ginkgo.It("goes on where goose was", func() { takeOver(g.site("taken over", false)) })
	ginkgo.It("has an ALTER TABLE give way to a long query", func() { giveWay(g.site("busy", false)) })
	ginkgo.It("answers a doubt by the command that it is told", func() { resolveDoubt(g.site("doubt", false)) })
	ginkgo.It("has the server's certificate verified by its own authority", func() { verifyServer(g.site("secured", false)) })
	ginkgo.It("pushes its migrations as an artifact", func() {
		s := g.site("artifact", false)
		s.secret(s.url())
		s.create(s.Push(ginkgo.GinkgoTB(), s.Namespace+"/app:artifact", artifact(migrations.WithSum(ginkgo.GinkgoTB(), users))))
		s.Ready(ginkgo.GinkgoTB(), s.name, v1alpha1.ReasonMigrationComplete)
		if tables := s.query("SELECT count(*)::text FROM users"); tables != "0" {
			ginkgo.Fail(tables)
		}
	})
})

// takeOver: the database has what goose has applied, and goose's own history.
func takeOver(s *site) {
	tb := ginkgo.GinkgoTB()
	conn := s.connect()
	for _, sql := range []string{
		"CREATE TABLE users (id int PRIMARY KEY)",
		"CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp DEFAULT now())",
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (1, true)",
	} {
		execSQL(conn, sql)
	}
	s.secret(s.url())
	s.create(s.pushFiles(map[string]string{
		"00001_users.sql": "-- +goose Up\nCREATE TABLE users (id int PRIMARY KEY);\n-- +goose Down\nDROP TABLE users;\n",
		"00002_names.sql": "-- +goose Up\nALTER TABLE users ADD COLUMN name text;\n-- +goose Down\nALTER TABLE users DROP COLUMN name;\n",
	}), func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Format = v1alpha1.FormatGoose })
	obj := s.Ready(tb, s.name, v1alpha1.ReasonJobFailed)
	if message := ready(obj).Message; !strings.Contains(message, "baseline") {
		tb.Errorf("message %q does not say how a database in use is taken over", message)
	}

	s.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Apply.Baseline = "00001" })
	obj = s.Ready(tb, s.name, v1alpha1.ReasonMigrationComplete)
	applied := obj.Status.Migration.Applied
	if len(applied) != 1 || applied[0].Version != "00002" {
		tb.Errorf("applied %+v, want the new file only", applied)
	}
	if names := s.query("SELECT count(name)::text FROM users"); names != "0" {
		tb.Errorf("%s names", names)
	}
	if last := s.query("SELECT max(version_id)::text FROM goose_db_version"); last != "1" {
		tb.Errorf("goose's history says %s: that is goose's own", last)
	}
}

// giveWay: somebody reads a table for longer than a statement may wait for it.
func giveWay(s *site) {
	tb := ginkgo.GinkgoTB()
	reader := s.connect()
	for _, sql := range []string{"CREATE TABLE users (id int PRIMARY KEY)", "BEGIN", "SELECT FROM users"} {
		execSQL(reader, sql)
	}
	s.secret(s.url())
	s.create(s.push(map[string]string{"1_names.sql": "ALTER TABLE users ADD COLUMN name text;\n"}), func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Apply.AllowDirty = true
		o.Spec.Migrations.Apply.StatementLockTimeout = &metav1.Duration{Duration: 500 * time.Millisecond}
	})
	await(tb, reader, "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted)")
	execSQL(reader, "SELECT pg_sleep(2)")
	execSQL(reader, "COMMIT")
	obj := s.Ready(tb, s.name, v1alpha1.ReasonMigrationComplete)
	if got := obj.Status; got.Migration.LockRetries == 0 || got.Attempt.Number != 1 {
		tb.Errorf("%d retries in attempt %d, want some in the first", got.Migration.LockRetries, got.Attempt.Number)
	}
	if names := s.query("SELECT count(name)::text FROM users"); names != "0" {
		tb.Errorf("%s names", names)
	}
}

// artifact is an OCI artifact as "oras push" makes it within the directory: each file is a layer, and named by its title.
func artifact(files map[string]string) v1.Image {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.oci.empty.v1+json")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{
			Layer:       static.NewLayer([]byte(files[name]), types.OCIUncompressedLayer),
			Annotations: map[string]string{"org.opencontainers.image.title": name},
		})
		if err != nil {
			ginkgo.GinkgoTB().Fatal(err)
		}
	}
	return img
}
