// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

const (
	pollInterval = 100 * time.Millisecond
	// sqlTimeout is for what the database comes to by itself.
	sqlTimeout = time.Minute
	// podTimeout is for a pod to get somewhere.
	podTimeout = time.Minute
)

// files are the migration. enter fails where another run is at work at the same time, or was there before; and it counts, in a sequence, also what
// is rolled back later. The second file waits at the gate, a lock that the test holds.
func files() map[string]string {
	return map[string]string{
		"1_journal.sql": `
CREATE TABLE journal (version text PRIMARY KEY);
CREATE SEQUENCE entered;
CREATE FUNCTION enter(file text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('entered');
	IF NOT pg_try_advisory_xact_lock(2) THEN
		RAISE EXCEPTION 'two runs at once';
	END IF;
	INSERT INTO journal VALUES (file);
END $$;
SELECT enter('1');
`,
		"2_gate.sql":  "SELECT enter('2');\nSELECT pg_advisory_xact_lock_shared(1);\n",
		"3_third.sql": "SELECT enter('3');\nSELECT pg_sleep(1);\n",
		"4_last.sql":  "SELECT enter('4');\nSELECT pg_sleep(1);\n",
	}
}

// migration is one whose second file goes on until the test opens the gate.
type migration struct {
	*stage.Team
	t      *testing.T
	name   string // of the DBUpgrade
	files  map[string]string
	image  string
	change func(*v1alpha1.DBUpgrade)
	gate   *pgx.Conn
}

// prepare empties a team's database, and closes the gate in it.
func prepare(t *testing.T, team *stage.Team, name string) *migration {
	t.Helper()
	m := &migration{Team: team, t: t, name: strings.ToLower(strings.ReplaceAll(name, " ", "-")), files: files()}
	t.Cleanup(func() {
		if t.Failed() {
			m.show()
		}
	})
	m.gate = m.DB(t)
	m.must(m.gate.Exec(t.Context(), `
DROP SCHEMA IF EXISTS atlas_schema_revisions CASCADE;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
SELECT pg_advisory_lock(1)`))
	return m
}

// start makes the DBUpgrade.
func (m *migration) start() {
	m.t.Helper()
	if m.image == "" {
		m.image = m.Image(m.t, m.name, m.files)
	}
	m.Create(m.t, m.name, m.image, func(obj *v1alpha1.DBUpgrade) {
		if m.change != nil {
			m.change(obj)
		}
	})
}

// atGate waits until a run is at the gate.
func (m *migration) atGate() {
	m.t.Helper()
	m.await("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND NOT granted)")
}

// open lets the second file end. The other two take a second each.
func (m *migration) open() { _ = m.gate.Close(context.Background()) } // where the server is gone, so is the lock

// finish opens the gate and waits until the last file is applied, of which only the database is asked.
func (m *migration) finish() {
	m.t.Helper()
	m.open()
	m.await("SELECT EXISTS (SELECT FROM journal WHERE version = '4')")
}

// finishUnheard opens the gate and waits until the database has done what it was asked for, whoever hears of that.
func (m *migration) finishUnheard() {
	m.t.Helper()
	m.open()
	m.await("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'dbupgrade-runner' AND state = 'idle in transaction')")
}

// await asks the database again and again until it says yes. It needs nothing else of the cluster.
func (m *migration) await(sql string) {
	m.t.Helper()
	conn, err := pgx.ConnectConfig(m.t.Context(), m.gate.Config())
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	err = wait.PollUntilContextTimeout(m.t.Context(), pollInterval, sqlTimeout, true, func(ctx context.Context) (bool, error) {
		var yes bool
		return yes, conn.QueryRow(ctx, sql).Scan(&yes)
	})
	if err != nil {
		m.t.Fatalf("await %s: %v", sql, err)
	}
}

// fails waits until the attempt of that number has failed for that reason.
func (m *migration) fails(number int, reason string) {
	m.t.Helper()
	obj := stage.Wait(m.Team, m.t, m.name, fmt.Sprintf("has failed %d times", number), func(d *v1alpha1.DBUpgrade) bool {
		a := d.Status.Attempt
		return a != nil && (a.Number > int64(number) || a.Number == int64(number) && a.Phase.Ended())
	})
	if got := obj.Status.Attempt; got.Number == int64(number) && got.Reason != reason {
		m.t.Errorf("attempt %d: %s %s, want %s: %s", number, got.Phase, got.Reason, reason, got.Message)
	}
}

// completes waits until the migration is applied, after attempts that failed for these reasons and no others.
func (m *migration) completes(failures []string) {
	m.t.Helper()
	for i, reason := range failures {
		m.fails(i+1, reason)
	}
	obj := stage.Wait(m.Team, m.t, m.name, "is Ready, or needs a person", func(d *v1alpha1.DBUpgrade) bool {
		return slices.Contains([]string{v1alpha1.ReasonMigrationComplete, v1alpha1.ReasonJobFailed, v1alpha1.ReasonInDoubt, v1alpha1.ReasonDeadlineExceeded},
			stage.Reason(d))
	})
	if reason := stage.Reason(obj); reason != v1alpha1.ReasonMigrationComplete {
		m.t.Fatalf("it ended as %s: %s", reason, obj.Status.Attempt.Message)
	}
}

