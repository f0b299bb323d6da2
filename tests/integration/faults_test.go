// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

var users = map[string]string{"20260101000000_users.sql": "CREATE TABLE users (id int PRIMARY KEY);\n"}

// fault is one thing that goes wrong, how it is told, and how it is mended, without anything being deleted but what is in the way.
type fault struct {
	// start creates the DBUpgrade with the fault in place.
	start func(*hand)
	// reason of Ready, and texts in its message.
	reason   string
	messages []string
	degraded bool // else blocked
	stalled  bool
	mend     func(*hand)
}

func TestFaults(t *testing.T) {
	for name, f := range faults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHand(t)
			f.start(h)
			obj := h.drive(reason(f.reason))
			ready := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionReady)
			for _, want := range f.messages {
				if !strings.Contains(ready.Message, want) {
					t.Errorf("message %q does not say %q", ready.Message, want)
				}
			}
			for kind, want := range map[string]bool{
				v1alpha1.ConditionDegraded: f.degraded, v1alpha1.ConditionBlocked: !f.degraded, v1alpha1.ConditionStalled: f.stalled, v1alpha1.ConditionProgressing: false,
			} {
				if got := meta.IsStatusConditionTrue(obj.Status.Conditions, kind); got != want {
					t.Errorf("%s is %v, want %v", kind, got, want)
				}
			}
			event, err := h.events.last(f.reason)
			if err != nil {
				t.Fatal(err)
			}
			if wanted := f.reason != v1alpha1.ReasonWaitingForLock; (event.kind == corev1.EventTypeWarning) != wanted || !strings.HasPrefix(ready.Message, strings.TrimSuffix(event.note, "…")) {
				t.Errorf("event %+v does not go with message %q", event, ready.Message)
			}
			f.mend(h)
			obj = h.drive(settled)
			if meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionStalled) != nil {
				t.Error("still Stalled")
			}
		})
	}
}

func faults() map[string]fault {
	all := map[string]fault{}
	for _, some := range []map[string]fault{podFaults(), refusals(), imageFaults(), databaseFaults(), migrationFaults()} {
		for name, f := range some {
			all[name] = f
		}
	}
	return all
}

func podFaults() map[string]fault {
	return map[string]fault{
		"Secret missing": {
			start:    func(h *hand) { h.create(h.image("app:v1", users), builders.URLSecret("later")) },
			reason:   v1alpha1.ReasonSecretNotFound,
			messages: []string{`container migrate cannot be configured: secret "later" not found`},
			stalled:  true,
			mend:     func(h *hand) { h.secret("later", map[string]string{"url": h.url}) },
		},
		"key missing": {
			start: func(h *hand) {
				h.secret("partial", map[string]string{"other": "x"})
				h.create(h.image("app:v1", users), builders.URLSecret("partial"))
			},
			reason:   v1alpha1.ReasonSecretNotFound,
			messages: []string{"couldn't find key url in Secret"},
			stalled:  true,
			mend:     func(h *hand) { h.secret("partial", map[string]string{"url": h.url}) },
		},
		"unschedulable": {
			start: func(h *hand) {
				h.create(h.image("app:v1", users), func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.NodeSelector = map[string]string{"disk": "none"} })
			},
			reason:   v1alpha1.ReasonUnschedulable,
			messages: []string{"0/1 nodes are available"},
			stalled:  true,
			mend:     func(h *hand) { h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.NodeSelector = nil }) },
		},
		"operator image missing": {
			start: func(h *hand) {
				h.player.Missing = upgrade.FetchContainer
				h.create(h.image("app:v1", users))
			},
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"container fetch-migrations: image " + operatorImage + " cannot be pulled: rpc error: code = NotFound desc = failed to pull and unpack image"},
			stalled:  true,
			mend:     func(h *hand) { h.player.Missing = "" },
		},
	}
}

