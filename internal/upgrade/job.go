// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Names inside the Job's pod.
const (
	FetchContainer   = "fetch-migrations"
	MigrateContainer = "migrate"

	migrationsMount  = "/work"
	pullSecretsMount = "/pull-secrets"
	imageMount       = "/image"
	tlsMount         = "/tls"
	authoritiesFile  = "ca.crt"
)

// Labels of Jobs and their pods. Users cannot override them, so network policies may select by them.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelComponent = "app.kubernetes.io/component"
	// LabelOwner holds the UID of the DBUpgrade.
	LabelOwner = "dbupgrade.subbug.learning/dbupgrade-uid"

	ManagedBy = "dbupgrade-operator"
	Component = "migration"
)

// Annotations by which ReadJob knows what a Job was made with.
const (
	annotationAttempt    = "dbupgrade.subbug.learning/attempt"
	annotationRevision   = "dbupgrade.subbug.learning/revision"
	annotationGeneration = "dbupgrade.subbug.learning/generation"
	annotationMode       = "dbupgrade.subbug.learning/mode"
)

// startAllowance is added to the Job's own deadline for scheduling, image pulls and fetching, in seconds. The runner keeps the user's deadline
// itself, so that it can report the statement; the Job's is for a runner that does not answer.
const startAllowance = 600

// RunnerConfig is what the operator adds to every Job.
type RunnerConfig struct {
	// Image of the operator, which holds the runner.
	Image string
	// ImagePullPolicy of that image; empty for the default of Kubernetes.
	ImagePullPolicy corev1.PullPolicy
	// PlainHTTP lets fetch talk to registries without TLS.
	PlainHTTP bool
	// AllowedImagePrefixes bound the images that migrations come from; empty allows all.
	AllowedImagePrefixes []string
	// LockTimeout is passed to migrate where it is not empty, as a Go duration: how long it waits for the advisory lock in the database.
	LockTimeout string
	// CraneImage holds the upstream crane, which then pulls the images with migrations; empty has the runner do it.
	CraneImage string
	// AtlasImage holds the upstream Atlas, which then applies the migrations; empty has the runner do it.
	AtlasImage string
	// KubernetesVersion is the API server's. Nil is one that can do everything.
	KubernetesVersion *version.Version
}

// JobName is the name of an attempt's Job: at most 63 characters, the same for the same attempt of the same object, and never that of
// another object, since it holds a hash of the UID.
func JobName(obj *v1alpha1.DBUpgrade, attempt int64) string {
	name := obj.Name
	if len(name) > 32 {
		name = name[:32]
	}
	name = strings.ReplaceAll(name, ".", "-") // pods are named after it, and like no dots
	return fmt.Sprintf("%s-%s-%d", strings.TrimRight(name, "-"), hash(string(obj.UID))[:8], attempt)
}

// BuildJob makes the Job of an attempt, suspended.
func BuildJob(obj *v1alpha1.DBUpgrade, config RunnerConfig) *batchv1.Job {
	attempt, runner := obj.Status.Attempt, obj.Spec.Runner
	pod := podSpec(obj, config)
	labels := map[string]string{
		"app.kubernetes.io/name": "dbupgrade",
		LabelManagedBy:           ManagedBy,
		LabelComponent:           Component,
		LabelOwner:               string(obj.UID),
	}
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name:      attempt.Job,
			Namespace: obj.Namespace,
			Labels:    labels,
			Annotations: map[string]string{
				annotationAttempt:          strconv.FormatInt(attempt.Number, 10),
				annotationRevision:         attempt.Revision,
				annotationGeneration:       strconv.FormatInt(attempt.Generation, 10),
				annotationMode:             string(cmp.Or(attempt.Mode, v1alpha1.ModeApply)),
				v1alpha1.AnnotationRetry:   attempt.Retry,
				v1alpha1.AnnotationResolve: attempt.Resolve,
			},
		},
		Spec: batchv1.JobSpec{
			Suspend:              ptr.To(true),
			Parallelism:          ptr.To[int32](1),
			Completions:          ptr.To[int32](1),
			BackoffLimit:         ptr.To[int32](0),
			PodReplacementPolicy: ptr.To(batchv1.Failed),
			PodFailurePolicy:     podFailurePolicy(&pod),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: over(runner.PodLabels, labels), Annotations: over(runner.PodAnnotations, nil)},
				Spec:       pod,
			},
		},
	}
	if deadline := runner.ActiveDeadlineSeconds; deadline != nil {
		job.Spec.ActiveDeadlineSeconds = ptr.To(*deadline + runner.TerminationGracePeriodSeconds + startAllowance)
	}
	return job
}

// over is base with top laid over it.
func over(base, top map[string]string) map[string]string {
	both := maps.Clone(base)
	if both == nil {
		both = map[string]string{}
	}
	maps.Copy(both, top)
	return both
}

