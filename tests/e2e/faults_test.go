//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var users = map[string]string{"20260101000000_users.sql": "CREATE TABLE users (id int PRIMARY KEY);\n"}

// fault is one thing that goes wrong on a real node, and how it is mended. Nothing is done to the DBUpgrade that its user would not do.
type fault struct {
	name string
	// alone: in a namespace of its own, because the whole of it is at fault.
	alone bool
	// start puts the fault in place and creates the DBUpgrade.
	start func(*site)
	// reason of Ready, and texts in its message.
	reason   string
	messages []string
	// degraded: it needs a new spec or image, else mending what is outside is enough.
	degraded bool
	mend     func(*site)

	site     *site
	mendedAt time.Time
}

// All faults are put in place at once, since most of their time is spent on waiting: for two minutes until a pod counts as stuck, and for the
// next attempt. They are looked at in the order in which they are told, since each is told for ten seconds: then there is another attempt.
var _ = ginkgo.Describe("Each fault", ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
	quick := slices.Concat(imageFaults(), databaseFaults(), runFaults(), pendingFaults())
	slow := slices.Concat(refusals(), schedulerFaults(), kubeletFaults())
	ginkgo.BeforeAll(func() {
		g := newGround("faults")
		for _, f := range slices.Concat(slow, quick) {
			f.begin(g)
		}
	})
	for _, f := range slices.Concat(quick, slow) {
		ginkgo.It("is told: "+f.name, f.isTold)
	}
	for _, f := range slices.Concat(quick, slow) {
		ginkgo.It("is over once it is mended: "+f.name, f.isOver)
	}
})

func (f *fault) begin(g *ground) {
	f.site = g.site(f.name, f.alone)
	f.start(f.site)
}

func (f *fault) isTold() {
	tb := ginkgo.GinkgoTB()
	obj := stage.Wait(f.site.Team, tb, f.site.name, "has the reason "+f.reason, func(d *v1alpha1.DBUpgrade) bool {
		return stage.Reason(d) == f.reason && (f.reason != v1alpha1.ReasonJobPending || f.unsaid(d) == nil)
	})
	tb.Logf("%s %s after it was created: %s", f.reason, toldAfter(obj), ready(obj).Message)
	f.mendedAt = time.Now()
	f.mend(f.site)
	if unsaid := f.unsaid(obj); unsaid != nil {
		tb.Errorf("message %q does not say %q", ready(obj).Message, unsaid)
	}
	pending := f.reason == v1alpha1.ReasonJobPending
	for kind, want := range map[string]bool{
		v1alpha1.ConditionDegraded: f.degraded, v1alpha1.ConditionBlocked: !f.degraded && !pending, v1alpha1.ConditionProgressing: pending,
	} {
		if got := meta.IsStatusConditionTrue(obj.Status.Conditions, kind); got != want {
			tb.Errorf("%s is %v, want %v", kind, got, want)
		}
	}
}

// toldAfter is how long the first attempt took to fail, or the present one to say what keeps its pod from starting.
func toldAfter(d *v1alpha1.DBUpgrade) time.Duration {
	if n := len(d.Status.History); n > 0 {
		return d.Status.History[n-1].CompletedAt.Sub(d.CreationTimestamp.Time)
	}
	if since := d.Status.Attempt.TroubleSince; since != nil {
		return since.Sub(d.CreationTimestamp.Time)
	}
	return ready(d).LastTransitionTime.Sub(d.CreationTimestamp.Time)
}

func (f *fault) isOver() {
	if f.mendedAt.IsZero() {
		ginkgo.Skip("it was not told, and so not mended")
	}
	tb := ginkgo.GinkgoTB()
	obj := f.site.Ready(tb, f.site.name, v1alpha1.ReasonMigrationComplete)
	tb.Logf("Ready after %s, by attempt %d", ready(obj).LastTransitionTime.Sub(f.mendedAt).Round(time.Second), obj.Status.Attempt.Number)
	if meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled) != nil {
		tb.Error("still Stalled")
	}
	if tables := f.site.query("SELECT count(*)::text FROM pg_tables WHERE tablename = 'users'"); tables != "1" {
		tb.Errorf("%s tables of users", tables)
	}
}

// unsaid are the texts that the message lacks.
func (f *fault) unsaid(d *v1alpha1.DBUpgrade) []string {
	var lacks []string
	for _, text := range f.messages {
		if !strings.Contains(ready(d).Message, strings.ReplaceAll(text, "NAME", f.site.name)) {
			lacks = append(lacks, text)
		}
	}
	return lacks
}

