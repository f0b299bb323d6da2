//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tells the operator's stories on a real cluster: those of objects and their states in kuttl, below kuttl/, and here those that
// need a hand on the database, the operator or time.
package e2e

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var installed = flag.Bool("installed", false, "the operator and the apps' images are on the cluster already: leave them as they are")

// on is the cluster that all specs share.
var on *stage.Stage

func TestE2E(t *testing.T) {
	log.SetLogger(ginkgo.GinkgoLogr)
	ginkgo.RunSpecs(t, "On a real cluster")
}

var _ = ginkgo.SynchronizedBeforeSuite(func() {
	if *installed {
		return
	}
	tb := ginkgo.GinkgoTB()
	s := stage.Open(tb)
	s.Install(tb)
	pushApps(tb, s)
}, func() {
	on = stage.Open(ginkgo.GinkgoTB())
})

// pushApps pushes apps/<name>/<tag> as the image <name>:<tag>.
func pushApps(tb testing.TB, s *stage.Stage) {
	tb.Helper()
	dirs, err := filepath.Glob("apps/*/*")
	if err != nil || len(dirs) == 0 {
		tb.Fatalf("apps: %d found, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		img, err := image.App(dir, nil)
		if err != nil {
			tb.Fatal(err)
		}
		s.Push(tb, filepath.Base(filepath.Dir(dir))+":"+filepath.Base(dir), img)
	}
}

// newTeam is a team of one spec, with a PostgreSQL.
func newTeam(prefix string) *stage.Team { return reported(on.NewTeam(ginkgo.GinkgoTB(), prefix)) }

// reported has the report of a spec that fails show what was in the team's namespace, and what the operator said.
func reported(team *stage.Team) *stage.Team {
	ginkgo.DeferCleanup(func(ctx context.Context) {
		if !ginkgo.CurrentSpecReport().Failed() {
			return
		}
		show(ctx, "describe", "dbupgrades", "--namespace="+team.Namespace)
		show(ctx, "get", "jobs,pods", "--output=wide", "--namespace="+team.Namespace)
		show(ctx, "get", "events", "--sort-by=.metadata.creationTimestamp", "--namespace="+team.Namespace)
		show(ctx, "logs", "--selector=dbupgrade.subbug.learning/dbupgrade-uid", "--all-containers", "--prefix", "--tail=50", "--namespace="+team.Namespace)
		show(ctx, "logs", "deployment/"+stage.Manager, "--all-pods", "--since=2m", "--tail=100", "--namespace="+stage.Namespace)
	})
	return team
}

// afterwards runs kubectl when the spec is over.
func afterwards(stdin string, args ...string) {
	ginkgo.DeferCleanup(func(ctx context.Context) {
		if out, err := on.TryKubectl(ctx, stdin, args...); err != nil {
			ginkgo.Fail(out)
		}
	})
}

// show prints what kubectl says into the spec's report.
func show(ctx context.Context, args ...string) {
	out, err := on.TryKubectl(ctx, "", args...)
	ginkgo.GinkgoWriter.Printf("$ kubectl %q\n%s", args, out)
	if err != nil {
		ginkgo.GinkgoWriter.Println(err)
	}
}

// stories are the directories of kuttl's.
func stories() []string {
	entries, err := os.ReadDir("kuttl")
	if err != nil {
		panic(err) // while the tree of specs is built there is nothing to fail
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}
