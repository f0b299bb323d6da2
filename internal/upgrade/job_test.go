// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

// everything sets every field of the spec that shapes a Job, but for those that only the runner knows.
func everything(o *v1alpha1.DBUpgrade) {
	o.Spec.Migrations.Image = "registry.test/app:v1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	o.Spec.Migrations.Dir = "/db/migrations"
	o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}, {Name: "mirror"}}
	o.Spec.Migrations.Format = v1alpha1.FormatGoose
	o.Spec.Migrations.Apply = v1alpha1.ApplySpec{
		Baseline: "20260101", ExecOrder: v1alpha1.ExecOrderNonLinear, TxMode: v1alpha1.TxModeAll, RevisionsSchema: "history", LockTimeout: after(time.Minute),
	}
	r := &o.Spec.Runner
	r.ActiveDeadlineSeconds = ptr.To[int64](3600)
	r.TerminationGracePeriodSeconds = 120
	r.NodeSelector = map[string]string{"pool": "batch"}
	r.Tolerations = []corev1.Toleration{{Key: "batch", Operator: corev1.TolerationOpExists}}
	r.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}}},
	}}}
	r.ServiceAccountName, r.PriorityClassName = "migrator", "high"
	r.PodLabels = map[string]string{"team": "shop"}
	r.PodAnnotations = map[string]string{"sidecar.istio.io/inject": "false"}
}

// ofTheRunner sets those.
func ofTheRunner(o *v1alpha1.DBUpgrade) {
	o.Spec.Migrations.Lint = v1alpha1.LintEnforce
	apply := &o.Spec.Migrations.Apply
	apply.ToVersion, apply.StatementLockTimeout, apply.StatementTimeout = "20260707", after(3*time.Second), after(time.Hour)
	o.Spec.Database.TLS = &v1alpha1.TLSSpec{Mode: v1alpha1.TLSVerifyFull, CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "authorities", Key: "db.pem"}}
}

func after(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

var fullConfig = upgrade.RunnerConfig{
	Image: "operator.test/runner:v1", ImagePullPolicy: corev1.PullIfNotPresent, PlainHTTP: true,
	AllowedImagePrefixes: []string{"registry.test/", "mirror.test/app"}, LockTimeout: "10s",
}

func build(config upgrade.RunnerConfig, options ...builders.Option) *batchv1.Job {
	return upgrade.BuildJob(builders.DBUpgrade(append(options, attempted(v1alpha1.AttemptNew))...), config)
}

// TestBuildJobGolden shows a whole Job with everything in it, to be read by people.
func TestBuildJobGolden(t *testing.T) {
	for name, job := range map[string]*batchv1.Job{
		"job": build(fullConfig, everything, ofTheRunner), "job-upstream": build(upstreamConfig(), everything),
		"job-image-volume": build(fullConfig, everything, ofTheRunner, imageVolume),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(job)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got, -update writes it anew:\n%s", diff)
			}
		})
	}
}

// jobs are those whose properties must hold whatever the spec says.
func jobs() map[string]*batchv1.Job {
	return map[string]*batchv1.Job{
		"defaults": build(upgrade.RunnerConfig{Image: "operator.test/runner:v1"}), "everything": build(fullConfig, everything, ofTheRunner),
		"upstream": build(upstreamConfig(), everything), "image volume": build(fullConfig, everything, ofTheRunner, imageVolume),
	}
}

func upstreamConfig() upgrade.RunnerConfig {
	config := fullConfig
	config.CraneImage, config.AtlasImage = "mirror.test/crane:v1", "mirror.test/atlas:v1"
	return config
}

func imageVolume(o *v1alpha1.DBUpgrade) {
	o.Spec.Migrations.Extraction = v1alpha1.ExtractionImageVolume
}

func containers(job *batchv1.Job) []corev1.Container {
	return slices.Concat(job.Spec.Template.Spec.InitContainers, job.Spec.Template.Spec.Containers)
}

