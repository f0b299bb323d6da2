// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/mariadb"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
)

//go:embed postgres.yaml
var postgres string

//go:embed mariadb.yaml
var maria string

// waitTimeout is far more than anything takes, also on a machine that does much else.
const waitTimeout = 5 * time.Minute

// Team is a namespace that enforces restricted pods, with a database of its own, whose URL is in key url of the Secret db.
type Team struct {
	*Stage
	Namespace string
	database  string // the name of its Service: postgres or mariadb
}

// NewTeam makes a namespace and its PostgreSQL, and removes it when the test ends.
func (s *Stage) NewTeam(tb testing.TB, prefix string) *Team {
	tb.Helper()
	return s.newTeam(tb, prefix, "postgres", postgres)
}

// NewMariaDBTeam makes a namespace and its MariaDB, and removes it when the test ends.
func (s *Stage) NewMariaDBTeam(tb testing.TB, prefix string) *Team {
	tb.Helper()
	img, err := image.MariaDB(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	s.Push(tb, "mariadb:10", img)
	return s.newTeam(tb, prefix, "mariadb", maria)
}

func (s *Stage) newTeam(tb testing.TB, prefix, database, manifest string) *Team {
	tb.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: prefix + "-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := s.Client.Create(tb.Context(), ns); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := client.IgnoreNotFound(s.Client.Delete(context.Background(), ns)); err != nil {
			tb.Error(err)
		}
	})
	t := &Team{Stage: s, Namespace: ns.Name, database: database}
	s.Kubectl(tb, manifest, "apply", "--server-side", "--namespace="+ns.Name, "--filename=-")
	Wait(t, tb, database, "is available", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 1 })
	return t
}

// Image pushes an image of the team with these migrations, by their names, and returns its name in the cluster.
func (t *Team) Image(tb testing.TB, tag string, files map[string]string) string {
	tb.Helper()
	var placed []image.File
	for name, content := range migrations.WithSum(tb, files) {
		placed = append(placed, image.File{Path: path.Join("/migrations", name), Mode: 0o644, Content: []byte(content)})
	}
	img, err := image.Build(placed, v1.Config{}, image.Host())
	if err != nil {
		tb.Fatal(err)
	}
	return t.Push(tb, t.Namespace+"/app:"+tag, img)
}

// Create makes a DBUpgrade of that image for the team's database.
func (t *Team) Create(tb testing.TB, name, image string, change ...func(*v1alpha1.DBUpgrade)) *v1alpha1.DBUpgrade {
	tb.Helper()
	obj := &v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.Namespace, Name: name},
		Spec: v1alpha1.DBUpgradeSpec{
			Migrations: v1alpha1.MigrationsSpec{Image: image},
			Database: v1alpha1.DatabaseSpec{
				Type:       v1alpha1.DatabaseSelfHosted,
				Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: "db", Key: "url"}},
			},
		},
	}
	for _, f := range change {
		f(obj)
	}
	if err := t.Client.Create(tb.Context(), obj); err != nil {
		tb.Fatal(err)
	}
	return obj
}

// Update changes a DBUpgrade.
func (t *Team) Update(tb testing.TB, name string, change func(*v1alpha1.DBUpgrade)) {
	tb.Helper()
	obj := Get[v1alpha1.DBUpgrade](t, tb, name)
	base := obj.DeepCopy()
	change(obj)
	if err := t.Client.Patch(tb.Context(), obj, client.MergeFrom(base)); err != nil {
		tb.Fatal(err)
	}
}

// Ready waits until the DBUpgrade has this reason at its condition Ready, for its present generation.
func (t *Team) Ready(tb testing.TB, name, reason string) *v1alpha1.DBUpgrade {
	tb.Helper()
	return Wait(t, tb, name, "has the reason "+reason, func(d *v1alpha1.DBUpgrade) bool { return Reason(d) == reason })
}

// Reason is that of the condition Ready, or empty where it is of an older generation.
func Reason(d *v1alpha1.DBUpgrade) string {
	for _, c := range d.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady && c.ObservedGeneration == d.Generation {
			return c.Reason
		}
	}
	return ""
}

// Jobs are the team's, the oldest first.
func (t *Team) Jobs(tb testing.TB) []batchv1.Job {
	tb.Helper()
	var list batchv1.JobList
	if err := t.Client.List(tb.Context(), &list, client.InNamespace(t.Namespace)); err != nil {
		tb.Fatal(err)
	}
	return list.Items
}

// DB connects to the team's PostgreSQL from outside.
func (t *Team) DB(tb testing.TB) *pgx.Conn {
	tb.Helper()
	service := Get[corev1.Service](t, tb, "postgres")
	at := url.URL{
		Scheme: "postgres", User: url.UserPassword("app", "secret"), Host: net.JoinHostPort(service.Spec.ClusterIP, "5432"), Path: "app",
		RawQuery: "sslmode=disable",
	}
	conn, err := pgx.Connect(tb.Context(), at.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// MariaDB is the URL of the team's MariaDB from outside.
func (t *Team) MariaDB(tb testing.TB) string {
	tb.Helper()
	return "mysql://app:secret@" + Get[corev1.Service](t, tb, "mariadb").Spec.ClusterIP + ":3306/app"
}

// Query is the rows' first column.
func (t *Team) Query(tb testing.TB, sql string) []string {
	tb.Helper()
	if t.database == "mariadb" {
		return queryMariaDB(tb, t.MariaDB(tb), sql)
	}
	rows, err := t.DB(tb).Query(tb.Context(), sql)
	if err != nil {
		tb.Fatal(err)
	}
	column, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var value any
		err := row.Scan(&value)
		return fmt.Sprint(value), err
	})
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return column
}

func queryMariaDB(tb testing.TB, address, query string) []string {
	tb.Helper()
	var column []string
	for row := range strings.Lines(mariadb.Query(tb, address, query)) {
		var values []*string
		if err := json.Unmarshal([]byte(row), &values); err != nil {
			tb.Fatal(err)
		}
		if values[0] == nil {
			column = append(column, "<nil>") // as of PostgreSQL
			continue
		}
		column = append(column, *values[0])
	}
	return column
}

// Applied is the versions that the database says were applied.
func (t *Team) Applied(tb testing.TB) []string {
	tb.Helper()
	schema := "atlas_schema_revisions"
	if t.database == "mariadb" {
		schema = "app" // where the URL names one, the history is in it
	}
	return t.Query(tb, "SELECT version FROM "+schema+".atlas_schema_revisions WHERE type <> 0 ORDER BY version")
}
