// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package player

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
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

// advance takes one step. That the pod has ended is a step after that its last container has: the kubelet tells it a second or two later.
func (p *Player) advance(ctx context.Context, pod *corev1.Pod) error {
	if len(pod.Spec.NodeSelector) > 0 {
		pod.Status.Phase = corev1.PodPending
		setCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable,
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")
		return nil
	}
	if pod.Status.Phase == "" || len(pod.Status.ContainerStatuses) == 0 {
		pod.Status.Phase = corev1.PodPending
		setCondition(pod, corev1.PodScheduled, corev1.ConditionTrue, "", "")
		pod.Status.InitContainerStatuses = waiting(pod.Spec.InitContainers)
		pod.Status.ContainerStatuses = waiting(pod.Spec.Containers)
		return nil
	}
	for i := range pod.Spec.InitContainers {
		status := &pod.Status.InitContainerStatuses[i]
		switch t := status.State.Terminated; {
		case t == nil:
			return p.run(ctx, pod, &pod.Spec.InitContainers[i], status)
		case t.ExitCode != 0:
			pod.Status.Phase = corev1.PodFailed
			return nil
		}
	}
	status := &pod.Status.ContainerStatuses[0]
	switch t := status.State.Terminated; {
	case t != nil && t.ExitCode == 0:
		pod.Status.Phase = corev1.PodSucceeded
		return nil
	case t != nil:
		pod.Status.Phase = corev1.PodFailed
		return nil
	}
	if err := p.run(ctx, pod, &pod.Spec.Containers[0], status); err != nil {
		return err
	}
	if status.State.Running != nil {
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
		pullFailed(status, c.Image, fmt.Sprintf("rpc error: code = NotFound desc = failed to pull and unpack image %[1]q: failed to resolve image: %[1]s: not found", c.Image))
		return nil
	}
	for _, v := range pod.Spec.Volumes {
		if v.Image == nil {
			continue
		}
		dir, err := p.volume(pod, v.Name)
		if err != nil {
			return err
		}
		if err := unpack(ctx, v.Image.Reference, dir); err != nil {
			pullFailed(status, v.Image.Reference, fmt.Sprintf("rpc error: code = Unknown desc = failed to pull and unpack image %q: %v", v.Image.Reference, err))
			return nil
		}
	}
	env, trouble, err := p.environment(ctx, pod, c)
	if err != nil {
		return err
	}
	if trouble != "" {
		status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: trouble}}
		return nil
	}
	args, env, err := p.inThisMachine(ctx, pod, c, env)
	if err != nil {
		return err
	}
	message := filepath.Join(p.Dir, string(pod.UID), c.Name+".message")
	binary := p.Runner
	if len(c.Command) > 0 {
		args = append(args, "--termination-log="+message)
	} else if binary = p.Upstream[c.Image]; binary == "" {
		return fmt.Errorf("nothing is known of image %s", c.Image)
	}
	proc, err := start(binary, args, env, message)
	if err != nil {
		return err
	}
	proc.fallsBackToLog = c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError
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
	code := proc.exitCode()
	message, err := os.ReadFile(proc.message)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if len(message) == 0 && code != 0 && proc.fallsBackToLog {
		message = proc.output.Bytes()
		message = message[max(0, len(message)-maxLog):]
	}
	reason := "Error"
	if code == 0 {
		reason = "Completed"
	}
	status.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: code, Reason: reason, Message: string(message), StartedAt: status.State.Running.StartedAt, FinishedAt: metav1.Now(),
	}}
	return nil
}

// maxLog is how much of a log the kubelet takes for a termination message, in bytes.
const maxLog = 2048

// pullFailed goes through the two states of an image that cannot be pulled, each with words of its own, as the kubelet does.
func pullFailed(status *corev1.ContainerStatus, image, message string) {
	reason := "ErrImagePull"
	if w := status.State.Waiting; w != nil && w.Reason != "PodInitializing" {
		reason, message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", image, message)
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

// inThisMachine is what a container's process gets, with the paths of its volumes replaced by directories of this machine. Only where a path begins, or
// follows on "=" or "file://", is it one of them; images are none, and neither are directories in them.
func (p *Player) inThisMachine(ctx context.Context, pod *corev1.Pod, c *corev1.Container, env []string) ([]string, []string, error) {
	dirs := map[string]string{}
	for _, mount := range c.VolumeMounts {
		dir, err := p.volume(pod, mount.Name)
		if err != nil {
			return nil, nil, err
		}
		if err := p.fill(ctx, pod, mount.Name, dir); err != nil {
			return nil, nil, err
		}
		dirs[mount.MountPath] = dir
	}
	return replacePaths(c.Args, dirs), replacePaths(env, dirs), nil
}

func replacePaths(words []string, dirs map[string]string) []string {
	replaced := slices.Clone(words)
	for i, word := range words {
		for path, dir := range dirs {
			before, after, found := strings.Cut(word, path)
			atStart := before == "" || strings.HasSuffix(before, "file://") || strings.HasSuffix(before, "=") && before != "--image="
			if found && atStart && (after == "" || after[0] == '/' || after[0] == '?') {
				replaced[i] = before + dir + after
			}
		}
	}
	return replaced
}

// fill writes the files of a volume that comes from a Secret or a ConfigMap. They are all optional.
func (p *Player) fill(ctx context.Context, pod *corev1.Pod, volume, dir string) error {
	for _, v := range pod.Spec.Volumes {
		if v.Name != volume {
			continue
		}
		files := map[string][]byte{}
		switch {
		case v.Secret != nil:
			secret := &corev1.Secret{}
			if err := p.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: v.Secret.SecretName}, secret); client.IgnoreNotFound(err) != nil {
				return err
			}
			files = secret.Data
		case v.ConfigMap != nil:
			configMap := &corev1.ConfigMap{}
			if err := p.Client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: v.ConfigMap.Name}, configMap); client.IgnoreNotFound(err) != nil {
				return err
			}
			for _, item := range v.ConfigMap.Items {
				if value, ok := configMap.Data[item.Key]; ok {
					files[item.Path] = []byte(value)
				}
			}
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}
