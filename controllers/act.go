// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// obstacleRetry is the wait before another try at something that the API server refuses, such as a Job beyond its namespace's quota.
const obstacleRetry = 30 * time.Second

// act carries out actions in order. It stops at the first that fails or meets an obstacle.
func (r *DBUpgradeReconciler) act(ctx context.Context, obj *v1alpha1.DBUpgrade, do []upgrade.Action) (*upgrade.Obstacle, error) {
	for _, action := range do {
		obstacle, err := r.perform(ctx, obj, action)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", action.Kind, err)
		}
		if obstacle != nil {
			return obstacle, nil
		}
	}
	return nil, nil
}

func (r *DBUpgradeReconciler) perform(ctx context.Context, obj *v1alpha1.DBUpgrade, action upgrade.Action) (*upgrade.Obstacle, error) {
	switch action.Kind {
	case upgrade.AddFinalizer:
		return nil, r.patchFinalizer(ctx, obj, controllerutil.AddFinalizer)
	case upgrade.RemoveFinalizer:
		return nil, r.patchFinalizer(ctx, obj, controllerutil.RemoveFinalizer)
	case upgrade.CreateJob:
		return r.createJob(ctx, obj)
	case upgrade.TakeLock:
		return r.takeLock(ctx, obj, action.Job)
	case upgrade.ReleaseJob:
		return nil, r.releaseJob(ctx, obj, action.Job)
	case upgrade.StopJob:
		return nil, r.stopJob(ctx, obj.Namespace, action.Job)
	case upgrade.PruneJob:
		return nil, r.deleteJob(ctx, obj.Namespace, action.Job.Name, metav1.DeletePropagationBackground, metav1.Preconditions{UID: &action.Job.UID})
	case upgrade.ReleaseLock:
		return nil, r.releaseLock(ctx, obj, action.Job.UID)
	default:
		return nil, fmt.Errorf("unknown action")
	}
}

func (r *DBUpgradeReconciler) patchFinalizer(ctx context.Context, obj *v1alpha1.DBUpgrade, change func(client.Object, string) bool) error {
	base := obj.DeepCopy()
	if !change(obj, v1alpha1.Finalizer) {
		return nil
	}
	return staleIfGone(r.Patch(ctx, obj, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})))
}

// confirm reads the object live before anything that lets a migration start: a cache that lags may still show an attempt that has long ended.
func (r *DBUpgradeReconciler) confirm(ctx context.Context, obj *v1alpha1.DBUpgrade) error {
	live := &v1alpha1.DBUpgrade{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(obj), live); err != nil {
		return staleIfGone(err)
	}
	if live.UID != obj.UID || live.ResourceVersion != obj.ResourceVersion {
		return errStale
	}
	return nil
}

func (r *DBUpgradeReconciler) createJob(ctx context.Context, obj *v1alpha1.DBUpgrade) (*upgrade.Obstacle, error) {
	if err := r.confirm(ctx, obj); err != nil {
		return nil, err
	}
	job := upgrade.BuildJob(obj, r.Runner)
	if err := controllerutil.SetControllerReference(obj, job, r.Scheme()); err != nil {
		return nil, err
	}
	err := r.Create(ctx, job)
	switch {
	case err == nil:
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		return r.existingJob(ctx, obj, job.Name)
	case apierrors.IsInvalid(err):
		return &upgrade.Obstacle{Reason: v1alpha1.ReasonInvalidSpec, Wait: obstacleRetry,
			Message: "the Job that spec.runner and spec.migrations make is not valid: " + err.Error()}, nil
	case apierrors.IsForbidden(err):
		return &upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Wait: obstacleRetry, Message: "the Job is refused: " + err.Error()}, nil
	default:
		return nil, err
	}
}

// existingJob tells our own Job, which the cache does not show yet, from somebody else's of the same name.
func (r *DBUpgradeReconciler) existingJob(ctx context.Context, obj *v1alpha1.DBUpgrade, name string) (*upgrade.Obstacle, error) {
	job := &batchv1.Job{}
	if err := r.Live.Get(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: name}, job); err != nil {
		return nil, staleIfGone(err)
	}
	if isOurs(job, obj) {
		return nil, errStale
	}
	return &upgrade.Obstacle{Reason: v1alpha1.ReasonPodNotCreated, Wait: obstacleRetry,
		Message: fmt.Sprintf("a Job named %s exists and is not this DBUpgrade's: delete it", name)}, nil
}

// releaseJob lets a Job start. The patch names the Job's UID and resource version, so it cannot reach another one.
func (r *DBUpgradeReconciler) releaseJob(ctx context.Context, obj *v1alpha1.DBUpgrade, job upgrade.Job) error {
	if err := r.confirm(ctx, obj); err != nil {
		return err
	}
	patch := fmt.Appendf(nil, `{"metadata":{"uid":%q,"resourceVersion":%q},"spec":{"suspend":false}}`, job.UID, job.ResourceVersion)
	target := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: obj.Namespace, Name: job.Name}}
	if err := r.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return staleIfGone(err)
	}
	r.Metrics.LockWaited(r.Clock.Since(job.CreatedAt).Seconds())
	return nil
}

// stopJob deletes a Job whose migration has not started, or has long ended, after a live look at its pods. Foreground deletion keeps the Job until they are gone.
func (r *DBUpgradeReconciler) stopJob(ctx context.Context, namespace string, job upgrade.Job) error {
	pods, err := r.livePods(ctx, namespace, job.UID)
	if err != nil {
		return err
	}
	for i := range pods {
		if upgrade.Alive(&pods[i]) && upgrade.MigrateRunning(&pods[i]) {
			return errStale
		}
	}
	return r.deleteJob(ctx, namespace, job.Name, metav1.DeletePropagationForeground,
		metav1.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion})
}

func (r *DBUpgradeReconciler) deleteJob(ctx context.Context, namespace, name string, how metav1.DeletionPropagation, only metav1.Preconditions) error {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	return client.IgnoreNotFound(r.Delete(ctx, job, client.PropagationPolicy(how), client.Preconditions(only)))
}
