// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// ReadJob reads back a Job that BuildJob made, with its pods and the FailedCreate events about it.
func ReadJob(job *batchv1.Job, pods []corev1.Pod, events []corev1.Event) Job {
	j := Job{
		Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion, CreatedAt: job.CreationTimestamp.Time,
		Attempt:     annotatedNumber(job, annotationAttempt),
		Revision:    job.Annotations[annotationRevision],
		Generation:  annotatedNumber(job, annotationGeneration),
		Retry:       job.Annotations[v1alpha1.AnnotationRetry],
		Resolve:     job.Annotations[v1alpha1.AnnotationResolve],
		Mode:        latched(v1alpha1.Mode(job.Annotations[annotationMode])),
		Terminating: job.DeletionTimestamp != nil,
	}
	ended, failure := terminalCondition(job)
	j.readPods(job, pods, ended)
	if j.Stage == StageDone {
		if j.Finished && failure != nil && failure.Reason == batchv1.JobReasonDeadlineExceeded {
			j.Outcome.outlivedDeadline(job)
		}
		return j
	}
	suspended := job.Spec.Suspend != nil && *job.Spec.Suspend
	switch {
	case j.Finished:
		j.Stage, j.Outcome = StageDone, outcomeOfCondition(job, failure, j.Mode)
	case j.Stage == StageRunning:
	case suspended && len(pods) == 0:
		j.Stage = StageNew
	default:
		j.Stage = StagePending
		j.Trouble, j.Held = trouble(job, pods, events, j.Mode)
	}
	return j
}

// VanishedJob reads what is left of an attempt's Job that somebody deleted, after a live look has not found it: perhaps pods, perhaps nothing.
// With no pod alive the attempt has ended, by what its pods say or else as Interrupted, which is safe to try again.
func VanishedJob(attempt *v1alpha1.AttemptStatus, pods []corev1.Pod) Job {
	j := Job{
		Name: attempt.Job, UID: attempt.JobUID, Attempt: attempt.Number, Revision: attempt.Revision,
		Generation: attempt.Generation, Retry: attempt.Retry, Resolve: attempt.Resolve, Mode: attempt.Mode,
	}
	j.readPods(nil, pods, true)
	switch {
	case j.Stage == StageDone, j.Stage == StageRunning:
	case !j.Finished:
		j.Stage, j.Terminating = StagePending, true
	default:
		j.Stage = StageDone
		j.Outcome = Outcome{
			Class:   result.ClassOf(v1alpha1.Interrupted),
			Message: fmt.Sprintf("Job %s was deleted before its migration had ended", attempt.Job),
		}
	}
	return j
}

// readPods fills in what pods tell. The Job is nil where it is gone; ended says that no further pod will come.
//
// Every pod with the Job's labels counts as alive while it is, but only one that the Job owns is believed: labels are anybody's who may create pods.
//
// A success, and a failure that needs a person, are final as soon as a container says so: the Job controller takes seconds more to
// say the same. Any other failure waits for the Job to end, because a pod that was evicted is replaced within the same Job, or for its pod to have
// failed in any other way, after which there is none: the pod may be gone, and what it said with it, before the Job has its condition.
func (j *Job) readPods(job *batchv1.Job, pods []corev1.Pod, ended bool) {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b corev1.Pod) int { // newest first
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(b.Name, a.Name))
	})
	j.Finished = ended
	for i := range pods {
		pod := &pods[i]
		fetch, migrate := containerStatus(pod, FetchContainer), containerStatus(pod, MigrateContainer)
		if Alive(pod) {
			j.Alive, j.Finished = true, false
			j.Terminating = j.Terminating || pod.DeletionTimestamp != nil
			if MigrateRunning(pod) || ending(pod) {
				j.Stage = StageRunning
			}
		}
		if !ownedBy(pod, j.UID) {
			continue
		}
		if started := startOf(migrate); started != nil && (j.StartedAt == nil || started.Before(j.StartedAt)) {
			j.StartedAt = started
		}
		if t := fetch.State.Terminated; t != nil && j.Image == "" {
			if r, err := result.Parse(t.Message); err == nil {
				j.Image = r.Image
			}
		}
	}
	for i := range pods {
		pod := &pods[i]
		outcome, known := outcomeOfPod(pod, j.Mode)
		final := outcome.Succeeded || !outcome.Class.Retryable || j.Finished || !j.Alive && !disrupted(pod) && !atDeadline(job, outcome.EndedAt.Time)
		if known && ownedBy(pod, j.UID) && final {
			j.Stage, j.Outcome = StageDone, outcome
			return
		}
	}
}

// disrupted tells that the Job will replace the pod, by its podFailurePolicy.
func disrupted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
}