func ready(d *v1alpha1.DBUpgrade) metav1.Condition {
	if c := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// ground is what the faults share: one server with a database for each of them, an image that nothing is wrong with.
type ground struct {
	team  *stage.Team
	image string
	db    *pgx.Conn
	// here is this machine's address as the cluster sees it.
	here string
}

func newGround(prefix string) *ground {
	tb := ginkgo.GinkgoTB()
	team := newTeam(prefix)
	conn, err := net.Dial("udp", team.Cluster.Push) // sends nothing
	if err != nil {
		tb.Fatal(err)
	}
	here, _, err := net.SplitHostPort(conn.LocalAddr().String())
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.Close()
	return &ground{team: team, image: team.Image(tb, "good", users), db: team.DB(tb), here: here}
}

func (g *ground) exec(sql string) { execSQL(g.db, sql) }

func execSQL(db *pgx.Conn, sql string) {
	tb := ginkgo.GinkgoTB()
	if _, err := db.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

// site is where one fault happens. The DBUpgrade, its Secret, its database and whatever else it needs have its name.
type site struct {
	*stage.Team
	*ground
	name string
	// server is the team that has the site's database.
	server *stage.Team
}

func (g *ground) site(fault string, alone bool) *site {
	tb := ginkgo.GinkgoTB()
	s := &site{Team: g.team, ground: g, server: g.team, name: strings.ReplaceAll(strings.ToLower(fault), " ", "-")}
	if alone {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			GenerateName: s.name + "-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
		}}
		s.add(ns)
		s.removeAtEnd(ns)
		s.Team = &stage.Team{Stage: g.team.Stage, Namespace: ns.Name}
	}
	g.exec("CREATE DATABASE " + pgx.Identifier{s.name}.Sanitize())
	tb.Logf("%s in %s", fault, s.Namespace)
	return s
}

// add creates an object, which goes with its namespace.
func (s *site) add(obj client.Object) {
	if err := s.Client.Create(ginkgo.GinkgoTB().Context(), obj); err != nil {
		ginkgo.GinkgoTB().Fatal(err)
	}
}

// removeAtEnd removes an object that is in no namespace when all is over. It need not exist yet.
func (s *site) removeAtEnd(obj client.Object) {
	ginkgo.DeferCleanup(func(ctx ginkgo.SpecContext) error { return client.IgnoreNotFound(s.Client.Delete(ctx, obj)) })
}

// named is the metadata of an object of the site.
func (s *site) named() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: s.Namespace, Name: s.name}
}

func (s *site) delete(obj client.Object) {
	if err := s.Client.Delete(ginkgo.GinkgoTB().Context(), obj); err != nil {
		ginkgo.GinkgoTB().Fatal(err)
	}
}

// change changes an object of the site.
func (s *site) change(obj client.Object, change func()) {
	tb := ginkgo.GinkgoTB()
	if _, err := controllerutil.CreateOrPatch(tb.Context(), s.Client, obj, func() error { change(); return nil }); err != nil {
		tb.Fatal(err)
	}
}

// url is that of the site's database.
func (s *site) url(change ...func(*url.URL)) string {
	u := &url.URL{
		Scheme: "postgres", User: url.UserPassword("app", "secret"), Host: "postgres." + s.server.Namespace, Path: s.name, RawQuery: "sslmode=disable",
	}
	for _, f := range change {
		f(u)
	}
	return u.String()
}

// secret makes or replaces the Secret that the DBUpgrade names.
func (s *site) secret(url string) {
	secret := &corev1.Secret{ObjectMeta: s.named()}
	s.change(secret, func() { secret.Data = map[string][]byte{"url": []byte(url)} })
}

// create makes the DBUpgrade, with nothing wrong but what change makes so.
func (s *site) create(image string, change ...func(*v1alpha1.DBUpgrade)) {
	own := func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Name = s.name }
	s.Create(ginkgo.GinkgoTB(), s.name, image, append([]func(*v1alpha1.DBUpgrade){own}, change...)...)
}

// edit changes the DBUpgrade as soon as that is allowed: not while an attempt is on its way.
func (s *site) edit(change func(*v1alpha1.DBUpgrade)) {
	tb := ginkgo.GinkgoTB()
	for {
		obj := stage.Wait(s.Team, tb, s.name, "may be edited", func(d *v1alpha1.DBUpgrade) bool { return d.Status.Attempt.Phase.Ended() })
		base := obj.DeepCopy()
		change(obj)
		err := s.Client.Patch(tb.Context(), obj, client.MergeFrom(base))
		if err == nil {
			return
		}
		if !apierrors.IsInvalid(err) {
			tb.Fatal(err)
		}
	}
}

func (s *site) setImage(image string) {
	s.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = image })
}

// query is the one value that a query in the site's database gives.
func (s *site) query(sql string) string {
	tb := ginkgo.GinkgoTB()
	conn := s.connect()
	defer conn.Close(tb.Context())
	var value string
	if err := conn.QueryRow(tb.Context(), sql).Scan(&value); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return value
}

// connect connects to the site's database until the spec ends.
func (s *site) connect() *pgx.Conn {
	tb := ginkgo.GinkgoTB()
	config := s.server.DB(tb).Config()
	config.Database = s.name
	conn, err := pgx.ConnectConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	ginkgo.DeferCleanup(func(ctx context.Context) { _ = conn.Close(ctx) })
	return conn
}
