// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/result"
)

// Where an operator has the upstream command lines do a step: the containers for them, and what their exit codes and words mean.

// Names inside the Job's pod that are there for the upstream command lines only.
const (
	LoginContainer  = "login"
	ExportContainer = "export-image"

	exportMount   = "/export"
	exportedImage = exportMount + "/image.tar"
	loginMount    = "/login"
	homeMount     = "/tmp" // for atlas, which writes to its home directory, and perhaps to that of temporary files
	atlasProject  = homeMount + "/atlas.hcl"
	atlasEnv      = "dbupgrade"
)

const (
	// upstreamUser is for images that name no user, or root, as those of the Atlas CLI. It is also that of our own image.
	upstreamUser = 65532
	// upstreamFailed is the exit code with which both command lines say that they could not do it.
	upstreamFailed = 1
	// atlasLockTimeout is the runner's default. That of the CLI is 10 s, and not to get the lock ends the attempt.
	atlasLockTimeout = "10m"
)

// exportContainers pull the image with crane, where the operator wants that. It reads one docker configuration, so the login comes out of the pull
// Secrets before it.
func exportContainers(obj *v1alpha1.DBUpgrade, config RunnerConfig) []corev1.Container {
	if config.CraneImage == "" {
		return nil
	}
	image := literal(obj.Spec.Migrations.Image)
	export := upstreamContainer(ExportContainer, config.CraneImage, exportMount, obj, config)
	export.Args = []string{"export"}
	if config.PlainHTTP {
		export.Args = append(export.Args, "--insecure")
	}
	export.Args = append(export.Args, "--", image, exportedImage)
	export.VolumeMounts = []corev1.VolumeMount{{Name: "export", MountPath: exportMount}}
	if len(obj.Spec.Migrations.ImagePullSecrets) == 0 {
		return []corev1.Container{export}
	}
	login := container(LoginContainer, obj, config)
	login.Args = []string{"login", "--image=" + image, "--out=" + loginMount + "/config.json"}
	login.VolumeMounts = []corev1.VolumeMount{{Name: "login", MountPath: loginMount}}
	mountPullSecrets(&login, obj)
	export.Env = append(export.Env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: loginMount})
	export.VolumeMounts = append(export.VolumeMounts, corev1.VolumeMount{Name: "login", MountPath: loginMount, ReadOnly: true})
	return []corev1.Container{login, export}
}

