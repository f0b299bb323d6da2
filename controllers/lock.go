// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// The lock of a database is a Lease in the operator's namespace whose holder is the UID of a Job. It has no duration: it ends when the Job and its
// pods have ended, and nothing else frees it. These annotations say whose Job that is.
const (
	annotationHolderNamespace = "dbupgrade.subbug.learning/namespace"
	annotationHolderName      = "dbupgrade.subbug.learning/dbupgrade"
	annotationHolderJob       = "dbupgrade.subbug.learning/job"
)

func (r *DBUpgradeReconciler) lockKey(obj *v1alpha1.DBUpgrade) types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: lockName(obj)}
}

func lockName(obj *v1alpha1.DBUpgrade) string {
	return upgrade.LockName(upgrade.DatabaseKey(obj.Namespace, obj.Spec.Database))
}

// takeLock takes the lock of the object's database for a Job, or says who has it.
func (r *DBUpgradeReconciler) takeLock(ctx context.Context, obj *v1alpha1.DBUpgrade, job upgrade.Job) (*upgrade.Obstacle, error) {
	lease := &coordinationv1.Lease{}
	err := r.Live.Get(ctx, r.lockKey(obj), lease)
	if apierrors.IsNotFound(err) {
		return nil, r.createLock(ctx, obj, job)
	}
	if err != nil {
		return nil, err
	}
	if ptr.Deref(lease.Spec.HolderIdentity, "") == string(job.UID) {
		return nil, nil
	}
	alive, err := r.holderAlive(ctx, lease)
	if err != nil {
		return nil, err
	}
	if alive {
		return &upgrade.Obstacle{
			Reason: v1alpha1.ReasonWaitingForLock, Wait: obstacleRetry, // besides the watch on Leases, for a holder that dies without a word
			Message: fmt.Sprintf("DBUpgrade %s/%s is changing the same database (Job %s)",
				lease.Annotations[annotationHolderNamespace], lease.Annotations[annotationHolderName], lease.Annotations[annotationHolderJob]),
		}, nil
	}
	r.hold(lease, obj, job)
	return nil, r.Update(ctx, lease)
}

func (r *DBUpgradeReconciler) createLock(ctx context.Context, obj *v1alpha1.DBUpgrade, job upgrade.Job) error {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: lockName(obj), Namespace: r.Namespace}}
	r.hold(lease, obj, job)
	err := r.Create(ctx, lease)
	if apierrors.IsAlreadyExists(err) {
		return errStale
	}
	return err
}

func (r *DBUpgradeReconciler) hold(lease *coordinationv1.Lease, obj *v1alpha1.DBUpgrade, job upgrade.Job) {
	metav1.SetMetaDataLabel(&lease.ObjectMeta, upgrade.LabelManagedBy, upgrade.ManagedBy)
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, annotationHolderNamespace, obj.Namespace)
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, annotationHolderName, obj.Name)
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, annotationHolderJob, job.Name)
	lease.Spec.HolderIdentity = ptr.To(string(job.UID))
	lease.Spec.AcquireTime = ptr.To(metav1.NewMicroTime(r.Clock.Now()))
}

// holderAlive tells whether the Job that holds a lock may still change the database: the Job is there and has not ended, or one of its pods is alive.
// Both are read live, since a wrong no would let two migrations run at once.
func (r *DBUpgradeReconciler) holderAlive(ctx context.Context, lease *coordinationv1.Lease) (bool, error) {
	namespace, holder := lease.Annotations[annotationHolderNamespace], types.UID(ptr.Deref(lease.Spec.HolderIdentity, ""))
	if holder == "" {
		return false, nil
	}
	job := &batchv1.Job{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: lease.Annotations[annotationHolderJob]}, job)
	if err != nil && !apierrors.IsNotFound(err) {
		return true, err
	}
	if err == nil && job.UID == holder && !upgrade.Ended(job) {
		return true, nil
	}
	pods, err := r.livePods(ctx, namespace, holder)
	if err != nil {
		return true, err
	}
	for i := range pods {
		if upgrade.Alive(&pods[i]) {
			return true, nil
		}
	}
	return false, nil
}

// releaseLock gives the lock up, where the Job holds it and a live look agrees that the Job has ended.
func (r *DBUpgradeReconciler) releaseLock(ctx context.Context, obj *v1alpha1.DBUpgrade, holder types.UID) error {
	lease := &coordinationv1.Lease{}
	if err := r.Live.Get(ctx, r.lockKey(obj), lease); err != nil {
		return client.IgnoreNotFound(err)
	}
	if ptr.Deref(lease.Spec.HolderIdentity, "") != string(holder) {
		return nil
	}
	alive, err := r.holderAlive(ctx, lease)
	if err != nil {
		return err
	}
	if alive {
		return errStale
	}
	return client.IgnoreNotFound(r.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}))
}