// TestBuildJobRestricted goes through the controls of the restricted pod security standard.
func TestBuildJobRestricted(t *testing.T) {
	for name, job := range jobs() {
		t.Run(name, func(t *testing.T) {
			spec := job.Spec.Template.Spec
			if spec.HostNetwork || spec.HostPID || spec.HostIPC || len(spec.EphemeralContainers) > 0 {
				t.Error("it shares something of its host")
			}
			for _, v := range spec.Volumes {
				if v.EmptyDir == nil && v.Secret == nil && v.ConfigMap == nil && v.Image == nil {
					t.Errorf("volume %s is neither emptyDir nor Secret nor ConfigMap nor image", v.Name)
				}
				if v.EmptyDir != nil && v.EmptyDir.SizeLimit == nil {
					t.Errorf("volume %s has no limit", v.Name)
				}
			}
			want := &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
			if diff := cmp.Diff(want, spec.SecurityContext); diff != "" {
				t.Error(diff)
			}
			for _, c := range containers(job) {
				want := &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true), RunAsNonRoot: ptr.To(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}
				if len(c.Command) == 0 { // an image of somebody else's, which may name root
					want.RunAsUser = ptr.To[int64](65532)
				}
				if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
					t.Errorf("%s: %s", c.Name, diff)
				}
				if len(c.Ports) > 0 || c.Lifecycle != nil || c.LivenessProbe != nil || c.StartupProbe != nil {
					t.Errorf("%s has ports, hooks or probes", c.Name)
				}
				if len(c.Resources.Requests) == 0 || len(c.Resources.Limits) == 0 {
					t.Errorf("%s has no requests or limits", c.Name)
				}
			}
		})
	}
}

// TestBuildJobCredentials: who talks to registries has no database credentials, and the other way round; nobody has Kubernetes credentials.
func TestBuildJobCredentials(t *testing.T) {
	for name, job := range jobs() {
		t.Run(name, func(t *testing.T) {
			spec := job.Spec.Template.Spec
			if token := spec.AutomountServiceAccountToken; token == nil || *token {
				t.Error("the pod has a ServiceAccount token")
			}
			if links := spec.EnableServiceLinks; links == nil || *links {
				t.Error("the environment tells of services")
			}
			url := corev1.EnvVar{Name: "DATABASE_URL", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "db"}, Key: "url"}}}
			for _, c := range containers(job) {
				if migrates := c.Name == upgrade.MigrateContainer; migrates != slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return cmp.Equal(e, url) }) {
					t.Errorf("environment of %s: %v", c.Name, c.Env)
				}
				fromElsewhere := func(e corev1.EnvVar) bool { return e.ValueFrom != nil && e.Name != url.Name }
				if slices.ContainsFunc(c.Env, fromElsewhere) || len(c.EnvFrom) > 0 {
					t.Errorf("environment of %s: %v, %v", c.Name, c.Env, c.EnvFrom)
				}
				for _, m := range c.VolumeMounts {
					mine := m.Name == "work" && m.ReadOnly || m.Name == "image" && m.ReadOnly || m.Name == "tls" && m.ReadOnly || m.Name == "home"
					if c.Name == upgrade.MigrateContainer && !mine {
						t.Errorf("migrate mounts %+v", m)
					}
				}
			}
			for _, v := range spec.Volumes {
				if v.Secret != nil && v.Secret.SecretName == "db" {
					t.Error("the Secret of the database is mounted")
				}
			}
		})
	}
}

// TestBuildJobPullSecrets: each is mounted in fetch alone, and one that is missing keeps nothing from starting.
func TestBuildJobPullSecrets(t *testing.T) {
	spec := build(fullConfig, everything).Spec.Template.Spec
	sources := map[string]*corev1.SecretVolumeSource{}
	for _, v := range spec.Volumes {
		sources[v.Name] = v.Secret
	}
	var mounted []string
	for _, m := range spec.InitContainers[0].VolumeMounts {
		s := sources[m.Name]
		if s == nil {
			continue
		}
		if s.Optional == nil || !*s.Optional || !m.ReadOnly {
			t.Errorf("Secret %s: optional %v, read only %v", s.SecretName, s.Optional, m.ReadOnly)
		}
		mounted = append(mounted, s.SecretName+" at "+m.MountPath)
	}
	if diff := cmp.Diff([]string{"registry at /pull-secrets/registry", "mirror at /pull-secrets/mirror"}, mounted); diff != "" {
		t.Error(diff)
	}
}