// deadlineMargin is for the clocks of node and Job controller.
const deadlineMargin = time.Minute

// atDeadline tells that the Job's own deadline may have ended a pod; the Job's condition will say.
func atDeadline(job *batchv1.Job, podEnded time.Time) bool {
	if job == nil || job.Spec.ActiveDeadlineSeconds == nil || job.Status.StartTime == nil {
		return false
	}
	deadline := job.Status.StartTime.Add(time.Duration(*job.Spec.ActiveDeadlineSeconds) * time.Second)
	return podEnded.After(deadline.Add(-deadlineMargin))
}

// ending tells that the migration of a pod has ended, and nothing keeps the pod: the kubelet says so of the container first, and of the pod seconds later.
func ending(pod *corev1.Pod) bool {
	return containerStatus(pod, MigrateContainer).State.Terminated != nil && !anyRunning(pod)
}

func anyRunning(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil
	})
}

// outlivedDeadline corrects what a runner says, or the lack of it, that the Job's own deadline put an end to: trying again would come to the same.
func (o *Outcome) outlivedDeadline(job *batchv1.Job) {
	if o.Succeeded || !o.Class.Retryable {
		return
	}
	o.Class = result.ClassOf(v1alpha1.DeadlineExceeded)
	o.Message = fmt.Sprintf("Job %s was ended after %d seconds, its deadline: %s", job.Name, ptr.Deref(job.Spec.ActiveDeadlineSeconds, 0), o.Message)
	if m := o.Result.Migration; m != nil && m.Failure != nil {
		m.Failure.Class = v1alpha1.DeadlineExceeded
	}
}

// outcomeOfPod is what the containers of a pod say about the attempt.
func outcomeOfPod(pod *corev1.Pod, mode v1alpha1.Mode) (Outcome, bool) {
	migrate := containerStatus(pod, MigrateContainer).State.Terminated
	failed, t := failedPreparation(pod)
	switch {
	case migrate != nil && upstreamMigrates(pod):
		return outcomeOfAtlas(migrate), true
	case migrate != nil:
		return outcomeOfTermination(migrate, MigrateContainer, mode), true
	case failed == ExportContainer:
		return outcomeOfExport(t), true
	case failed != "":
		return outcomeOfTermination(t, failed, mode), true
	case pod.Status.Phase == corev1.PodFailed && pod.Status.Reason+pod.Status.Message != "": // its node refused it, or it was evicted before it started
		return Outcome{
			Class:   result.ClassOf(v1alpha1.Interrupted),
			Message: fmt.Sprintf("pod %s failed: %s: %s", pod.Name, cmp.Or(pod.Status.Reason, "no reason given"), pod.Status.Message),
		}, true
	default:
		return Outcome{}, false
	}
}

// preparation are the containers that may come before migrate.
var preparation = []string{LoginContainer, ExportContainer, FetchContainer}

// failedPreparation is the container before migrate that failed, "" where none did.
func failedPreparation(pod *corev1.Pod) (string, *corev1.ContainerStateTerminated) {
	for _, name := range preparation {
		if t := containerStatus(pod, name).State.Terminated; t != nil && t.ExitCode != 0 {
			return name, t
		}
	}
	return "", nil
}

// preparing tells that one of the containers before migrate is at work, or was.
func preparing(pod *corev1.Pod) bool {
	return slices.ContainsFunc(preparation, func(name string) bool {
		s := containerStatus(pod, name).State
		return s.Running != nil || s.Terminated != nil
	})
}

func outcomeOfTermination(t *corev1.ContainerStateTerminated, container string, mode v1alpha1.Mode) Outcome {
	o := Outcome{EndedAt: t.FinishedAt}
	r, err := result.Parse(t.Message)
	if err == nil {
		o.Result = r
	}
	// The runner leaves its result last of all, so it tells also where a kill came after it, or where containerd was down at the container's end and
	// knows no exit code but 255.
	if t.ExitCode == 0 || o.Result.Migration != nil && o.Result.Failure() == nil {
		o.Succeeded = true
		o.Message = successMessage(o.Result.Migration, mode)
		return o
	}
	o.Class = result.ClassOfExit(t.ExitCode)
	failure := o.Result.Failure()
	if failure == nil {
		o.Message = fmt.Sprintf("container %s ended with exit code %d (%s) and left no result", container, t.ExitCode, cmp.Or(t.Reason, "no reason given"))
		if t.Message != "" {
			o.Message += ": " + t.Message
		}
		if t.Reason == "OOMKilled" {
			o.Message += ": raise spec.runner.resources.limits.memory"
		}
		return o
	}
	o.Class = result.ClassOf(failure.Class)
	o.Message = failureMessage(failure)
	return o
}