// atlasContainer finds directory and database in the project file that fetch has written.
func atlasContainer(obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.Container {
	c := upstreamContainer(MigrateContainer, config.AtlasImage, homeMount, obj, config)
	c.Args = atlasArgs(obj, config)
	c.Env = append(c.Env,
		corev1.EnvVar{Name: "ATLAS_NO_UPDATE_NOTIFIER", Value: "true"},
		corev1.EnvVar{Name: "ATLAS_NO_UPGRADE_SUGGESTIONS", Value: "true"},
		corev1.EnvVar{Name: "ATLAS_NO_ANON_TELEMETRY", Value: "true"},
	)
	c.VolumeMounts = []corev1.VolumeMount{{Name: "home", MountPath: homeMount}}
	return c
}

// atlasArgs of the CLI's "migrate apply". What it cannot do, Validate has refused.
func atlasArgs(obj *v1alpha1.DBUpgrade, config RunnerConfig) []string {
	apply := obj.Spec.Migrations.Apply
	args := arguments{"migrate", "apply", "--config", "file://" + atlasProject, "--env", atlasEnv}
	if format := unless(obj.Spec.Migrations.Format, v1alpha1.FormatAtlas); format != "" {
		args.flag("dir", "file://"+migrationsMount+"?format="+format) // goes before that of the project file
	}
	args.flag("lock-timeout", cmp.Or(duration(apply.LockTimeout), config.LockTimeout, atlasLockTimeout))
	args.flag("baseline", apply.Baseline)
	args.toggle("allow-dirty", apply.AllowDirty)
	args.flag("exec-order", unless(apply.ExecOrder, v1alpha1.ExecOrderLinear))
	args.flag("tx-mode", unless(apply.TxMode, v1alpha1.TxModeFile))
	args.flag("revisions-schema", apply.RevisionsSchema)
	return args
}

// upstreamContainer runs an image's own entry point.
func upstreamContainer(name, image, home string, obj *v1alpha1.DBUpgrade, config RunnerConfig) corev1.Container {
	c := container(name, obj, config)
	c.Image, c.ImagePullPolicy, c.Command = image, "", nil
	c.Env = []corev1.EnvVar{{Name: "HOME", Value: home}}
	c.SecurityContext.RunAsUser = ptr.To[int64](upstreamUser)
	c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	return c
}

func upstreamVolumes(obj *v1alpha1.DBUpgrade, config RunnerConfig) []corev1.Volume {
	var volumes []corev1.Volume
	if config.AtlasImage != "" {
		volumes = append(volumes, emptyDir("home", "16Mi"))
	}
	if config.CraneImage != "" {
		volumes = append(volumes, emptyDir("export", "4Gi")) // the whole image, unpacked
		if len(obj.Spec.Migrations.ImagePullSecrets) > 0 {
			login := emptyDir("login", "1Mi")
			login.EmptyDir.Medium = corev1.StorageMediumMemory // a credential is for no disk
			volumes = append(volumes, login)
		}
	}
	return volumes
}

// isUpstream tells that one of our containers runs an upstream command line: of them only, the end of the log is the termination message. An injector
// may well change what a container calls, but hardly this.
func isUpstream(c corev1.Container) bool {
	return c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError
}

// upstreamMigrates tells whether a pod has the Atlas CLI apply the migrations.
func upstreamMigrates(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.Containers {
		if c.Name == MigrateContainer {
			return isUpstream(c)
		}
	}
	return false
}

// outcomeOfAtlas reads how the Atlas CLI ended: by its exit code alone, and of its words the few that tell of something that comes and goes.
func outcomeOfAtlas(t *corev1.ContainerStateTerminated) Outcome {
	if t.ExitCode == 0 {
		return Outcome{Succeeded: true, Message: "The migrations are applied; the log of the Atlas CLI tells which", EndedAt: t.FinishedAt}
	}
	return outcomeOfUpstream(t, MigrateContainer, atlasClass(lastWords(t.Message)))
}

// outcomeOfExport reads how crane failed.
func outcomeOfExport(t *corev1.ContainerStateTerminated) Outcome {
	return outcomeOfUpstream(t, ExportContainer, v1alpha1.ImagePullFailed)
}

// outcomeOfUpstream: any code but theirs for a failure is a kill from outside. 2 is that of a Go program that is told to end as the first process.
func outcomeOfUpstream(t *corev1.ContainerStateTerminated, container string, class v1alpha1.FailureClass) Outcome {
	words := lastWords(t.Message)
	if t.ExitCode == upstreamFailed && words != "" {
		return Outcome{Class: result.ClassOf(class), Message: words, EndedAt: t.FinishedAt}
	}
	if t.ExitCode != upstreamFailed {
		class = v1alpha1.Interrupted
	}
	message := fmt.Sprintf("container %s ended with exit code %d (%s)", container, t.ExitCode, cmp.Or(t.Reason, "no reason given"))
	return Outcome{Class: result.ClassOf(class), Message: strings.TrimSuffix(message+": "+words, ": "), EndedAt: t.FinishedAt}
}

// atlasClasses are known by how the CLI's words begin, the first that fits. Only what happened before anything was executed may be tried again.
var atlasClasses = []struct {
	words *regexp.Regexp
	class v1alpha1.FailureClass
}{
	{regexp.MustCompile(`^Error: (postgres: scanning system variables: |sql/sqlclient: |required flag "url" )`), v1alpha1.DatabaseUnreachable},
	{regexp.MustCompile(`^Error: acquiring database lock: `), v1alpha1.LockTimeout},
	{regexp.MustCompile(`^Error: checksum `), v1alpha1.IntegrityFailed},
	{regexp.MustCompile(`^Error: executing a statement `), v1alpha1.StatementFailed},
}

func atlasClass(words string) v1alpha1.FailureClass {
	for _, c := range atlasClasses {
		if c.words.MatchString(words) {
			return c.class
		}
	}
	return v1alpha1.Internal
}

// What must not get from a log into a status. The manager knows no password to look for, so whatever might hold one goes: all behind a URL that cannot
// be parsed, since even the reason quotes a part of it; users and queries of URLs; values of passwords; the text of statements, which may also hold data
// and whose beginning the kubelet may have cut off.
var secretive = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`(?s)parse ".*`), "the URL cannot be parsed"},
	{regexp.MustCompile(`(://)\S*@`), "$1"},
	{regexp.MustCompile(`(://[^\s?"]*)\?[^\s"]*`), "$1?…"},
	{regexp.MustCompile(`(?i)(password|passwd|pwd)\s*[=:]\s*\S+`), "$1=***"},
	{fromVersion, "Error: executing a statement$1"},
}

// fromVersion is what the Atlas CLI says behind a statement.
var fromVersion = regexp.MustCompile(`(?s)^.*"( from version "[^"]*")`)

// lastWords are the error that a command line has ended with, without what may be secret; "" where it ended without one, for its progress is statements.
func lastWords(log string) string {
	switch at := strings.LastIndex("\n"+log, "\nError: "); {
	case at >= 0:
		log = log[at:]
	case !fromVersion.MatchString(log):
		return ""
	}
	for _, s := range secretive {
		log = s.pattern.ReplaceAllString(log, s.replacement)
	}
	return strings.Join(strings.Fields(log), " ")
}
