// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
	"github.com/subganapathy/automatic-db-upgrades/webhooks"
)

const webhookName = `admission webhook "vdbupgrade.dbupgrade.subbug.learning" denied the request`

func unparsable(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = "Not an image" }

// serve registers the webhook at the API server, from the generated manifest, and serves it as the manager does with provided certificates.
// What it returns ends the serving and leaves the registration.
func serve(t *testing.T) func() {
	t.Helper()
	install := envtest.WebhookInstallOptions{Paths: []string{"../../config/webhook/manifests.yaml"}}
	if err := install.Install(cluster); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, registration := range install.ValidatingWebhooks {
			if err := admin.Delete(context.Background(), registration); err != nil {
				t.Error(err)
			}
		}
		if err := install.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	mgr, err := ctrl.NewManager(cluster, ctrl.Options{
		Scheme:  scheme,
		Metrics: server.Options{BindAddress: "0"},
		WebhookServer: webhook.NewServer(webhook.Options{
			Host: install.LocalServingHost, Port: install.LocalServingPort, CertDir: install.LocalServingCertDir,
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&webhooks.DBUpgradeValidator{Reader: mgr.GetClient(), Runner: upgrade.RunnerConfig{KubernetesVersion: version.MustParseGeneric("1.34.0")}}).SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- mgr.Start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager: %v", err)
		}
	})
	t.Cleanup(stop)

	// The API server takes a moment to learn of the registration.
	probe := dbupgrade(controlplane.Namespace(t, admin), "probe", unparsable)
	eventually(t, "the webhook never refused", func(ctx context.Context) (bool, error) {
		err := admin.Create(ctx, probe.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), webhookName), nil
	})
	return stop
}

func TestWebhook(t *testing.T) {
	namespace := controlplane.Namespace(t, admin)
	old := created(t, dbupgrade(namespace, "from-before", unparsable), "")
	stop := serve(t)

	t.Run("creation", func(t *testing.T) { testCreation(t, namespace) })
	t.Run("update", func(t *testing.T) { testUpdate(t, namespace, old) })
	t.Run("resolve", func(t *testing.T) { testResolve(t, namespace) })
	t.Run("warning", func(t *testing.T) { testWarning(t, namespace) })
	t.Run("deletion", func(t *testing.T) { testDeletion(t, namespace) })
	beforehand := created(t, dbupgrade(namespace, "survivor", func(o *v1alpha1.DBUpgrade) { o.Finalizers = []string{v1alpha1.Finalizer} }), v1alpha1.AttemptRunning)
	stop()
	t.Run("webhook down", func(t *testing.T) { testWebhookDown(t, namespace, beforehand) })
}

func testCreation(t *testing.T, namespace string) {
	err := admin.Create(t.Context(), dbupgrade(namespace, "bad", unparsable))
	refused(t, err, metav1.StatusReasonInvalid, "spec.migrations.image", webhookName, "spec.migrations.image", `"Not an image"`, "registry.example.com/team/app")
	err = admin.Create(t.Context(), dbupgrade(namespace, "early", func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Extraction = v1alpha1.ExtractionImageVolume }))
	refused(t, err, metav1.StatusReasonInvalid, "spec.migrations.extraction", webhookName, "ImageVolume needs Kubernetes 1.35, and this is 1.34.0")
	created(t, dbupgrade(namespace, "good"), "")
	created(t, dbupgrade(namespace, "digest", func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Image = "registry.example.com/team/app@sha256:" + strings.Repeat("a", 64)
	}), "")
}

func testUpdate(t *testing.T, namespace string, old *v1alpha1.DBUpgrade) {
	obj := created(t, dbupgrade(namespace, "edited"), "")
	unparsable(obj)
	refused(t, admin.Update(t.Context(), obj), metav1.StatusReasonInvalid, "spec.migrations.image", webhookName)

	// An object that was let in while there was no webhook can be suspended, annotated and mended, and not be made differently wrong.
	old.Annotations = map[string]string{v1alpha1.AnnotationRetry: "1"}
	old.Spec.Suspend = true
	if err := admin.Update(t.Context(), old); err != nil {
		t.Error(err)
	}
	wrong := old.DeepCopy()
	wrong.Spec.Migrations.Image = "Still none"
	refused(t, admin.Update(t.Context(), wrong), metav1.StatusReasonInvalid, "spec.migrations.image", webhookName)
	old.Spec.Migrations.Image = "registry.example.com/team/app:v2"
	if err := admin.Update(t.Context(), old); err != nil {
		t.Error(err)
	}
}

