// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// listTimeout bounds the look at the other objects of a namespace. It comes from the cache; only while that is still filling does it take time.
const listTimeout = 2 * time.Second

// DBUpgradeValidator refuses DBUpgrades, changes and deletions of them that cannot go well, each error with the field's path, and warns of
// those that may not.
type DBUpgradeValidator struct {
	// Reader lists the other DBUpgrades of a namespace, from the cache.
	Reader client.Reader
	// Runner bounds what a spec may ask for, as the reconciler's does.
	Runner upgrade.RunnerConfig
}

var _ admission.Validator[*v1alpha1.DBUpgrade] = &DBUpgradeValidator{}

// +kubebuilder:webhook:path=/validate-dbupgrade-subbug-learning-v1alpha1-dbupgrade,mutating=false,failurePolicy=fail,sideEffects=None,groups=dbupgrade.subbug.learning,resources=dbupgrades,verbs=create;update;delete,versions=v1alpha1,name=vdbupgrade.dbupgrade.subbug.learning,admissionReviewVersions=v1,timeoutSeconds=10,patch=`{"matchConditions":[{"name":"spec-or-resolve-changes","expression":"request.operation != 'UPDATE' || object.spec != oldObject.spec || object.metadata.?annotations[?'dbupgrade.subbug.learning/resolve'].orValue(\"\") != oldObject.metadata.?annotations[?'dbupgrade.subbug.learning/resolve'].orValue(\"\")"},{"name":"not-being-deleted","expression":"request.operation != 'UPDATE' || !has(object.metadata.deletionTimestamp)"},{"name":"foreground-deletion","expression":"request.operation != 'DELETE' || (has(request.options.propagationPolicy) && request.options.propagationPolicy == 'Foreground')"}]}`

// SetupWithManager registers the webhook at the manager's webhook server, which then starts, and needs its certificate, with the manager.
func (v *DBUpgradeValidator) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewWebhookManagedBy(mgr, &v1alpha1.DBUpgrade{}).WithValidator(v).Complete()
}

// ValidateCreate refuses a spec that cannot be worked with.
func (v *DBUpgradeValidator) ValidateCreate(ctx context.Context, obj *v1alpha1.DBUpgrade) (admission.Warnings, error) {
	return v.sharers(ctx, obj), invalid(obj, append(upgrade.Validate(&obj.Spec, v.Runner), upgrade.ValidateResolve(obj, v.Runner)...))
}

// ValidateUpdate refuses a new spec that cannot be worked with, any while an attempt's Job is pending or running, and a new way out of doubt that is none.
// What leaves all that alone, or only suspends, always passes: also on an object that came to be while the webhook was away.
func (v *DBUpgradeValidator) ValidateUpdate(ctx context.Context, old, obj *v1alpha1.DBUpgrade) (admission.Warnings, error) {
	if !obj.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	var errs field.ErrorList
	if old.Annotations[v1alpha1.AnnotationResolve] != obj.Annotations[v1alpha1.AnnotationResolve] {
		errs = upgrade.ValidateResolve(obj, v.Runner)
	}
	changed := changedSections(&old.Spec, &obj.Spec)
	if len(changed) == 0 {
		return nil, invalid(obj, errs)
	}
	errs = append(errs, upgrade.Validate(&obj.Spec, v.Runner)...)
	if inFlight(old) {
		for _, path := range changed {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("may not change while attempt %d is %s: wait for it to end, "+
				"or set spec.suspend to have a Job removed that is still pending", old.Status.Attempt.Number, lowerPhase(old))))
		}
	}
	return v.sharers(ctx, obj), invalid(obj, errs)
}

// ValidateDelete refuses a deletion in the foreground while an attempt's Job may be pending or running: the garbage collector would then delete
// the Job, and end its migration, before the object's finalizer has a say. The phase follows the Job with a delay, its UID comes before it.
func (v *DBUpgradeValidator) ValidateDelete(ctx context.Context, obj *v1alpha1.DBUpgrade) (admission.Warnings, error) {
	if a := obj.Status.Attempt; !inFlight(obj) && (a == nil || a.Phase.Ended() || a.JobUID == "") {
		return nil, nil
	}
	req, err := admission.RequestFromContext(ctx)
	if err != nil {
		return nil, err
	}
	var options metav1.DeleteOptions
	if len(req.Options.Raw) > 0 {
		if err := json.Unmarshal(req.Options.Raw, &options); err != nil {
			return nil, apierrors.NewBadRequest("the options of the deletion: " + err.Error())
		}
	}
	if options.PropagationPolicy == nil || *options.PropagationPolicy != metav1.DeletePropagationForeground {
		return nil, nil
	}
	resource := v1alpha1.GroupVersion.WithResource("dbupgrades").GroupResource()
	return nil, apierrors.NewForbidden(resource, obj.Name, fmt.Errorf("deletion in the foreground (propagationPolicy) would cut off attempt %d, "+
		"which is %s: delete in the background, the default of kubectl delete, which waits for a running migration",
		obj.Status.Attempt.Number, lowerPhase(obj)))
}

// sharers warns of other objects that apply migrations to the same database, as far as that can be told from their Secrets' names. It is
// no error: a hand-over from one object to another needs both for a while, and the lock keeps them from running at once.
func (v *DBUpgradeValidator) sharers(ctx context.Context, obj *v1alpha1.DBUpgrade) admission.Warnings {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var all v1alpha1.DBUpgradeList
	if err := v.Reader.List(ctx, &all, client.InNamespace(obj.Namespace)); err != nil {
		logf.FromContext(ctx).Error(err, "Other DBUpgrades cannot be listed, so there is no warning of a shared database")
		return nil
	}
	key := upgrade.DatabaseKey(obj.Namespace, obj.Spec.Database)
	var names []string
	for i := range all.Items {
		other := &all.Items[i]
		if other.Name != obj.Name && other.DeletionTimestamp.IsZero() && upgrade.DatabaseKey(other.Namespace, other.Spec.Database) == key {
			names = append(names, other.Name)
		}
	}
	if key == "" || len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	return admission.Warnings{fmt.Sprintf("spec.database.connection.urlSecretRef: the same database has migrations from %s: "+
		"they run one after the other, and each must know the other's history", strings.Join(names, ", "))}
}

// changedSections are the parts of a spec, apart from suspend, in which two differ.
func changedSections(a, b *v1alpha1.DBUpgradeSpec) []*field.Path {
	var changed []*field.Path
	spec := field.NewPath("spec")
	if !equality.Semantic.DeepEqual(a.Migrations, b.Migrations) {
		changed = append(changed, spec.Child("migrations"))
	}
	if !equality.Semantic.DeepEqual(a.Database, b.Database) {
		changed = append(changed, spec.Child("database"))
	}
	if !equality.Semantic.DeepEqual(a.Runner, b.Runner) {
		changed = append(changed, spec.Child("runner"))
	}
	if a.Mode != b.Mode {
		changed = append(changed, spec.Child("mode"))
	}
	return changed
}

// inFlight tells whether the migration of the latest attempt runs or may start at any moment.
func inFlight(obj *v1alpha1.DBUpgrade) bool {
	attempt := obj.Status.Attempt
	return attempt != nil && (attempt.Phase == v1alpha1.AttemptPending || attempt.Phase == v1alpha1.AttemptRunning)
}

func lowerPhase(obj *v1alpha1.DBUpgrade) string {
	return strings.ToLower(string(obj.Status.Attempt.Phase))
}

func invalid(obj *v1alpha1.DBUpgrade, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("DBUpgrade").GroupKind(), obj.Name, errs)
}
