// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// playedAtOnce is how many Jobs the kubelet works on at the same time.
const playedAtOnce = 32

// kubelet runs every Job that may start to success, writing what Job controller and kubelet write, and takes no time beside that.
type kubelet struct {
	*cluster
	slots chan struct{}
	seen  map[types.UID]bool
}

func newKubelet(c *cluster) *kubelet {
	return &kubelet{cluster: c, slots: make(chan struct{}, playedAtOnce), seen: map[types.UID]bool{}}
}

// see starts a Job once that is not suspended and has not been started.
func (k *kubelet) see(o client.Object) {
	job := o.(*batchv1.Job)
	if job.Spec.Suspend != nil && *job.Spec.Suspend || job.Status.StartTime != nil || k.seen[job.UID] {
		return
	}
	k.seen[job.UID] = true
	go func() {
		k.slots <- struct{}{}
		defer func() { <-k.slots }()
		if err := k.play(job.DeepCopy()); err != nil {
			k.fail(fmt.Errorf("play Job %s: %w", job.Name, err))
		}
	}()
}

func (k *kubelet) play(job *batchv1.Job) error {
	start := metav1.Now()
	job.Status.StartTime, job.Status.Active = &start, 1
	if err := k.client.Status().Update(k.ctx, job); err != nil {
		return err
	}
	pod := &corev1.Pod{ObjectMeta: *job.Spec.Template.ObjectMeta.DeepCopy(), Spec: *job.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.GenerateName = job.Namespace, job.Name+"-"
	if err := controllerutil.SetControllerReference(job, pod, k.client.Scheme()); err != nil {
		return err
	}
	if err := k.client.Create(k.ctx, pod); err != nil {
		return err
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{terminated(upgrade.FetchContainer, result.Result{Image: fetchedImage})}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: upgrade.MigrateContainer, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
	}}
	if err := k.client.Status().Update(k.ctx, pod); err != nil {
		return err
	}
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{terminated(upgrade.MigrateContainer, result.Result{Migration: &migrated})}
	if err := k.client.Status().Update(k.ctx, pod); err != nil {
		return err
	}
	end := metav1.Now()
	job.Status.Active, job.Status.Succeeded, job.Status.CompletionTime = 0, 1, &end
	for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete} {
		job.Status.Conditions = append(job.Status.Conditions, batchv1.JobCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: batchv1.JobReasonCompletionsReached, LastTransitionTime: end,
		})
	}
	return k.client.Status().Update(k.ctx, job)
}

const fetchedImage = "registry.test/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var migrated = v1alpha1.MigrationStatus{
	CurrentVersion: "20260102000000", TargetVersion: "20260102000000", Total: 2, DirectoryHash: "h1:MzM7kOvN8pBaYb9ktP4r+OSOSpuyOVbx9vTdqpvYQjM=",
	Applied: []v1alpha1.AppliedFile{
		{Version: "20260101000000", Description: "create_users", Statements: 1},
		{Version: "20260102000000", Description: "add_email", Statements: 2},
	},
}

func terminated(name string, r result.Result) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: "Completed", Message: string(r.Encode()), StartedAt: metav1.Now(), FinishedAt: metav1.Now(),
	}}}
}