// tellsTheTruth waits until nothing is left to be done, and compares status, Jobs and lock with what happened.
func (m *migration) tellsTheTruth(failures []string) {
	m.t.Helper()
	obj := stage.Wait(m.Team, m.t, m.name, "is settled", func(d *v1alpha1.DBUpgrade) bool { return len(d.Finalizers) == 0 })
	var want, got []string
	for i := range failures {
		want = append(want, fmt.Sprint(i+1, v1alpha1.AttemptFailed))
	}
	want = append(want, fmt.Sprint(len(failures)+1, v1alpha1.AttemptSucceeded))
	for _, entry := range slices.Backward(obj.Status.History) {
		got = append(got, fmt.Sprint(entry.Attempt, entry.Result))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Errorf("status.history (-want +got):\n%s", diff)
	}
	if last := obj.Status.Migration; last == nil || last.CurrentVersion != "4" || last.Pending != 0 || last.Failure != nil {
		m.t.Errorf("status.migration: %+v, want version 4 and nothing pending", last)
	}
	jobs := slices.DeleteFunc(m.Jobs(m.t), func(j batchv1.Job) bool { return !metav1.IsControlledBy(&j, obj) })
	if len(jobs) != len(want) {
		m.t.Errorf("%d Jobs for %d attempts", len(jobs), len(want))
	}
	for i := range jobs {
		if !upgrade.Ended(&jobs[i]) {
			m.t.Errorf("Job %s has not ended", jobs[i].Name)
		}
	}
	if pods := m.pods(); len(pods) > 0 {
		m.t.Errorf("pod %s is alive", pods[0].Name)
	}
	m.noLock()
}

func (m *migration) noLock() {
	m.t.Helper()
	var leases coordinationv1.LeaseList
	if err := m.Client.List(m.t.Context(), &leases, client.InNamespace(stage.Namespace)); err != nil {
		m.t.Fatal(err)
	}
	for _, lease := range leases.Items {
		if lease.Annotations["dbupgrade.subbug.learning/namespace"] == m.Namespace {
			m.t.Errorf("Lease %s is left", lease.Name)
		}
	}
}

// ranOnce looks into the database.
func (m *migration) ranOnce(d disturbance) {
	m.t.Helper()
	want := []string{"1", "2", "3", "4"}
	if diff := cmp.Diff(want, m.Query(m.t, "SELECT version FROM journal ORDER BY version")); diff != "" {
		m.t.Errorf("journal (-want +got):\n%s", diff)
	}
	complete := "SELECT version FROM atlas_schema_revisions.atlas_schema_revisions WHERE applied = total AND coalesce(error, '') = '' AND type <> 0 ORDER BY version"
	if diff := cmp.Diff(want, m.Query(m.t, complete)); diff != "" {
		m.t.Errorf("files applied completely (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, m.Applied(m.t)); diff != "" {
		m.t.Errorf("files in the history (-want +got):\n%s", diff)
	}
	entered := m.Query(m.t, "SELECT last_value FROM entered")[0]
	if want := fmt.Sprint(len(want) + d.lostRuns); entered != want && !d.amnesia {
		m.t.Errorf("files were entered %s times, want %s", entered, want)
	}
}

// pods are those of migrations that have not ended.
func (m *migration) pods() []corev1.Pod {
	m.t.Helper()
	var list corev1.PodList
	if err := m.Client.List(m.t.Context(), &list, client.InNamespace(m.Namespace), client.HasLabels{upgrade.LabelOwner}); err != nil {
		m.t.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !upgrade.Alive(&p) })
}

// pod is the one that migrates, as soon as the kubelet has said that it does.
func (m *migration) pod() *corev1.Pod {
	m.t.Helper()
	return m.podThat("migrates", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
}

// podThat waits for a pod of the migration.
func (m *migration) podThat(what string, does func(*corev1.Pod) bool) *corev1.Pod {
	m.t.Helper()
	var found *corev1.Pod
	err := wait.PollUntilContextTimeout(m.t.Context(), pollInterval, podTimeout, true, func(context.Context) (bool, error) {
		for _, pod := range m.pods() {
			if does(&pod) {
				found = &pod
			}
		}
		return found != nil, nil
	})
	if err != nil {
		m.t.Fatalf("no pod %s: %v", what, err)
	}
	return found
}

func (m *migration) must(_ any, err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// show is what a person would look at.
func (m *migration) show() {
	for _, args := range [][]string{
		{"describe", "dbupgrades", "--namespace=" + m.Namespace},
		{"get", "jobs,pods", "--output=wide", "--namespace=" + m.Namespace},
		{"get", "events", "--sort-by=.metadata.creationTimestamp", "--namespace=" + m.Namespace},
		{"logs", "--selector=" + upgrade.LabelOwner, "--all-containers", "--prefix", "--tail=50", "--namespace=" + m.Namespace},
		{"logs", "deployment/" + stage.Manager, "--all-pods", "--since=3m", "--tail=100", "--namespace=" + stage.Namespace},
	} {
		out, err := m.TryKubectl(context.Background(), "", args...)
		m.t.Logf("kubectl %q: %v\n%s", args, err, out)
	}
}