// refusals are by the API server itself.
func refusals() map[string]fault {
	quota := func(h *hand, name corev1.ResourceName) {
		hard := corev1.ResourceList{name: resource.MustParse("0")}
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
		h.must(world.client.Create(h.ctx, q))
		q.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: hard} // what the quota controller would write
		h.must(world.client.Status().Update(h.ctx, q))
	}
	noQuota := func(h *hand) {
		h.must(world.client.Delete(h.ctx, &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: "q"}}))
	}
	unconfined := map[string]string{"container.apparmor.security.beta.kubernetes.io/migrate": "unconfined"}
	return map[string]fault{
		"quota of pods": {
			start:    func(h *hand) { quota(h, corev1.ResourcePods); h.create(h.image("app:v1", users)) },
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"exceeded quota: q", "pods=1"},
			stalled:  true,
			mend:     noQuota,
		},
		"quota of Jobs": {
			start:    func(h *hand) { quota(h, "count/jobs.batch"); h.create(h.image("app:v1", users)) },
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"the Job is refused", "exceeded quota: q"},
			stalled:  true,
			mend:     noQuota,
		},
		"pod security": {
			start: func(h *hand) {
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
				h.must(world.client.Update(h.ctx, ns))
				h.create(h.image("app:v1", users), func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodAnnotations = unconfined })
			},
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{`violates PodSecurity "restricted:latest"`},
			stalled:  true,
			mend:     func(h *hand) { h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodAnnotations = nil }) },
		},
		"label that no pod may have": {
			start: func(h *hand) {
				h.create(h.image("app:v1", users), func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodLabels = map[string]string{"team": "not valid!"} })
			},
			reason:   v1alpha1.ReasonInvalidSpec,
			messages: []string{"spec.template.labels"},
			stalled:  true,
			mend:     func(h *hand) { h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodLabels = nil }) },
		},
	}
}

func imageFaults() map[string]fault {
	return map[string]fault{
		"image missing": {
			start:    func(h *hand) { h.create(h.registry.Ref("app:v1")) },
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"app:v1"},
			mend:     func(h *hand) { h.image("app:v1", users) },
		},
		"registry down": {
			start: func(h *hand) {
				h.create(h.image("app:v1", users))
				h.registry.Down()
			},
			reason: v1alpha1.ReasonImagePullFailed,
			mend:   func(h *hand) { h.registry.Up(h.t) },
		},
		"image reference that does not parse": { // the webhook refuses it; here it is away
			start:    func(h *hand) { h.create("No Image") },
			reason:   v1alpha1.ReasonInvalidSpec,
			messages: []string{"spec.migrations.image"},
			stalled:  true,
			mend:     func(h *hand) { h.setImage(h.image("app:v1", users)) },
		},
		"directory missing": {
			start: func(h *hand) {
				h.create(h.image("app:v1", users), func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/migratons" })
			},
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"/migratons", "migrations"},
			degraded: true, stalled: true,
			mend: func(h *hand) { h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/migrations" }) },
		},
		"atlas.sum tampered with": {
			start: func(h *hand) {
				files := registry.Migrations(h.t, users)
				files["migrations/20260101000000_users.sql"] += "DROP TABLE IF EXISTS users;\n"
				h.registry.Push(h.t, "app:bad", registry.Image(h.t, files))
				h.create(h.registry.Ref("app:bad"))
			},
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"atlas.sum"},
			degraded: true, stalled: true,
			mend: func(h *hand) { h.setImage(h.image("app:v1", users)) },
		},
	}
}