// TestBuildJobArguments: what a user writes becomes one argument each, which no shell and no flag parser can take apart.
func TestBuildJobArguments(t *testing.T) {
	const evil = `/x"; rm -rf / #' --plain-http && echo ${HOME} | tee ` + "`id`\n\t--out=/etc"
	job := build(upgrade.RunnerConfig{Image: "operator.test/runner:v1"}, func(o *v1alpha1.DBUpgrade) {
		o.Name = "evil"
		o.Spec.Migrations.Image, o.Spec.Migrations.Dir = "--plain-http "+evil, evil
		o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: evil}}
		o.Spec.Database.Connection.URLSecretRef = v1alpha1.SecretKeyRef{Name: evil, Key: evil}
		o.Spec.Runner.PodLabels, o.Spec.Runner.PodAnnotations = map[string]string{evil: evil}, map[string]string{evil: evil}
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{Baseline: evil, RevisionsSchema: evil, ToVersion: evil}
		o.Spec.Database.TLS = &v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: evil, Key: evil}}
	})
	literal := strings.ReplaceAll(evil, "$", "$$") // which the kubelet makes one dollar again, instead of expanding $(NAME)
	want := map[string][]string{
		upgrade.FetchContainer:   {"fetch", "--image=--plain-http " + literal, "--dir=" + literal, "--out=/work", "--pull-secret=/pull-secrets/" + evil},
		upgrade.MigrateContainer: {"migrate", "--dir=/work", "--baseline=" + literal, "--revisions-schema=" + literal, "--to-version=" + literal, "--tls-ca=/tls/ca.crt"},
	}
	for _, c := range containers(job) {
		if diff := cmp.Diff([]string{"/runner"}, c.Command); diff != "" {
			t.Errorf("%s: command %s", c.Name, diff)
		}
		if diff := cmp.Diff(want[c.Name], c.Args); diff != "" {
			t.Errorf("%s: arguments %s", c.Name, diff)
		}
		if c.Image != "operator.test/runner:v1" || strings.Contains(c.WorkingDir, "x") {
			t.Errorf("%s runs %s in %q", c.Name, c.Image, c.WorkingDir)
		}
	}
}

// TestBuildJobUpstreamArguments: the same for those who read the flags of others.
func TestBuildJobUpstreamArguments(t *testing.T) {
	const evil = "--platform=$(HOME)"
	job := build(upgrade.RunnerConfig{Image: "operator.test/runner:v1", CraneImage: "crane", AtlasImage: "atlas"}, func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.Image, o.Spec.Migrations.Dir = evil, evil
		o.Spec.Migrations.Apply = v1alpha1.ApplySpec{Baseline: evil, RevisionsSchema: evil}
	})
	want := map[string][]string{
		upgrade.ExportContainer: {"export", "--", "--platform=$$(HOME)", "/export/image.tar"},
		upgrade.FetchContainer:  {"fetch", "--image=--platform=$$(HOME)", "--dir=--platform=$$(HOME)", "--out=/work", "--atlas-project=/tmp/atlas.hcl", "--tarball=/export/image.tar"},
		upgrade.MigrateContainer: {"migrate", "apply", "--config", "file:///tmp/atlas.hcl", "--env", "dbupgrade", "--lock-timeout=10m",
			"--baseline=--platform=$$(HOME)", "--revisions-schema=--platform=$$(HOME)"},
	}
	got := map[string][]string{}
	for _, c := range containers(job) {
		got[c.Name] = c.Args
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	migrate := build(upgrade.RunnerConfig{}, imageVolume, func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = evil }).Spec.Template.Spec.Containers[0]
	if diff := cmp.Diff([]string{"migrate", "--image-root=/image", "--dir=--platform=$$(HOME)"}, migrate.Args); diff != "" {
		t.Error(diff)
	}
}

