// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package player plays the parts of a cluster that an API server on its own lacks: the Job controller, the garbage collector as far as Jobs and
// their pods go, the scheduler and the kubelet. It runs the real runner, and
// the upstream command lines where a pod asks for them, as real processes, with the arguments, the environment and the files
// that the pod's containers ask for, and reports what the kubelet would report, in its words.
package player

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// Player plays the cluster around the Jobs of one namespace. It is not safe for concurrent use, but for Log.
type Player struct {
	// Client of the API server, with all rights and no cache.
	Client client.Client
	// Namespace to play in.
	Namespace string
	// Runner is the path of the runner's binary.
	Runner string
	// Upstream are the paths of other binaries, by the image whose entry point they are.
	Upstream map[string]string
	// Dir is for the pods' volumes.
	Dir string
	// Wait makes a step wait for the processes that it finds running, so that every run takes the same steps.
	Wait bool
	// Missing makes the image of this container impossible to pull, for the kubelet.
	Missing string

	processes map[types.UID]*process
	logs      []byte
	released  map[string]map[types.UID]bool
}

// Released are the UIDs of the Jobs that were let go, by name. More than one under a name means that an attempt was run twice.
func (p *Player) Released() map[string]map[types.UID]bool { return p.released }

// Log is everything that the runners have printed so far.
func (p *Player) Log() string { return string(p.logs) }

// Step moves every Job, pod and orphan one step on. It returns whether anything changed.
func (p *Player) Step(ctx context.Context) (bool, error) {
	var jobs batchv1.JobList
	var pods corev1.PodList
	if err := errors.Join(
		p.Client.List(ctx, &jobs, client.InNamespace(p.Namespace)),
		p.Client.List(ctx, &pods, client.InNamespace(p.Namespace)),
	); err != nil {
		return false, err
	}
	moved := false
	podsOf := map[types.UID][]*corev1.Pod{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		owner := metav1.GetControllerOf(pod)
		if owner == nil {
			continue
		}
		podsOf[owner.UID] = append(podsOf[owner.UID], pod)
	}
	for i := range jobs.Items {
		job := &jobs.Items[i]
		m, err := p.stepJob(ctx, job, podsOf[job.UID])
		if err != nil {
			return false, fmt.Errorf("job %s: %w", job.Name, err)
		}
		delete(podsOf, job.UID)
		moved = moved || m
	}
	for _, orphans := range podsOf { // their Job is gone: collect them
		for _, pod := range orphans {
			if err := p.deletePod(ctx, pod); err != nil {
				return false, err
			}
			moved = true
		}
	}
	return moved, nil
}

// Stop ends every process that is still running.
func (p *Player) Stop() {
	p.Kill()
	p.processes = nil
}

// Await waits until a process that is running ends, at most that long. It returns false where none is running.
func (p *Player) Await(atMost time.Duration) bool {
	for _, proc := range p.processes {
		select {
		case <-proc.done:
		case <-time.After(atMost):
		}
		return true
	}
	return false
}

// Kill kills every process that is running, as when a node loses power: the kubelet then reports exit code 137.
func (p *Player) Kill() {
	for _, proc := range p.processes {
		proc.kill()
	}
}

// Evict has the pods of running Jobs evicted: they get the condition DisruptionTarget and a SIGTERM.
func (p *Player) Evict(ctx context.Context) error {
	var pods corev1.PodList
	if err := p.Client.List(ctx, &pods, client.InNamespace(p.Namespace)); err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !upgrade.Alive(pod) {
			continue
		}
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", LastTransitionTime: metav1.Now(),
		})
		if err := p.Client.Status().Update(ctx, pod); err != nil {
			return err
		}
		if proc := p.processes[pod.UID]; proc != nil {
			proc.terminate()
		}
	}
	return nil
}

func (p *Player) stepJob(ctx context.Context, job *batchv1.Job, pods []*corev1.Pod) (bool, error) {
	ownerGone, err := p.ownerGone(ctx, job)
	if err != nil {
		return false, err
	}
	if job.DeletionTimestamp != nil || ownerGone {
		return true, p.collect(ctx, job, pods)
	}
	if upgrade.Ended(job) || job.Spec.Suspend != nil && *job.Spec.Suspend {
		return false, nil
	}
	if job.Status.StartTime == nil {
		if p.released == nil {
			p.released = map[string]map[types.UID]bool{}
		}
		if p.released[job.Name] == nil {
			p.released[job.Name] = map[types.UID]bool{}
		}
		p.released[job.Name][job.UID] = true
		now := metav1.Now()
		job.Status.StartTime = &now
		return true, p.Client.Status().Update(ctx, job)
	}
	var last *corev1.Pod
	for _, pod := range pods {
		if upgrade.Alive(pod) {
			return p.stepPod(ctx, pod)
		}
		last = pod
		if pod.Status.Phase == corev1.PodSucceeded {
			break
		}
	}
	if verdict := judge(job, last); verdict != nil {
		return true, p.endJob(ctx, job, verdict)
	}
	return p.createPod(ctx, job)
}

// ownerGone tells whether the garbage collector would delete a Job.
func (p *Player) ownerGone(ctx context.Context, job *batchv1.Job) (bool, error) {
	owner := metav1.GetControllerOf(job)
	if owner == nil {
		return false, nil
	}
	obj := &v1alpha1.DBUpgrade{}
	err := p.Client.Get(ctx, types.NamespacedName{Namespace: job.Namespace, Name: owner.Name}, obj)
	if err != nil && !apierrors.IsNotFound(err) {
		return false, err
	}
	return err != nil || obj.UID != owner.UID, nil
}