func successMessage(m *v1alpha1.MigrationStatus, mode v1alpha1.Mode) string {
	switch {
	case m == nil && mode == v1alpha1.ModePlan:
		return "The plan is made, but what it was is lost: a new value of the annotation " + v1alpha1.AnnotationRetry + " makes another"
	case m == nil:
		return "The migrations are applied"
	case mode == v1alpha1.ModePlan && (len(m.Planned) > 0 || m.Pending > 0):
		return planMessage(m)
	case m.DatabaseAhead:
		return fmt.Sprintf("Nothing to apply: %s, ahead of the last one in the image, %s", whereabouts(m), m.TargetVersion)
	case len(m.Applied) == 0:
		return "Nothing to apply: " + whereabouts(m) + leftPending(m)
	default:
		return fmt.Sprintf("The database is at version %s%s", m.CurrentVersion, leftPending(m))
	}
}

// leftPending tells of the files that are pending in spite of a success, as those after toVersion are.
func leftPending(m *v1alpha1.MigrationStatus) string {
	if m.Pending == 0 {
		return ""
	}
	return fmt.Sprintf(", with %d of %d files left pending", m.Pending, m.Total)
}

// planMessage leaves the names to the lists in status.
func planMessage(m *v1alpha1.MigrationStatus) string {
	files := strconv.Itoa(len(m.Planned))
	if m.Truncated {
		files = fmt.Sprintf("at most %d", m.Pending)
	}
	message := fmt.Sprintf("Files to be applied: %s; %s", files, whereabouts(m))
	switch {
	case slices.ContainsFunc(m.Findings, func(f v1alpha1.Finding) bool { return f.Severity == v1alpha1.SeverityError }):
		return message + "; there are errors among the findings"
	case len(m.Findings) > 0:
		return message + "; there are findings"
	default:
		return message
	}
}

func whereabouts(m *v1alpha1.MigrationStatus) string {
	if m.CurrentVersion == "" {
		return "the database has no version yet"
	}
	return "the database is at version " + m.CurrentVersion
}

// failureMessage names file, statement and code in front of the error's own words.
func failureMessage(f *v1alpha1.Failure) string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Statement > 0 {
			fmt.Fprintf(&b, ", statement %d", f.Statement)
		}
		b.WriteString(": ")
	}
	b.WriteString(cmp.Or(f.Error, string(f.Class)))
	if f.SQLState != "" && !strings.Contains(f.Error, f.SQLState) {
		fmt.Fprintf(&b, " (SQLSTATE %s)", f.SQLState)
	}
	return b.String()
}

// outcomeOfCondition is the fallback where no pod is left to tell.
func outcomeOfCondition(job *batchv1.Job, failure *batchv1.JobCondition, mode v1alpha1.Mode) Outcome {
	if failure == nil {
		o := Outcome{Succeeded: true, Message: "The migrations are applied; no pod is left that reports which"}
		if mode == v1alpha1.ModePlan {
			o.Message = successMessage(nil, mode)
		}
		if job.Status.CompletionTime != nil {
			o.EndedAt = *job.Status.CompletionTime
		}
		return o
	}
	class := v1alpha1.Interrupted
	switch failure.Reason {
	case batchv1.JobReasonDeadlineExceeded:
		class = v1alpha1.DeadlineExceeded
	case batchv1.JobReasonPodFailurePolicy:
		class = v1alpha1.Internal // a code that needs a person; which one went with the pod
	}
	return Outcome{
		Class:   result.ClassOf(class),
		Message: fmt.Sprintf("no pod of Job %s reports how it ended; the Job says %s: %s", job.Name, failure.Reason, failure.Message),
		EndedAt: failure.LastTransitionTime,
	}
}

// terminalCondition tells whether the Job has ended, and its Failed condition if that is how.
func terminalCondition(job *batchv1.Job) (bool, *batchv1.JobCondition) {
	for i, c := range job.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case batchv1.JobComplete:
			return true, nil
		case batchv1.JobFailed:
			return true, &job.Status.Conditions[i]
		}
	}
	return false, nil
}

// Ended tells whether a Job has a terminal condition.
func Ended(job *batchv1.Job) bool {
	ended, _ := terminalCondition(job)
	return ended
}

// Alive tells whether a pod may be changing the database, or may yet.
func Alive(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// MigrateRunning tells whether the migrate container of a pod is running.
func MigrateRunning(pod *corev1.Pod) bool {
	return containerStatus(pod, MigrateContainer).State.Running != nil
}

func ownedBy(pod *corev1.Pod, job types.UID) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.UID == job
}