func TestBuildJobFlags(t *testing.T) {
	for name, c := range map[string]struct {
		config         upgrade.RunnerConfig
		option         builders.Option
		fetch, migrate []string
	}{
		"defaults": {fetch: []string{"fetch", "--image=registry.test/app:v1", "--dir=/migrations", "--out=/work"}, migrate: []string{"migrate", "--dir=/work"}},
		"no dir": {option: func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "" },
			fetch: []string{"fetch", "--image=registry.test/app:v1", "--dir=/migrations", "--out=/work"}, migrate: []string{"migrate", "--dir=/work"}},
		"deadline": {option: func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.ActiveDeadlineSeconds = ptr.To[int64](90) },
			fetch: []string{"fetch", "--image=registry.test/app:v1", "--dir=/migrations", "--out=/work"}, migrate: []string{"migrate", "--dir=/work", "--deadline=90s"}},
		"the operator's settings": {config: fullConfig,
			fetch: []string{"fetch", "--image=registry.test/app:v1", "--dir=/migrations", "--out=/work",
				"--allowed-prefix=registry.test/", "--allowed-prefix=mirror.test/app", "--plain-http"},
			migrate: []string{"migrate", "--dir=/work", "--lock-timeout=10s"}},
	} {
		t.Run(name, func(t *testing.T) {
			option := c.option
			if option == nil {
				option = func(*v1alpha1.DBUpgrade) {}
			}
			spec := build(c.config, option).Spec.Template.Spec
			if diff := cmp.Diff(c.fetch, spec.InitContainers[0].Args); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(c.migrate, spec.Containers[0].Args); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBuildJobOptions: each says so in one argument of its own, to the runner and to the Atlas CLI; what is as it would be without saying says nothing.
func TestBuildJobOptions(t *testing.T) {
	apply := func(change func(*v1alpha1.ApplySpec)) builders.Option {
		return func(o *v1alpha1.DBUpgrade) { change(&o.Spec.Migrations.Apply) }
	}
	tls := func(mode v1alpha1.TLSMode, ref *v1alpha1.ConfigMapKeyRef) builders.Option {
		return func(o *v1alpha1.DBUpgrade) { o.Spec.Database.TLS = &v1alpha1.TLSSpec{Mode: mode, CAConfigMapRef: ref} }
	}
	for name, c := range map[string]struct {
		option        builders.Option
		runner, atlas string // "-" where admission refuses it
	}{
		"defaults": {func(o *v1alpha1.DBUpgrade) {
			o.Spec.Mode, o.Spec.Migrations.Format, o.Spec.Migrations.Lint = v1alpha1.ModeApply, v1alpha1.FormatAtlas, v1alpha1.LintWarn
			o.Spec.Migrations.Apply = v1alpha1.ApplySpec{ExecOrder: v1alpha1.ExecOrderLinear, TxMode: v1alpha1.TxModeFile}
		}, "", ""},
		"format":           {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Format = v1alpha1.FormatFlyway }, "--format=flyway", "--dir=file:///work?format=flyway"},
		"lint off":         {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = v1alpha1.LintOff }, "--lint=Off", ""},
		"lint":             {func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Lint = v1alpha1.LintEnforce }, "--lint=Enforce", "-"},
		"baseline":         {apply(func(a *v1alpha1.ApplySpec) { a.Baseline = "20260101" }), "--baseline=20260101", "--baseline=20260101"},
		"allow dirty":      {apply(func(a *v1alpha1.ApplySpec) { a.AllowDirty = true }), "--allow-dirty", "--allow-dirty"},
		"order":            {apply(func(a *v1alpha1.ApplySpec) { a.ExecOrder = v1alpha1.ExecOrderLinearSkip }), "--exec-order=linear-skip", "--exec-order=linear-skip"},
		"transactions":     {apply(func(a *v1alpha1.ApplySpec) { a.TxMode = v1alpha1.TxModeNone }), "--tx-mode=none", "--tx-mode=none"},
		"history":          {apply(func(a *v1alpha1.ApplySpec) { a.RevisionsSchema = "public" }), "--revisions-schema=public", "--revisions-schema=public"},
		"last version":     {apply(func(a *v1alpha1.ApplySpec) { a.ToVersion = "3" }), "--to-version=3", "-"},
		"lock":             {apply(func(a *v1alpha1.ApplySpec) { a.LockTimeout = after(90 * time.Second) }), "--lock-timeout=1m30s", "--lock-timeout=1m30s"},
		"statement's lock": {apply(func(a *v1alpha1.ApplySpec) { a.StatementLockTimeout = after(1500 * time.Millisecond) }), "--statement-lock-timeout=1.5s", "-"},
		"statement":        {apply(func(a *v1alpha1.ApplySpec) { a.StatementTimeout = after(2 * time.Hour) }), "--statement-timeout=2h0m0s", "-"},
		"TLS":              {tls(v1alpha1.TLSRequire, nil), "--tls-mode=Require", "-"},
		"authorities":      {tls("", &v1alpha1.ConfigMapKeyRef{Name: "ca"}), "--tls-ca=/tls/ca.crt", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			args := func(config upgrade.RunnerConfig) string {
				return strings.Join(build(config, c.option).Spec.Template.Spec.Containers[0].Args, " ")
			}
			if got, want := args(upgrade.RunnerConfig{}), strings.TrimSpace("migrate --dir=/work "+c.runner); got != want {
				t.Errorf("runner: %s", got)
			}
			upstream := upgrade.RunnerConfig{AtlasImage: "atlas"}
			if refused := len(upgrade.Validate(&builders.DBUpgrade(c.option).Spec, upstream)) > 0; refused != (c.atlas == "-") {
				t.Errorf("refused for the Atlas CLI: %v", refused)
			}
			if c.atlas == "-" {
				return
			}
			got := strings.TrimPrefix(args(upstream), "migrate apply --config file:///tmp/atlas.hcl --env dbupgrade ")
			if got = strings.TrimSpace(strings.Replace(got, "--lock-timeout=10m", "", 1)); got != c.atlas {
				t.Errorf("Atlas CLI: %s", got)
			}
		})
	}
}