// podFailurePolicy ends the Job at once on an exit code that needs a person, and has a pod that was evicted or preempted replaced, in this order:
// a failed statement stays failed when its node is drained at the same moment. Exit codes of containers that are not ours mean nothing.
func podFailurePolicy(pod *corev1.PodSpec) *batchv1.PodFailurePolicy {
	policy := &batchv1.PodFailurePolicy{}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if codes := finalCodes(c); len(codes) > 0 {
			policy.Rules = append(policy.Rules, batchv1.PodFailurePolicyRule{
				Action: batchv1.PodFailurePolicyActionFailJob,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
					ContainerName: ptr.To(c.Name), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: codes,
				},
			})
		}
	}
	policy.Rules = append(policy.Rules, batchv1.PodFailurePolicyRule{
		Action:          batchv1.PodFailurePolicyActionIgnore,
		OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}},
	})
	return policy
}

// finalCodes are the exit codes of a container that end its Job.
func finalCodes(c corev1.Container) []int32 {
	switch {
	case c.Name == ExportContainer:
		return nil // whatever crane could not do, it may later on
	case isUpstream(c):
		return []int32{upstreamFailed}
	}
	final := []int32{1, 2} // the Go runtime's own; see result.ClassOfExit
	for _, c := range result.Classes() {
		if !c.Retryable {
			final = append(final, c.ExitCode)
		}
	}
	return final
}

// podSpec passes the restricted pod security standard. It names no user ID: the image's own is numeric, and OpenShift assigns one of its range.
func podSpec(obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.PodSpec {
	runner := obj.Spec.Runner
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: ptr.To(runner.TerminationGracePeriodSeconds),
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		ServiceAccountName:            runner.ServiceAccountName,
		PriorityClassName:             runner.PriorityClassName,
		NodeSelector:                  runner.NodeSelector,
		Tolerations:                   runner.Tolerations,
		Affinity:                      runner.Affinity,
		ImagePullSecrets:              obj.Spec.Migrations.ImagePullSecrets,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   ptr.To(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{migrateContainer(obj, config)},
		Volumes:    authorities(obj),
	}
	if obj.Spec.Migrations.Extraction == v1alpha1.ExtractionImageVolume {
		spec.Volumes = append(spec.Volumes, corev1.Volume{
			Name:         "image",
			VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: obj.Spec.Migrations.Image}},
		})
		return spec
	}
	spec.InitContainers = append(exportContainers(obj, config), fetchContainer(obj, config))
	spec.Volumes = append(append(spec.Volumes, emptyDir("work", "128Mi")), upstreamVolumes(obj, config)...)
	for i, secret := range obj.Spec.Migrations.ImagePullSecrets {
		spec.Volumes = append(spec.Volumes, corev1.Volume{
			Name:         pullSecretVolume(i),
			VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret.Name, Optional: ptr.To(true)}},
		})
	}
	return spec
}

// authorities is the volume of the certificates that the connection is verified by, where the spec names some. A ConfigMap that is missing, or lacks the
// key, keeps no pod from starting: the runner says so, in words that get into status.
func authorities(obj *v1alpha1.DBUpgrade) []corev1.Volume {
	ref := authoritiesRef(obj)
	if ref == nil {
		return nil
	}
	return []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: ref.Name},
		Items:                []corev1.KeyToPath{{Key: cmp.Or(ref.Key, authoritiesFile), Path: authoritiesFile}},
		Optional:             ptr.To(true),
	}}}}
}

func authoritiesRef(obj *v1alpha1.DBUpgrade) *v1alpha1.ConfigMapKeyRef {
	if tls := obj.Spec.Database.TLS; tls != nil {
		return tls.CAConfigMapRef
	}
	return nil
}

func emptyDir(name, limit string) corev1.Volume {
	return corev1.Volume{
		Name:         name,
		VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse(limit))}},
	}
}

// literal keeps the kubelet from expanding $(NAME) in an argument.
func literal(arg string) string { return strings.ReplaceAll(arg, "$", "$$") }

func pullSecretVolume(i int) string { return fmt.Sprintf("pull-secret-%d", i) }

// fetchContainer talks to the registry and has no database credentials.
func fetchContainer(obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.Container {
	dir := cmp.Or(obj.Spec.Migrations.Dir, DefaultDir)
	c := container(FetchContainer, obj, config)
	c.Args = []string{"fetch", "--image=" + literal(obj.Spec.Migrations.Image), "--dir=" + literal(dir), "--out=" + migrationsMount}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: migrationsMount}}
	for _, prefix := range config.AllowedImagePrefixes {
		c.Args = append(c.Args, "--allowed-prefix="+prefix)
	}
	if config.PlainHTTP {
		c.Args = append(c.Args, "--plain-http")
	}
	if config.AtlasImage != "" {
		c.Args = append(c.Args, "--atlas-project="+atlasProject)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "home", MountPath: homeMount})
	}
	if config.CraneImage != "" {
		c.Args = append(c.Args, "--tarball="+exportedImage)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "export", MountPath: exportMount, ReadOnly: true})
		return c
	}
	mountPullSecrets(&c, obj)
	return c
}

