// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// observe sees everything that Decide may look at. A DBUpgrade that is gone is not an error: then the observation has none.
func (r *DBUpgradeReconciler) observe(ctx context.Context, key types.NamespacedName) (upgrade.Observation, error) {
	seen := upgrade.Observation{Runner: r.Runner, Now: r.Clock.Now()}
	obj := &v1alpha1.DBUpgrade{}
	if err := r.Get(ctx, key, obj); err != nil {
		return seen, client.IgnoreNotFound(err)
	}
	var jobs batchv1.JobList
	var pods corev1.PodList
	if err := r.List(ctx, &jobs, client.InNamespace(key.Namespace), client.MatchingFields{indexOwner: string(obj.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return seen, fmt.Errorf("list Jobs: %w", err)
	}
	if err := r.List(ctx, &pods, client.InNamespace(key.Namespace), client.MatchingFields{indexOwner: string(obj.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return seen, fmt.Errorf("list pods: %w", err)
	}
	podsOf := map[string][]corev1.Pod{}
	for _, pod := range pods.Items {
		uid := pod.Labels[batchv1.ControllerUidLabel]
		podsOf[uid] = append(podsOf[uid], pod)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		read, err := r.readJob(ctx, job, podsOf[string(job.UID)])
		if err != nil {
			return seen, err
		}
		seen.Jobs = append(seen.Jobs, read)
	}
	seen.DBUpgrade = obj
	return seen, r.lookForJob(ctx, &seen)
}

// readJob reads a Job with its pods and, where it has none, with what the Job controller says about that.
func (r *DBUpgradeReconciler) readJob(ctx context.Context, job *batchv1.Job, pods []corev1.Pod) (upgrade.Job, error) {
	var events corev1.EventList
	if !upgrade.Ended(job) && !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return upgrade.Alive(&pod) }) {
		if err := r.List(ctx, &events, client.InNamespace(job.Namespace), client.MatchingFields{indexInvolved: string(job.UID)}, client.UnsafeDisableDeepCopy); err != nil {
			return upgrade.Job{}, fmt.Errorf("list events of Job %s: %w", job.Name, err)
		}
	}
	return upgrade.ReadJob(job, pods, events.Items), nil
}

// lookForJob looks for the Job of the current attempt where the cache has none although there was one. Only a live look can tell a Job that
// somebody deleted from one that somebody took the label or the owner from, and from a cache that lags; and only live pods can tell whether the
// migration of a deleted Job still runs.
func (r *DBUpgradeReconciler) lookForJob(ctx context.Context, seen *upgrade.Observation) error {
	obj, attempt := seen.DBUpgrade, seen.DBUpgrade.Status.Attempt
	if attempt == nil || attempt.Phase.Ended() || attempt.JobUID == "" {
		return nil
	}
	if slices.ContainsFunc(seen.Jobs, func(job upgrade.Job) bool { return job.UID == attempt.JobUID }) {
		return nil
	}
	job := &batchv1.Job{}
	err := r.Live.Get(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: attempt.Job}, job)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("get Job %s: %w", attempt.Job, err)
	}
	found := err == nil && job.UID == attempt.JobUID
	if found && isOurs(job, obj) {
		return errStale
	}
	pods, err := r.livePods(ctx, obj.Namespace, attempt.JobUID)
	if err != nil {
		return err
	}
	if found {
		seen.Unwatched = true
		seen.Jobs = append(seen.Jobs, upgrade.ReadJob(job, pods, nil))
	} else {
		seen.Jobs = append(seen.Jobs, upgrade.VanishedJob(attempt, pods))
	}
	return nil
}

// isOurs tells whether the cache shows a Job as one of the object's.
func isOurs(job *batchv1.Job, obj *v1alpha1.DBUpgrade) bool {
	return metav1.IsControlledBy(job, obj) && job.Labels[upgrade.LabelOwner] != ""
}

// livePods are the pods of a Job as the API server has them.
func (r *DBUpgradeReconciler) livePods(ctx context.Context, namespace string, job types.UID) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := r.Live.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{batchv1.ControllerUidLabel: string(job)})
	if err != nil {
		return nil, fmt.Errorf("list pods of Job %s: %w", job, err)
	}
	return pods.Items, nil
}