// TestBuildJobOfAnAttempt: what the attempt has latched decides, not what the spec and the annotations say by now.
func TestBuildJobOfAnAttempt(t *testing.T) {
	job := upgrade.BuildJob(builders.DBUpgrade(attempted(v1alpha1.AttemptNew), everything, ofTheRunner, func(o *v1alpha1.DBUpgrade) {
		o.Status.Attempt.Mode, o.Status.Attempt.Resolve = v1alpha1.ModePlan, "redo:ABCDEF23"
		o.Spec.Mode, o.Annotations = v1alpha1.ModeApply, map[string]string{v1alpha1.AnnotationResolve: "skip:ABCDEF23"}
	}), fullConfig)
	want := []string{"plan", "--dir=/work", "--format=goose", "--lint=Enforce", "--baseline=20260101", "--exec-order=non-linear", "--tx-mode=all",
		"--revisions-schema=history", "--to-version=20260707", "--tls-mode=VerifyFull", "--tls-ca=/tls/ca.crt", "--deadline=3600s"}
	if diff := cmp.Diff(want, job.Spec.Template.Spec.Containers[0].Args); diff != "" { // no locks, no limits of statements, no way out: a plan executes nothing
		t.Error(diff)
	}
	if read := upgrade.ReadJob(job, nil, nil); read.Mode != v1alpha1.ModePlan || read.Resolve != "redo:ABCDEF23" {
		t.Errorf("read back: %+v", read)
	}
	job = upgrade.BuildJob(builders.DBUpgrade(attempted(v1alpha1.AttemptNew), func(o *v1alpha1.DBUpgrade) {
		o.Status.Attempt.Resolve, o.Spec.Mode = "redo:ABCDEF23", v1alpha1.ModePlan
	}), upgrade.RunnerConfig{})
	if diff := cmp.Diff([]string{"migrate", "--dir=/work", "--resolve=redo:ABCDEF23"}, job.Spec.Template.Spec.Containers[0].Args); diff != "" {
		t.Error(diff)
	}
}