// mountPullSecrets mounts each of them under its name, and tells the runner where.
func mountPullSecrets(c *corev1.Container, obj *v1alpha1.DBUpgrade) {
	for i, secret := range obj.Spec.Migrations.ImagePullSecrets {
		at := pullSecretsMount + "/" + secret.Name
		c.Args = append(c.Args, "--pull-secret="+at)
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: pullSecretVolume(i), MountPath: at, ReadOnly: true})
	}
}

// migrateContainer talks to the database and has no registry credentials.
func migrateContainer(obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.Container {
	c := container(MigrateContainer, obj, config)
	if config.AtlasImage != "" {
		c = atlasContainer(obj, config)
	} else {
		c.Args = migrateArgs(obj, config)
	}
	source := corev1.VolumeMount{Name: "work", MountPath: migrationsMount, ReadOnly: true}
	if obj.Spec.Migrations.Extraction == v1alpha1.ExtractionImageVolume {
		// The image as a whole: with a subPath, the runtime would say in its own words that the directory is missing, again and again.
		source = corev1.VolumeMount{Name: "image", MountPath: imageMount, ReadOnly: true}
	}
	c.VolumeMounts = append(c.VolumeMounts, source)
	if authoritiesRef(obj) != nil {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "tls", MountPath: tlsMount, ReadOnly: true})
	}
	if connection := obj.Spec.Database.Connection; connection != nil {
		c.Env = append(c.Env, corev1.EnvVar{Name: "DATABASE_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: connection.URLSecretRef.Name},
			Key:                  connection.URLSecretRef.Key,
		}}})
	}
	return c
}

// migrateArgs are the runner's; docs/runner.md describes them. What is not set is left to its defaults.
func migrateArgs(obj *v1alpha1.DBUpgrade, config RunnerConfig) []string {
	attempt, migrations, apply := obj.Status.Attempt, obj.Spec.Migrations, obj.Spec.Migrations.Apply
	args := arguments{"migrate"}
	if attempt.Mode == v1alpha1.ModePlan {
		args = arguments{"plan"}
	}
	if migrations.Extraction == v1alpha1.ExtractionImageVolume {
		args.flag("image-root", imageMount)
		args.flag("dir", cmp.Or(migrations.Dir, DefaultDir))
	} else {
		args.flag("dir", migrationsMount)
	}
	args.flag("format", unless(migrations.Format, v1alpha1.FormatAtlas))
	args.flag("lint", unless(migrations.Lint, v1alpha1.LintWarn))
	args.flag("baseline", apply.Baseline)
	args.toggle("allow-dirty", apply.AllowDirty)
	args.flag("exec-order", unless(apply.ExecOrder, v1alpha1.ExecOrderLinear))
	args.flag("tx-mode", unless(apply.TxMode, v1alpha1.TxModeFile))
	args.flag("revisions-schema", apply.RevisionsSchema)
	args.flag("to-version", apply.ToVersion)
	if attempt.Mode != v1alpha1.ModePlan { // which locks and executes nothing
		args.flag("lock-timeout", cmp.Or(duration(apply.LockTimeout), config.LockTimeout))
		args.flag("statement-lock-timeout", duration(apply.StatementLockTimeout))
		args.flag("statement-timeout", duration(apply.StatementTimeout))
		args.flag("resolve", attempt.Resolve)
	}
	if tls := obj.Spec.Database.TLS; tls != nil {
		args.flag("tls-mode", string(tls.Mode))
	}
	if authoritiesRef(obj) != nil {
		args.flag("tls-ca", tlsMount+"/"+authoritiesFile)
	}
	if deadline := obj.Spec.Runner.ActiveDeadlineSeconds; deadline != nil {
		args.flag("deadline", fmt.Sprintf("%ds", *deadline))
	}
	return args
}

// arguments of a container. Each flag is one, so that no value can be taken for another flag.
type arguments []string

// flag with a value, left out where that is empty.
func (a *arguments) flag(name, value string) {
	if value != "" {
		*a = append(*a, "--"+name+"="+literal(value))
	}
}

func (a *arguments) toggle(name string, on bool) {
	if on {
		*a = append(*a, "--"+name)
	}
}

// unless is a value as text, empty where it is the default.
func unless[T ~string](value, fallback T) string {
	if value == fallback {
		return ""
	}
	return string(value)
}

func duration(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

func container(name string, obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.Container {
	return corev1.Container{
		Name:            name,
		Image:           config.Image,
		ImagePullPolicy: config.ImagePullPolicy,
		Command:         []string{"/runner"},
		Resources:       obj.Spec.Runner.Resources,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			RunAsNonRoot:             ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}