// testResolve: a way out of doubt that is none is refused; everything else about annotations is none of the webhook's business.
func testResolve(t *testing.T, namespace string) {
	const field = "metadata.annotations[" + v1alpha1.AnnotationResolve + "]"
	annotated := func(value string) func(*v1alpha1.DBUpgrade) {
		return func(o *v1alpha1.DBUpgrade) { o.Annotations = map[string]string{v1alpha1.AnnotationResolve: value} }
	}
	err := admin.Create(t.Context(), dbupgrade(namespace, "misled", annotated("redo")))
	refused(t, err, metav1.StatusReasonInvalid, field, webhookName, "must be redo:<ID>", "skip:<ID>")
	obj := created(t, dbupgrade(namespace, "resolved", annotated("redo:ABCDEF23")), v1alpha1.AttemptRunning)
	for value, valid := range map[string]bool{"skip:ABCDEF23": true, "skip:abcdef23": false, "": true} {
		changed := obj.DeepCopy()
		annotated(value)(changed)
		switch err := admin.Update(t.Context(), changed, client.DryRunAll); {
		case !valid:
			refused(t, err, metav1.StatusReasonInvalid, field, webhookName)
		case err != nil:
			t.Errorf("%q: %v", value, err)
		}
	}
}

// warnings collects what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

func testWarning(t *testing.T, namespace string) {
	heard := &warnings{}
	config := rest.CopyConfig(cluster)
	config.WarningHandler = heard
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	shared := func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Name = "shared" }
	for _, name := range []string{"b", "a"} {
		created(t, dbupgrade(namespace, name, shared), "")
	}
	// Another namespace's Secret of the same name is another Secret, and another key another database.
	created(t, dbupgrade(controlplane.Namespace(t, admin), "c", shared), "")
	created(t, dbupgrade(namespace, "d", shared, func(o *v1alpha1.DBUpgrade) { o.Spec.Database.Connection.URLSecretRef.Key = "k" }), "")

	eventually(t, "no warning of both", func(ctx context.Context) (bool, error) {
		err := c.Create(ctx, dbupgrade(namespace, "third", shared), client.DryRunAll)
		said := strings.Join(heard.take(), "\n")
		return strings.Contains(said, "spec.database.connection.urlSecretRef: the same database has migrations from a, b:"), err
	})
	if err := c.Create(t.Context(), dbupgrade(namespace, "alone"), client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if said := heard.take(); len(said) > 0 {
		t.Errorf("warned of a Secret that nobody else uses: %q", said)
	}
}

func testDeletion(t *testing.T, namespace string) {
	for _, phase := range []v1alpha1.AttemptPhase{v1alpha1.AttemptPending, v1alpha1.AttemptRunning} {
		obj := created(t, dbupgrade(namespace, "busy-"+strings.ToLower(string(phase))), phase)
		foreground := client.PropagationPolicy(metav1.DeletePropagationForeground)
		refused(t, admin.Delete(t.Context(), obj, foreground), metav1.StatusReasonForbidden, "",
			webhookName, "attempt 7", strings.ToLower(string(phase)), "delete in the background")
		refused(t, admin.DeleteAllOf(t.Context(), obj, client.InNamespace(namespace), client.MatchingFields{"metadata.name": obj.Name}, foreground),
			metav1.StatusReasonForbidden, "", webhookName)
		for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan} {
			if err := admin.Delete(t.Context(), obj, client.PropagationPolicy(policy), client.DryRunAll); err != nil {
				t.Errorf("phase %s, policy %s: %v", phase, policy, err)
			}
		}
		if err := admin.Delete(t.Context(), obj); err != nil {
			t.Errorf("phase %s, no policy: %v", phase, err)
		}
	}
	for _, phase := range []v1alpha1.AttemptPhase{"", v1alpha1.AttemptNew, v1alpha1.AttemptSucceeded, v1alpha1.AttemptFailed} {
		obj := created(t, dbupgrade(namespace, "idle-x"+strings.ToLower(string(phase))), phase)
		if err := admin.Delete(t.Context(), obj, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
			t.Errorf("phase %q: %v", phase, err)
		}
	}
}

// testWebhookDown: what does not need the webhook does not wait for it; what does is refused.
func testWebhookDown(t *testing.T, namespace string, obj *v1alpha1.DBUpgrade) {
	const down = "failed calling webhook"
	refused(t, admin.Create(t.Context(), dbupgrade(namespace, "late")), metav1.StatusReasonInternalError, "", down)

	obj.Labels = map[string]string{"touched": "true"}
	if err := admin.Update(t.Context(), obj); err != nil {
		t.Errorf("change of metadata: %v", err)
	}
	obj.Status.Attempt.Phase = v1alpha1.AttemptSucceeded
	if err := admin.Status().Update(t.Context(), obj); err != nil {
		t.Errorf("change of status: %v", err)
	}
	edited := obj.DeepCopy()
	edited.Spec.Migrations.Image = "registry.example.com/team/app:v2"
	refused(t, admin.Update(t.Context(), edited), metav1.StatusReasonInternalError, "", down)

	if err := admin.Delete(t.Context(), obj); err != nil {
		t.Fatalf("deletion: %v", err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	if obj.DeletionTimestamp.IsZero() {
		t.Fatal("the finalizer did not hold the object")
	}
	obj.Finalizers = nil
	obj.Spec.Suspend = true // even so: what is going away is let go
	if err := admin.Update(t.Context(), obj); err != nil {
		t.Errorf("removal of the finalizer: %v", err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
}