// TestBuildJobAuthorities: they are mounted where the database is talked to, and their absence keeps no pod from starting.
func TestBuildJobAuthorities(t *testing.T) {
	for key, want := range map[string]string{"": "ca.crt", "db.pem": "db.pem"} {
		job := build(fullConfig, func(o *v1alpha1.DBUpgrade) {
			o.Spec.Database.TLS = &v1alpha1.TLSSpec{CAConfigMapRef: &v1alpha1.ConfigMapKeyRef{Name: "authorities", Key: key}}
		})
		volume := corev1.Volume{Name: "tls", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "authorities"}, Items: []corev1.KeyToPath{{Key: want, Path: "ca.crt"}}, Optional: ptr.To(true),
		}}}
		if !slices.ContainsFunc(job.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return cmp.Equal(v, volume) }) {
			t.Errorf("volumes %+v", job.Spec.Template.Spec.Volumes)
		}
		for _, c := range containers(job) {
			mount := corev1.VolumeMount{Name: "tls", MountPath: "/tls", ReadOnly: true}
			if mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return cmp.Equal(m, mount) }); mounted != (c.Name == upgrade.MigrateContainer) {
				t.Errorf("%s mounts %+v", c.Name, c.VolumeMounts)
			}
		}
	}
}

// TestBuildJobDeadline: the runner keeps the user's deadline, so the Job's must leave it time to start and to end.
func TestBuildJobDeadline(t *testing.T) {
	if d := build(upgrade.RunnerConfig{}).Spec.ActiveDeadlineSeconds; d != nil {
		t.Errorf("a deadline of %d s that nobody asked for", *d)
	}
	job := build(upgrade.RunnerConfig{}, everything)
	if d := job.Spec.ActiveDeadlineSeconds; d == nil || *d != 3600+120+600 {
		t.Errorf("deadline %v", d)
	}
	if grace := job.Spec.Template.Spec.TerminationGracePeriodSeconds; grace == nil || *grace != 120 {
		t.Errorf("grace %v", grace)
	}
}

// TestBuildJobRunsOnce: one pod, never a second one beside it, and no restart of a container.
func TestBuildJobRunsOnce(t *testing.T) {
	for name, job := range jobs() {
		t.Run(name, func(t *testing.T) {
			got, spec := job.Spec, job.Spec.Template.Spec
			got.Template, got.PodFailurePolicy, got.ActiveDeadlineSeconds = corev1.PodTemplateSpec{}, nil, nil
			want := batchv1.JobSpec{
				Suspend: ptr.To(true), Parallelism: ptr.To[int32](1), Completions: ptr.To[int32](1), BackoffLimit: ptr.To[int32](0),
				PodReplacementPolicy: ptr.To(batchv1.Failed),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if spec.RestartPolicy != corev1.RestartPolicyNever || slices.ContainsFunc(spec.InitContainers, func(c corev1.Container) bool { return c.RestartPolicy != nil }) {
				t.Error("containers are restarted")
			}
		})
	}
}

// TestBuildJobFailurePolicy: a failure that needs a person ends the Job even when its pod is disrupted at the same time, so that rule comes first.
func TestBuildJobFailurePolicy(t *testing.T) {
	var final []int32
	for code := int32(1); code <= 255; code++ {
		if !result.ClassOfExit(code).Retryable {
			final = append(final, code)
		}
	}
	fails := func(container string, codes ...int32) batchv1.PodFailurePolicyRule {
		return batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: &container, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: codes}}
	}
	disrupted := batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}}
	for name, c := range map[string]struct {
		job  *batchv1.Job
		want []batchv1.PodFailurePolicyRule
	}{
		"runner":       {build(upgrade.RunnerConfig{}), []batchv1.PodFailurePolicyRule{fails("fetch-migrations", final...), fails("migrate", final...), disrupted}},
		"image volume": {build(upgrade.RunnerConfig{}, imageVolume), []batchv1.PodFailurePolicyRule{fails("migrate", final...), disrupted}},
		"upstream": {build(upstreamConfig(), everything), []batchv1.PodFailurePolicyRule{ // crane's 1 may be a registry that is away
			fails("login", final...), fails("fetch-migrations", final...), fails("migrate", 1), disrupted}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.job.Spec.PodFailurePolicy.Rules); diff != "" {
				t.Error(diff)
			}
		})
	}
	if !slices.IsSorted(final) || len(final) > 255 || slices.Contains(final, 0) {
		t.Errorf("the API server refuses the exit codes %v", final)
	}
}

