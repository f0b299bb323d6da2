// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// Indexes of the cache, so that a reconcile touches only its own objects however many a namespace has.
const (
	// indexOwner finds Jobs and pods by the UID of their DBUpgrade.
	indexOwner = "dbupgrade.owner"
	// indexInvolved finds events by the UID of the object they are about.
	indexInvolved = "dbupgrade.involved"
	// indexUID finds DBUpgrades by UID.
	indexUID = "dbupgrade.uid"
	// indexLock finds DBUpgrades by the name of their database's lock.
	indexLock = "dbupgrade.lock"
)

// CacheOptions keep the cache to what the operator works with: its own Jobs, pods and Leases, and events that say why a Job has no pod.
// With no namespaces given it watches all of them.
func CacheOptions(operatorNamespace string, watchNamespaces []string) cache.Options {
	// By a label that nobody else has reason to write, as policies have for app.kubernetes.io/managed-by.
	owned, err := labels.NewRequirement(upgrade.LabelOwner, selection.Exists, nil)
	if err != nil {
		panic(err) // of a constant
	}
	ours := labels.NewSelector().Add(*owned)
	options := cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&batchv1.Job{}:          {Label: ours},
			&corev1.Pod{}:           {Label: ours},
			&corev1.Event{}:         {Field: fields.SelectorFromSet(fields.Set{"involvedObject.kind": "Job", "reason": "FailedCreate"})},
			&coordinationv1.Lease{}: {Label: labels.SelectorFromSet(labels.Set{upgrade.LabelManagedBy: upgrade.ManagedBy}), Namespaces: map[string]cache.Config{operatorNamespace: {}}},
		},
	}
	for _, namespace := range watchNamespaces {
		if options.DefaultNamespaces == nil {
			options.DefaultNamespaces = map[string]cache.Config{}
		}
		options.DefaultNamespaces[namespace] = cache.Config{}
	}
	return options
}

// IndexFields prepares the indexes that observing needs.
func IndexFields(ctx context.Context, indexer client.FieldIndexer) error {
	indexes := []struct {
		object client.Object
		name   string
		value  func(client.Object) string
	}{
		{&batchv1.Job{}, indexOwner, controllerUID},
		{&corev1.Pod{}, indexOwner, func(o client.Object) string { return o.GetLabels()[upgrade.LabelOwner] }},
		{&corev1.Event{}, indexInvolved, func(o client.Object) string { return string(o.(*corev1.Event).InvolvedObject.UID) }},
		{&v1alpha1.DBUpgrade{}, indexUID, func(o client.Object) string { return string(o.GetUID()) }},
		{&v1alpha1.DBUpgrade{}, indexLock, func(o client.Object) string { return lockName(o.(*v1alpha1.DBUpgrade)) }},
	}
	for _, index := range indexes {
		err := indexer.IndexField(ctx, index.object, index.name, func(o client.Object) []string { return []string{index.value(o)} })
		if err != nil {
			return err
		}
	}
	return nil
}

func controllerUID(o client.Object) string {
	if owner := metav1.GetControllerOf(o); owner != nil {
		return string(owner.UID)
	}
	return ""
}

// SetupWithManager registers the controller, its watches and its indexes.
func (r *DBUpgradeReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := IndexFields(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("dbupgrade").
		For(&v1alpha1.DBUpgrade{}).
		Owns(&batchv1.Job{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.ownersOfPod)).
		Watches(&corev1.Event{}, handler.EnqueueRequestsFromMapFunc(r.ownersOfEvent)).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(r.waitersOfLock), builder.WithPredicates(onlyDeletion())).
		WithOptions(controller.Options{MaxConcurrentReconciles: r.Workers, ReconciliationTimeout: reconcileTimeout}).
		Complete(r)
}

func (r *DBUpgradeReconciler) ownersOfPod(ctx context.Context, pod client.Object) []reconcile.Request {
	return r.requests(ctx, client.InNamespace(pod.GetNamespace()), client.MatchingFields{indexUID: pod.GetLabels()[upgrade.LabelOwner]})
}

// ownersOfEvent follows an event about a Job to the Job's owner; the event may come before the cache has the Job, whose own event then does the same.
func (r *DBUpgradeReconciler) ownersOfEvent(ctx context.Context, event client.Object) []reconcile.Request {
	involved := event.(*corev1.Event).InvolvedObject
	job := &batchv1.Job{}
	if err := r.Get(ctx, types.NamespacedName{Namespace: involved.Namespace, Name: involved.Name}, job); err != nil {
		return nil
	}
	return r.requests(ctx, client.InNamespace(job.Namespace), client.MatchingFields{indexUID: controllerUID(job)})
}

// onlyDeletion: a lock becomes free in no other way that a watch could tell of.
func onlyDeletion() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(event.UpdateEvent) bool { return false },
	}
}

// waitersOfLock wakes everybody who may be waiting for a database.
func (r *DBUpgradeReconciler) waitersOfLock(ctx context.Context, lease client.Object) []reconcile.Request {
	return r.requests(ctx, client.MatchingFields{indexLock: lease.GetName()})
}

func (r *DBUpgradeReconciler) requests(ctx context.Context, options ...client.ListOption) []reconcile.Request {
	var list v1alpha1.DBUpgradeList
	if err := r.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing DBUpgrades in the cache failed")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return requests
}
