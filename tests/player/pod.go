// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package player

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// stepPod moves a living pod on: scheduled, fetch started, fetch ended, migrate started, migrate ended.
func (p *Player) stepPod(ctx context.Context, pod *corev1.Pod) (bool, error) {
	before := pod.DeepCopy()
	if err := p.advance(ctx, pod); err != nil {
		return false, err
	}
	if before.Status.String() == pod.Status.String() {
		return false, nil
	}
	return true, p.Client.Status().Update(ctx, pod)
}

func (p *Player) advance(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Spec.NodeSelector) > 0 {
		pod.Status.Phase = corev1.PodPending
		setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable,
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
		return nil
	}
	if pod.Status.Phase == "" || len(pod.Status.InitContainerStatuses) == 0 {
		pod.Status.Phase = corev1.PodPending
		setCondition(pod, corev1.PodScheduled, corev1.ConditionTrue, "", "")
		pod.Status.InitContainerStatuses = waiting(pod.Spec.InitContainers)
		pod.Status.ContainerStatuses = waiting(pod.Spec.Containers)
		return nil
	}
	for i := range pod.Spec.InitContainers {
		status := &pod.Status.InitContainerStatuses[i]
		if t := status.State.Terminated; t != nil && t.ExitCode == 0 {
			continue
		}
		if err := p.run(ctx, pod, &pod.Spec.InitContainers[i], status); err != nil {
			return err
		}
		if t := status.State.Terminated; t != nil && t.ExitCode != 0 {
			pod.Status.Phase = corev1.PodFailed
		}
		return nil
	}
	status := &pod.Status.ContainerStatuses[0]
	if err := p.run(ctx, pod, &pod.Spec.Containers[0], status); err != nil {
		return err
	}
	switch t := status.State.Terminated; {
	case t != nil && t.ExitCode == 0:
		pod.Status.Phase = corev1.PodSucceeded
	case t != nil:
		pod.Status.Phase = corev1.PodFailed
	case status.State.Running != nil:
		pod.Status.Phase = corev1.PodRunning
	}
	return nil
}

func waiting(containers []corev1.Container) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, c := range containers {
		all = append(all, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}},
		})
	}
	return all
}

func setCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, reason, message string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind && c.Status == status {
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
	})
}

// run starts a container's process, or looks after one that was started.
func (p *Player) run(ctx context.Context, pod *corev1.Pod, c *corev1.Container, status *corev1.ContainerStatus) error {
	if status.State.Running != nil {
		return p.follow(pod, status)
	}
	if p.Missing == c.Name {
		p.imagePull(c, status)
		return nil
	}
	env, trouble, err := p.environment(ctx, pod, c)
	if err != nil {
		return err
	}
	if trouble != "" {
		status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: trouble}}
		return nil
	}
	args, err := p.arguments(ctx, pod, c)
	if err != nil {
		return err
	}
	message := filepath.Join(p.Dir, string(pod.UID), c.Name+".message")
	proc, err := start(p.Runner, append(args, "--termination-log="+message), env, message)
	if err != nil {
		return err
	}
	if p.processes == nil {
		p.processes = map[types.UID]*process{}
	}
	p.processes[pod.UID] = proc
	status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
	return nil
}

func (p *Player) follow(pod *corev1.Pod, status *corev1.ContainerStatus) error {
	proc := p.processes[pod.UID]
	if proc == nil {
		return fmt.Errorf("pod %s is running without a process", pod.Name)
	}
	if p.Wait {
		proc.wait()
	}
	if !proc.ended() {
		return nil
	}
	delete(p.processes, pod.UID)
	p.logs = append(p.logs, proc.output.Bytes()...)
	message, err := os.ReadFile(proc.message)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	code := proc.exitCode()
	reason := "Error"
	if code == 0 {
		reason = "Completed"
	}
	status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, Message: string(message), StartedAt: status.State.Running.StartedAt, FinishedAt: metav1.Now(),
	}}
	return nil
}

// imagePull goes through the two states of an image that cannot be pulled, each with words of its own, as the kubelet does.
func (p *Player) imagePull(c *corev1.Container, status *corev1.ContainerStatus) {
	reason, message := "ErrImagePull", fmt.Sprintf("failed to pull and unpack image %q: not found", c.Image)
	if w := status.State.Waiting; w != nil && w.Reason != "PodInitializing" {
		reason, message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", c.Image, message)
	}
	status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// environment is a container's, or the kubelet's words about what it lacks.
func (p *Player) environment(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, string, error) {
	var env []string
	for _, e := range c.Env {
		if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
			env = append(env, e.Name+"="+e.Value)
			continue
		}
		ref := e.ValueFrom.SecretKeyRef
		secret := &corev1.Secret{}
		err := p.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: ref.Name}, secret)
		if apierrors.IsNotFound(err) {
			return nil, fmt.Sprintf("secret %q not found", ref.Name), nil
		}
		if err != nil {
			return nil, "", err
		}
		value, ok := secret.Data[ref.Key]
		if !ok {
			return nil, fmt.Sprintf("couldn't find key %s in Secret %s/%s", ref.Key, pod.Namespace, ref.Name), nil
		}
		env = append(env, e.Name+"="+string(value))
	}
	return env, "", nil
}

// arguments are a container's, with the paths of its volumes replaced by directories of this machine.
func (p *Player) arguments(ctx context.Context, pod *corev1.Pod, c *corev1.Container) ([]string, error) {
	args := append([]string(nil), c.Args...)
	for _, mount := range c.VolumeMounts {
		dir, err := p.volume(pod, mount.Name)
		if err != nil {
			return nil, err
		}
		if err := p.fill(ctx, pod, mount.Name, dir); err != nil {
			return nil, err
		}
		for i, arg := range args {
			name, value, _ := strings.Cut(arg, "=")
			if rest, under := strings.CutPrefix(value, mount.MountPath); under && name != "--image" && (rest == "" || rest[0] == '/') {
				args[i] = name + "=" + dir + rest
			}
		}
	}
	return args, nil
}

// fill writes the files of a Secret volume.
func (p *Player) fill(ctx context.Context, pod *corev1.Pod, volume, dir string) error {
	for _, v := range pod.Spec.Volumes {
		if v.Name != volume || v.Secret == nil {
			continue
		}
		secret := &corev1.Secret{}
		err := p.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: v.Secret.SecretName}, secret)
		if apierrors.IsNotFound(err) {
			return nil // they are all optional
		}
		if err != nil {
			return err
		}
		for key, value := range secret.Data {
			if err := os.WriteFile(filepath.Join(dir, key), value, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}