// TestBuildJobLabels: network policies select by our labels, so no user may take them away.
func TestBuildJobLabels(t *testing.T) {
	ours := map[string]string{
		"app.kubernetes.io/name": "dbupgrade", "app.kubernetes.io/managed-by": "dbupgrade-operator", "app.kubernetes.io/component": "migration",
		"dbupgrade.subbug.learning/dbupgrade-uid": "11111111-2222-3333-4444-555555555555",
	}
	theirs := map[string]string{"team": "shop"}
	for key := range ours {
		theirs[key] = "stolen"
	}
	given := maps.Clone(theirs)
	job := build(upgrade.RunnerConfig{}, func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodLabels = theirs })
	if diff := cmp.Diff(ours, job.Labels); diff != "" {
		t.Errorf("Job: %s", diff)
	}
	want := maps.Clone(ours)
	want["team"] = "shop"
	if diff := cmp.Diff(want, job.Spec.Template.Labels); diff != "" {
		t.Errorf("pod: %s", diff)
	}
	if diff := cmp.Diff(given, theirs); diff != "" {
		t.Errorf("the spec was changed: %s", diff)
	}
	for key, value := range ours {
		if errs := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); errs != nil {
			t.Errorf("%s=%s: %v", key, value, errs)
		}
	}
}

func TestJobName(t *testing.T) {
	long := strings.Repeat("a", 253)
	awkward := []string{
		"a", "app", "a.b", "a-b", "0", long, strings.Repeat("a", 31) + "-b", strings.Repeat("a", 31) + ".b", strings.Repeat("a", 29) + "---b",
		"a" + strings.Repeat(".a", 126), "a" + strings.Repeat("-", 60) + "a", strings.Repeat("a", 32), strings.Repeat("a", 33),
	}
	seen := map[string]string{}
	for i, name := range awkward {
		for j := range 3 { // deleted and made again under its name, an object has another UID
			uid := types.UID(fmt.Sprintf("11111111-2222-3333-4444-%06d%06d", i, j))
			for _, attempt := range []int64{1, 2, 11, 1<<63 - 1} {
				obj := builders.DBUpgrade(func(o *v1alpha1.DBUpgrade) { o.Name, o.UID = name, uid })
				got, who := upgrade.JobName(obj, attempt), fmt.Sprintf("%s %q %d", name, uid, attempt)
				if got != upgrade.JobName(obj, attempt) {
					t.Errorf("%s: not the same twice", who)
				}
				if len(got) > 63 {
					t.Errorf("%s: %s has %d characters", who, got, len(got))
				}
				if errs := append(validation.IsDNS1123Subdomain(got), validation.IsValidLabelValue(got)...); errs != nil {
					t.Errorf("%s: %s: %v", who, got, errs)
				}
				if !strings.Contains(name, ".") && validation.IsDNS1123Label(got) != nil {
					t.Errorf("%s: %s is no DNS label", who, got)
				}
				if other, taken := seen[got]; taken {
					t.Errorf("%s: %s is also the name of %s", who, got, other)
				}
				seen[got] = who
			}
		}
	}
}