// collect deletes a Job and its pods, those first.
func (p *Player) collect(ctx context.Context, job *batchv1.Job, pods []*corev1.Pod) error {
	for _, pod := range pods {
		if err := p.deletePod(ctx, pod); err != nil {
			return err
		}
	}
	if job.DeletionTimestamp == nil {
		if err := p.Client.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return client.IgnoreNotFound(err)
		}
		return nil
	}
	if controllerutil.RemoveFinalizer(job, metav1.FinalizerDeleteDependents) {
		return client.IgnoreNotFound(p.Client.Update(ctx, job))
	}
	return nil
}

// deletePod ends a pod the way the kubelet does: SIGTERM, wait, report, delete.
func (p *Player) deletePod(ctx context.Context, pod *corev1.Pod) error {
	if proc := p.processes[pod.UID]; proc != nil {
		proc.terminate()
		proc.wait()
		for upgrade.Alive(pod) {
			if _, err := p.stepPod(ctx, pod); err != nil {
				return err
			}
		}
	}
	return client.IgnoreNotFound(p.Client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
}

// judge is the Job controller's verdict on a pod that has ended: nil means that there is to be another one.
func judge(job *batchv1.Job, pod *corev1.Pod) *batchv1.JobCondition {
	if pod == nil {
		return nil
	}
	if pod.Status.Phase == corev1.PodSucceeded {
		return &batchv1.JobCondition{Type: batchv1.JobComplete}
	}
	for i, rule := range job.Spec.PodFailurePolicy.Rules {
		if codes := rule.OnExitCodes; codes != nil {
			for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
				t := s.State.Terminated
				if t != nil && (codes.ContainerName == nil || *codes.ContainerName == s.Name) && slices.Contains(codes.Values, t.ExitCode) {
					return &batchv1.JobCondition{Type: batchv1.JobFailed, Reason: batchv1.JobReasonPodFailurePolicy,
						Message: fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching FailJob rule at index %d", s.Name, pod.Namespace, pod.Name, t.ExitCode, i)}
				}
			}
		}
		for _, pattern := range rule.OnPodConditions {
			for _, c := range pod.Status.Conditions {
				if c.Type == pattern.Type && c.Status == pattern.Status && rule.Action == batchv1.PodFailurePolicyActionIgnore {
					return nil
				}
			}
		}
	}
	return &batchv1.JobCondition{Type: batchv1.JobFailed, Reason: batchv1.JobReasonBackoffLimitExceeded, Message: "Job has reached the specified backoff limit"}
}

// endJob writes the two conditions with which the Job controller ends a Job.
func (p *Player) endJob(ctx context.Context, job *batchv1.Job, verdict *batchv1.JobCondition) error {
	now := metav1.Now()
	verdict.Status, verdict.LastTransitionTime = corev1.ConditionTrue, now
	before := *verdict
	before.Type = batchv1.JobFailureTarget
	if verdict.Type == batchv1.JobComplete {
		before.Type = batchv1.JobSuccessCriteriaMet
		before.Reason, verdict.Reason = batchv1.JobReasonCompletionsReached, batchv1.JobReasonCompletionsReached
		job.Status.Succeeded, job.Status.CompletionTime = 1, &now
	} else {
		job.Status.Failed = 1
	}
	job.Status.Conditions = append(job.Status.Conditions, before, *verdict)
	return p.Client.Status().Update(ctx, job)
}

func (p *Player) createPod(ctx context.Context, job *batchv1.Job) (bool, error) {
	pod := &corev1.Pod{ObjectMeta: *job.Spec.Template.ObjectMeta.DeepCopy(), Spec: *job.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = job.Namespace, fmt.Sprintf("%s-%s", job.Name, rand.String(5))
	if err := controllerutil.SetControllerReference(job, pod, p.Client.Scheme()); err != nil {
		return false, err
	}
	err := p.Client.Create(ctx, pod)
	if apierrors.IsForbidden(err) {
		return p.failedCreate(ctx, job, err)
	}
	return err == nil, err
}

// failedCreate tells an event once per Job and message, as the Job controller does for a pod that is refused.
func (p *Player) failedCreate(ctx context.Context, job *batchv1.Job, refusal error) (bool, error) {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: job.Namespace, Name: job.Name + "-failedcreate"},
		InvolvedObject: corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID},
		Reason:         "FailedCreate", Type: corev1.EventTypeWarning, Message: "Error creating: " + refusal.Error(),
		FirstTimestamp: now, LastTimestamp: now, Count: 1, Source: corev1.EventSource{Component: "job-controller"}, ReportingController: "job-controller",
	}
	err := p.Client.Create(ctx, event)
	if apierrors.IsAlreadyExists(err) {
		return false, nil
	}
	return err == nil, err
}

func (p *Player) volume(pod *corev1.Pod, name string) (string, error) {
	dir := filepath.Join(p.Dir, string(pod.UID), name)
	return dir, os.MkdirAll(dir, 0o755)
}

// grace is how long a process may take to end after SIGTERM before the player kills it.
const grace = 20 * time.Second