func containerStatus(pod *corev1.Pod, name string) corev1.ContainerStatus {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Name == name {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

func startOf(s corev1.ContainerStatus) *metav1.Time {
	switch {
	case s.State.Running != nil:
		return s.State.Running.StartedAt.DeepCopy() // of the cache's own pod
	case s.State.Terminated != nil && s.State.Terminated.StartedAt.Unix() > 0: // one that could not be started reports 1970
		return s.State.Terminated.StartedAt.DeepCopy()
	default:
		return nil
	}
}

// trouble says what keeps the living pod of a pending Job from starting; nil where it is fetching, which may take its time. Where the migration has
// ended and another container keeps the pod from doing so too, its outcome comes along.
func trouble(job *batchv1.Job, pods []corev1.Pod, events []corev1.Event, mode v1alpha1.Mode) (*Trouble, *Outcome) {
	pods = slices.DeleteFunc(slices.Clone(pods), func(pod corev1.Pod) bool { return !Alive(&pod) || !ownedBy(&pod, job.UID) })
	if len(pods) == 0 {
		return podNotCreated(job, events), nil
	}
	pod := slices.MaxFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	if o, ended := outcomeOfPod(&pod, mode); ended {
		t := &Trouble{Reason: o.Class.Reason, What: "the migration has ended, and another container keeps its pod from ending"}
		if anyRunning(&pod) {
			t.Detail = o.Message
		}
		return t, &o
	}
	return troubleOfPod(job, &pod), nil
}

func troubleOfPod(job *batchv1.Job, pod *corev1.Pod) *Trouble {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return &Trouble{v1alpha1.ReasonUnschedulable, "no node takes the pod of Job " + job.Name, c.Message}
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil {
			if t := troubleOfContainer(pod, s, w); t != nil {
				return t
			}
		}
	}
	if preparing(pod) {
		return nil
	}
	return &Trouble{v1alpha1.ReasonPodNotCreated, fmt.Sprintf("the pod of Job %s does not start; its events tell why", job.Name), ""}
}

// missingSecret matches the kubelet's words about a Secret, or a key of one, that does not exist; about others, such as a cache that has not
// synced yet, it says something else.
var missingSecret = regexp.MustCompile(`^secret ".*" not found$|^couldn't find key .* in Secret `)

func troubleOfContainer(pod *corev1.Pod, s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) *Trouble {
	switch w.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed":
		return &Trouble{v1alpha1.ReasonImagePullFailed, fmt.Sprintf("container %s: image %s cannot be pulled", s.Name, imageOf(pod, s, w)), w.Message}
	case "CreateContainerConfigError":
		reason := v1alpha1.ReasonPodNotCreated
		if missingSecret.MatchString(w.Message) {
			reason = v1alpha1.ReasonSecretNotFound
		}
		return &Trouble{reason, fmt.Sprintf("container %s cannot be configured", s.Name), w.Message}
	case "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError":
		return &Trouble{v1alpha1.ReasonPodNotCreated, fmt.Sprintf("container %s cannot be started", s.Name), w.Message}
	default:
		return nil
	}
}

// imageOf is the image that cannot be pulled: the container's or, since the kubelet tells of that in the same place, the one with the migrations
// that is mounted into it.
func imageOf(pod *corev1.Pod, s corev1.ContainerStatus, w *corev1.ContainerStateWaiting) string {
	for _, v := range pod.Spec.Volumes {
		if v.Image != nil && s.Name == MigrateContainer && strings.Contains(w.Message, v.Image.Reference) {
			return v.Image.Reference
		}
	}
	return s.Image
}

// podNotCreated quotes the Job controller's latest FailedCreate event. It makes a new pod name at every try, which is left out so that the
// message stays the same.
func podNotCreated(job *batchv1.Job, events []corev1.Event) *Trouble {
	t := &Trouble{Reason: v1alpha1.ReasonPodNotCreated, What: fmt.Sprintf("Job %s has no pod", job.Name)}
	latest := metav1.Time{}
	for _, e := range events {
		if e.Reason == "FailedCreate" && !e.LastTimestamp.Before(&latest) {
			latest, t.Detail = e.LastTimestamp, e.Message
		}
	}
	podName := regexp.MustCompile(regexp.QuoteMeta(job.Name) + "-[a-z0-9]{5}\\b")
	t.Detail = podName.ReplaceAllLiteralString(t.Detail, job.Name+"-*")
	return t
}

func annotatedNumber(job *batchv1.Job, key string) int64 {
	n, err := strconv.ParseInt(job.Annotations[key], 10, 64)
	if err != nil {
		return 0 // somebody edited it; no attempt has number 0
	}
	return n
}