func databaseFaults() map[string]fault {
	var server *postgres.Server
	with := func(h *hand, change func(*url.URL)) {
		u, err := url.Parse(h.url)
		h.must(err)
		change(u)
		h.secret("db", map[string]string{"url": u.String()})
	}
	mendURL := func(h *hand) { h.secret("db", map[string]string{"url": h.url}) }
	return map[string]fault{
		"wrong password": {
			start: func(h *hand) {
				with(h, func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), marker) })
				h.create(h.image("app:v1", users))
			},
			reason:   v1alpha1.ReasonDatabaseUnreachable,
			messages: []string{"password authentication failed", "28P01"},
			mend:     mendURL,
		},
		"URL that does not parse": {
			start: func(h *hand) {
				h.secret("db", map[string]string{"url": "postgres://user:" + marker + "%zz@[host/db"})
				h.create(h.image("app:v1", users))
			},
			reason: v1alpha1.ReasonDatabaseUnreachable,
			mend:   mendURL,
		},
		"database down": {
			start: func(h *hand) {
				server = postgres.Start(h.t)
				h.secret("db", map[string]string{"url": server.NewDatabase(h.t)})
				h.must(server.Stop())
				h.create(h.image("app:v1", users))
			},
			reason: v1alpha1.ReasonDatabaseUnreachable,
			mend:   func(h *hand) { h.must(server.Start()) },
		},
	}
}

func migrationFaults() map[string]fault {
	two := func(second string) map[string]string {
		return map[string]string{"20260101000000_users.sql": users["20260101000000_users.sql"], "20260102000000_more.sql": second}
	}
	retry := func(h *hand) {
		h.edit(func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"} })
	}
	return map[string]fault{
		"statement fails": {
			start:    func(h *hand) { h.create(h.image("app:v1", two("SELECT 1;\nCREATE TABLE users (id int);\n"))) },
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"20260102000000_more.sql, statement 2", `relation "users" already exists`, "42P07"},
			degraded: true, stalled: true,
			mend: func(h *hand) { h.setImage(h.image("app:v2", two("SELECT 1;\nCREATE TABLE orders (id int);\n"))) },
		},
		"deadline": {
			start: func(h *hand) {
				h.create(h.image("app:v1", two("SELECT pg_sleep(60);\n")), func(o *v1alpha1.DBUpgrade) {
					seconds := int64(1)
					o.Spec.Runner.ActiveDeadlineSeconds = &seconds
				})
			},
			reason:   v1alpha1.ReasonDeadlineExceeded,
			messages: []string{"20260102000000_more.sql, statement 1"},
			degraded: true, stalled: true,
			mend: func(h *hand) { h.setImage(h.image("app:v2", two("SELECT pg_sleep(0);\n"))) },
		},
		"lock in the database": {
			start: func(h *hand) {
				h.reconciler.Runner.LockTimeout = "300ms"
				h.holdAdvisoryLock()
				h.create(h.image("app:v1", users))
			},
			reason: v1alpha1.ReasonWaitingForLock,
			mend:   (*hand).freeAdvisoryLock,
		},
		"killed": {
			start: func(h *hand) {
				h.create(h.image("app:v1", two("SELECT pg_sleep(60);\n")))
				h.player.Wait = false
				h.drive(reason(v1alpha1.ReasonMigrationInProgress))
				postgres.AwaitSleep(h.t, h.url)
				h.player.Kill()
				h.player.Wait = true
			},
			reason: v1alpha1.ReasonInterrupted,
			mend:   func(h *hand) { h.endSleep(); h.setImage(h.image("app:v2", two("SELECT pg_sleep(0);\n"))) },
		},
		"killed outside a transaction": {
			start: func(h *hand) {
				h.create(h.image("app:v1", two("-- atlas:txmode none\n\nCREATE TABLE a (id int);\nSELECT pg_sleep(60);\n")))
				h.player.Wait = false
				h.drive(reason(v1alpha1.ReasonMigrationInProgress))
				postgres.AwaitSleep(h.t, h.url)
				h.player.Kill()
				h.endSleep()
				h.player.Wait = true
			},
			reason:   v1alpha1.ReasonInDoubt,
			messages: []string{"20260102000000_more.sql, statement 2"},
			degraded: true, stalled: true,
			mend: func(h *hand) { // as docs/runner.md says for a statement that took effect
				h.exec("UPDATE atlas_schema_revisions.atlas_schema_revisions SET applied = applied + 1, error = '', error_stmt = '' WHERE version = '20260102000000' AND error LIKE 'dbupgrade: in doubt:%'")
				retry(h)
			},
		},
	}
}
