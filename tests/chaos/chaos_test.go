// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package chaos breaks a real cluster in the middle of migrations, each time in another way, and wants every migration to end as if nothing had
// been: without a hand, with nothing run twice, and with a status that tells the truth about it.
package chaos

import (
	"flag"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var installed = flag.Bool("installed", false, "the operator is on the cluster already: leave it as it is")

// disturbance is something that goes wrong in the middle of a migration, and what that may cost.
type disturbance struct {
	// happens returns when nothing stands in the way any more.
	happens func(*migration)
	// failures are the reasons of the attempts that it makes fail, oldest first.
	failures []string
	// lostRuns is how often the second file is rolled back and executed anew.
	lostRuns int
	// amnesia says that the database may have forgotten how often.
	amnesia bool
	change  func(*v1alpha1.DBUpgrade)
}

func TestChaos(t *testing.T) {
	log.SetLogger(logr.Discard()) // DBUpgrades of one database are warned of, and meant
	on := stage.Open(t)
	if !*installed {
		on.Install(t)
	}
	t.Run("pod", func(t *testing.T) {
		t.Run("InDoubt", func(t *testing.T) {
			t.Parallel()
			inDoubt(t, on.NewTeam(t, "chaos"))
		})
		for name, d := range ofOnePod {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d.survive(t, on.NewTeam(t, "chaos"), name)
			})
		}
	})
	t.Run("cluster", func(t *testing.T) {
		var team *stage.Team
		for name, d := range ofTheCluster {
			if team == nil {
				team = on.NewTeam(t, "chaos")
			}
			if !t.Run(name, func(t *testing.T) { d.survive(t, team, name) }) {
				team = nil // what is left there is for people to look at, and in nobody's way
			}
			on.Kubectl(t, "", "rollout", "status", "deployment/"+stage.Manager, "--namespace="+stage.Namespace, "--timeout=120s")
		}
	})
}

// survive lets it happen to a migration of its own, and looks at what becomes of that.
func (d disturbance) survive(t *testing.T, team *stage.Team, name string) {
	m := prepare(t, team, name)
	m.change = d.change
	began := time.Now()
	d.happens(m)
	over := time.Now()
	m.open()
	m.completes(d.failures)
	t.Logf("%d attempts; it went on for %s, and Ready was %s after it", len(d.failures)+1,
		over.Sub(began).Round(time.Second/10), time.Since(over).Round(time.Second/10))
	m.tellsTheTruth(d.failures)
	m.ranOnce(d)
}

// midway lets it happen while the second of four files is executed, which goes on until the gate is opened.
func midway(happens func(*migration)) func(*migration) {
	return func(m *migration) {
		m.start()
		m.atGate()
		happens(m)
	}
}

// ofOnePod are those that leave other migrations alone, so that they can happen at once.
var ofOnePod = map[string]disturbance{
	"runner killed": {
		happens:  midway(func(m *migration) { m.KillContainer(m.t, m.pod(), upgrade.MigrateContainer) }),
		failures: []string{v1alpha1.ReasonInterrupted}, lostRuns: 1,
	},
	"runner out of memory": outOfMemory,
	"pod deleted by force": {
		happens:  midway((*migration).deleteMigration),
		failures: []string{v1alpha1.ReasonInterrupted}, lostRuns: 1,
	},
	// The Job has an evicted pod replaced, within the same attempt.
	"pod evicted": {happens: midway((*migration).evict), lostRuns: 1},
	"PostgreSQL killed": {
		happens:  midway((*migration).killPostgres),
		failures: []string{v1alpha1.ReasonDatabaseUnreachable}, lostRuns: 1, amnesia: true,
	},
	"network cut for a moment": {happens: midway(func(m *migration) { m.cutNetwork(m.finishUnheard) })},
	"network cut for longer than connections live": {
		happens: midway(func(m *migration) {
			m.cutNetwork(func() {
				m.finishUnheard()
				m.fails(1, v1alpha1.ReasonDatabaseUnreachable)
			})
		}),
		failures: []string{v1alpha1.ReasonDatabaseUnreachable}, lostRuns: 1,
	},
}

// ofTheCluster are those that everybody notices.
var ofTheCluster = map[string]disturbance{
	"leader deleted by force": {happens: midway(func(m *migration) { m.deleteByForce(stage.Namespace, m.Leader(m.t).Name); m.finish() })},
	"leader killed":           {happens: midway(func(m *migration) { m.KillContainer(m.t, m.Leader(m.t), "manager"); m.finish() })},
	"both managers deleted":   {happens: midway(func(m *migration) { m.deleteManagers(); m.finish() })},

	"API server away while it ends":         {happens: midway(endsWithout(cluster.APIServer))},
	"etcd away while it ends":               {happens: midway(endsWithout(cluster.Etcd))},
	"kubelet away while it ends":            {happens: midway(endsWithout(cluster.Kubelet))},
	"containerd away while it ends":         {happens: midway(endsWithout(cluster.Containerd))},
	"controller manager away while it ends": {happens: midway(endsWithout(cluster.ControllerManager))},
	"kubelet and containerd restarted":      {happens: midway(restart(cluster.Containerd, cluster.Kubelet))},

	"registry away before the fetch": {happens: registryAwayBefore, failures: []string{v1alpha1.ReasonImagePullFailed}},
	"registry away in the fetch":     {happens: registryAwayDuring, failures: []string{v1alpha1.ReasonImagePullFailed}},

	"node drained": {happens: midway((*migration).drain), lostRuns: 1},
	"all at once":  {happens: midway((*migration).apocalypse), failures: []string{v1alpha1.ReasonInterrupted}, lostRuns: 1},
}
