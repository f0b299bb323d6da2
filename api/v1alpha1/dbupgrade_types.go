// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// DBUpgrade applies the migrations that a container image holds to a database, once per revision.
//
// While an attempt's Job is pending or running, only metadata and suspend may be edited.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=dbu,categories={all,dbupgrade}
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Progressing",type=string,JSONPath=`.status.conditions[?(@.type=="Progressing")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.migration.currentVersion`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Degraded",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Degraded")].status`
// +kubebuilder:printcolumn:name="ObservedGen",type=integer,priority=1,JSONPath=`.status.observedGeneration`
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.attempt) || !(oldSelf.status.attempt.phase in ['Pending', 'Running']) || (self.spec.migrations == oldSelf.spec.migrations && self.spec.database == oldSelf.spec.database && self.spec.runner == oldSelf.spec.runner && self.spec.mode == oldSelf.spec.mode)",message="spec may not change while the attempt's Job is pending or running, except spec.suspend: wait for it to end, or set spec.suspend to have a pending one removed",fieldPath=".spec",reason=FieldValueForbidden
type DBUpgrade struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec DBUpgradeSpec `json:"spec"`
	// +optional
	Status DBUpgradeStatus `json:"status,omitzero"`
}

// DBUpgradeList is a list of DBUpgrades.
//
// +kubebuilder:object:root=true
type DBUpgradeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DBUpgrade `json:"items"`
}

// DBUpgradeSpec says which migrations to apply to which database.
type DBUpgradeSpec struct {
	// Migrations says where the migrations are.
	// +required
	Migrations MigrationsSpec `json:"migrations"`

	// Database says where they go. It cannot change but for tls: another database is another DBUpgrade.
	// +required
	// +kubebuilder:validation:XValidation:rule="self.type == oldSelf.type && has(self.connection) == has(oldSelf.connection) && (!has(self.connection) || self.connection == oldSelf.connection)",message="database is immutable, except database.tls: create another DBUpgrade for another database"
	Database DatabaseSpec `json:"database"`

	// Runner shapes the Job that applies the migrations. Nothing in it makes an applied revision run again.
	// +optional
	// +kubebuilder:default={}
	Runner RunnerSpec `json:"runner,omitzero"`

	// Suspend keeps anything new from starting and removes a Job whose migration has not started. A running migration is left alone.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// Mode says what to do with the migrations. Apply, the default, applies what is pending. Plan only tells, in status.migration, what that would be and
	// what there is to say against it; it changes nothing in the database and ends as PlanComplete.
	// +optional
	// +kubebuilder:default=Apply
	Mode Mode `json:"mode,omitempty"`
}

// Mode is what to do with migrations.
// +kubebuilder:validation:Enum=Apply;Plan
type Mode string

// The modes.
const (
	ModeApply Mode = "Apply"
	ModePlan  Mode = "Plan"
)

// MigrationsSpec names a directory of migrations inside a container image.
type MigrationsSpec struct {
	// Image that holds the migrations, with tag or digest. It is read, never run: it needs no shell and no tools.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image"`

	// Dir is the absolute path of the directory of migrations in the image.
	// +optional
	// +kubebuilder:default=/migrations
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="must be an absolute path"
	// +kubebuilder:validation:XValidation:rule="!self.split('/').exists(p, p == '..')",message="must not contain '..'"
	Dir string `json:"dir,omitempty"`

	// ImagePullSecrets are Secrets of this namespace (type kubernetes.io/dockerconfigjson) for the registry of the image. One that does
	// not exist is passed over, and named should the pull then fail.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(s, has(s.name) && size(s.name) > 0)",message="every entry needs a name"
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// Extraction is how the migrations come out of the image. Crane, the default, has the operator read what it needs from the registry. ImageVolume
	// has the kubelet pull the image and mount it, with the node's own credentials and policies; status then names no digest. It needs Kubernetes
	// 1.35. Changing it makes no applied revision run again.
	// +optional
	// +kubebuilder:default=Crane
	Extraction Extraction `json:"extraction,omitempty"`

	// Format of the directory: that of atlas, the default, or of another tool whose migrations are to be taken over. An atlas.sum is required in the
	// former; in the others it is checked where there is one.
	// +optional
	// +kubebuilder:default=atlas
	Format Format `json:"format,omitempty"`

	// Lint is what becomes of findings about the pending migrations, such as a dropped column or an index that is built under a lock. Warn, the default,
	// tells them in status.migration.findings; Enforce ends the attempt before anything is executed, if one of them is an error; Off looks for none.
	// +optional
	// +kubebuilder:default=Warn
	Lint LintMode `json:"lint,omitempty"`

	// Apply says how the migrations are applied.
	// +optional
	Apply ApplySpec `json:"apply,omitzero"`
}

// Format is the tool whose files a directory of migrations holds.
// +kubebuilder:validation:Enum=atlas;golang-migrate;goose;flyway;liquibase;dbmate
type Format string

// The formats.
const (
	FormatAtlas         Format = "atlas"
	FormatGolangMigrate Format = "golang-migrate"
	FormatGoose         Format = "goose"
	FormatFlyway        Format = "flyway"
	FormatLiquibase     Format = "liquibase"
	FormatDBMate        Format = "dbmate"
)

// LintMode is what becomes of findings.
// +kubebuilder:validation:Enum=Off;Warn;Enforce
type LintMode string

// The modes of lint.
const (
	LintOff     LintMode = "Off"
	LintWarn    LintMode = "Warn"
	LintEnforce LintMode = "Enforce"
)

// ApplySpec says how migrations are applied. Its fields are the flags of the same name of "atlas migrate apply", except for toVersion and the limits
// of statements, which that does not have.
// +kubebuilder:validation:XValidation:rule="!has(self.baseline) || !has(self.allowDirty) || !self.allowDirty",message="baseline and allowDirty exclude each other: baseline takes the database as it is for that version, allowDirty executes every file in it"
// +kubebuilder:validation:XValidation:rule="!has(self.baseline) || !has(self.toVersion) || !self.baseline.matches('^[0-9]+$') || !self.toVersion.matches('^[0-9]+$') || size(self.baseline) != size(self.toVersion) || self.baseline <= self.toVersion",message="toVersion comes before baseline: with the files up to baseline taken for applied, there is nothing that it could end at"
// +kubebuilder:validation:XValidation:rule="!has(self.statementLockTimeout) || !has(self.statementTimeout) || duration(self.statementLockTimeout) < duration(self.statementTimeout)",message="statementLockTimeout must be shorter than statementTimeout, which would always pass first"
type ApplySpec struct {
	// Baseline is the version that a database without a history of migrations is taken to be at: the files up to it are recorded, not executed. It means
	// nothing for a database that has a history.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Baseline string `json:"baseline,omitempty"`

	// AllowDirty applies the migrations from the first one on to a database that has no history of migrations and is not empty.
	// +optional
	AllowDirty bool `json:"allowDirty,omitempty"`

	// ExecOrder is what becomes of files that are not applied although later ones are: linear, the default, fails; linear-skip passes them over; non-linear
	// applies them.
	// +optional
	// +kubebuilder:default=linear
	ExecOrder ExecOrder `json:"execOrder,omitempty"`

	// TxMode is what a transaction holds: file, the default, a file and its row of the history; all, every pending file; none, nothing. A file may ask for
	// another one of file and none by a line "-- atlas:txmode" at its top. MySQL commits before and after most changes of a schema whatever this says.
	// +optional
	// +kubebuilder:default=file
	TxMode TxMode `json:"txMode,omitempty"`

	// RevisionsSchema is the schema (MySQL: the database) that holds the history of migrations, the table atlas_schema_revisions. Without it, that is the schema
	// that the URL names, or else one called atlas_schema_revisions.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	RevisionsSchema string `json:"revisionsSchema,omitempty"`

	// ToVersion is the last version to apply; later files are left pending. Without it, all are applied.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	ToVersion string `json:"toVersion,omitempty"`

	// LockTimeout is how long to wait for another run in the same database to end, such as 30s. The default is the operator's, 10m where it sets none.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be between 1s and 24h"
	LockTimeout *metav1.Duration `json:"lockTimeout,omitempty"`

	// StatementLockTimeout is how long a statement may wait for a lock, say of a table that the app is using, with everybody else queued up behind it. When
	// it passes, the file (with txMode none the statement, with all the run) is tried again a few times, each time after a longer pause. Without it, the
	// database's own setting holds, which usually is to wait for ever. MySQL counts whole seconds.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="must be between 1ms and 24h"
	StatementLockTimeout *metav1.Duration `json:"statementLockTimeout,omitempty"`

	// StatementTimeout is how long a statement may run before it is cancelled, which fails the attempt. Without it, the database's own setting holds.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('720h')",message="must be between 1ms and 720h"
	StatementTimeout *metav1.Duration `json:"statementTimeout,omitempty"`
}

// ExecOrder is what becomes of files that come late.
// +kubebuilder:validation:Enum=linear;linear-skip;non-linear
type ExecOrder string

// The execution orders.
const (
	ExecOrderLinear     ExecOrder = "linear"
	ExecOrderLinearSkip ExecOrder = "linear-skip"
	ExecOrderNonLinear  ExecOrder = "non-linear"
)

// TxMode is what one transaction holds.
// +kubebuilder:validation:Enum=file;all;none
type TxMode string

// The transaction modes.
const (
	TxModeFile TxMode = "file"
	TxModeAll  TxMode = "all"
	TxModeNone TxMode = "none"
)

// Extraction is how migrations come out of their image.
// +kubebuilder:validation:Enum=Crane;ImageVolume
type Extraction string

// The ways of extraction.
const (
	ExtractionCrane       Extraction = "Crane"
	ExtractionImageVolume Extraction = "ImageVolume"
)

// DatabaseType is the kind of database.
// +kubebuilder:validation:Enum=selfHosted
type DatabaseType string

// DatabaseSelfHosted is a database reached by a URL that a Secret holds.
const DatabaseSelfHosted DatabaseType = "selfHosted"

// DatabaseSpec says where the database is and how to log in.
// +kubebuilder:validation:XValidation:rule="self.type != 'selfHosted' || has(self.connection)",message="connection.urlSecretRef is required for type selfHosted",fieldPath=".connection",reason=FieldValueRequired
type DatabaseSpec struct {
	// Type of the database.
	// +required
	Type DatabaseType `json:"type"`

	// Connection to the database, by URL.
	// +optional
	Connection *ConnectionSpec `json:"connection,omitempty"`

	// TLS of the connection. It may change: certificates do.
	// +optional
	TLS *TLSSpec `json:"tls,omitempty"`
}

// TLSSpec says how the connection is secured. What it says goes before what the URL says.
// +kubebuilder:validation:XValidation:rule="has(self.mode) || has(self.caConfigMapRef)",message="set mode, caConfigMapRef or both"
// +kubebuilder:validation:XValidation:rule="!has(self.caConfigMapRef) || !has(self.mode) || self.mode == 'VerifyFull'",message="caConfigMapRef is for mode VerifyFull, the only one that looks at certificates"
type TLSSpec struct {
	// Mode is VerifyFull: the server's certificate must be signed by a known authority and name the host; Require: there must be TLS, with any certificate;
	// or Disable. With a caConfigMapRef the default is VerifyFull. Without tls at all, the URL's own parameters hold.
	// +optional
	Mode TLSMode `json:"mode,omitempty"`
	// CAConfigMapRef names the key of a ConfigMap of this namespace that holds the certificates, in PEM, of the authorities to trust. Without it, those that
	// the operator's image knows are: the public ones.
	// +optional
	CAConfigMapRef *ConfigMapKeyRef `json:"caConfigMapRef,omitempty"`
}

// TLSMode is how far a connection is secured.
// +kubebuilder:validation:Enum=Disable;Require;VerifyFull
type TLSMode string

// The modes of TLS.
const (
	TLSDisable    TLSMode = "Disable"
	TLSRequire    TLSMode = "Require"
	TLSVerifyFull TLSMode = "VerifyFull"
)

// ConfigMapKeyRef names one key of a ConfigMap in the same namespace.
type ConfigMapKeyRef struct {
	// Name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
	// Key in the ConfigMap.
	// +optional
	// +kubebuilder:default=ca.crt
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// ConnectionSpec is a connection by URL.
type ConnectionSpec struct {
	// URLSecretRef names the key of a Secret of this namespace that holds the URL, such as postgres://user:password@host:5432/db?sslmode=verify-full.
	// The operator never reads it: the kubelet hands it to the Job.
	// +required
	URLSecretRef SecretKeyRef `json:"urlSecretRef"`
}

// SecretKeyRef names one key of a Secret in the same namespace.
type SecretKeyRef struct {
	// Name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Key in the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key"`
}

// RunnerSpec shapes the Job of an attempt.
type RunnerSpec struct {
	// ActiveDeadlineSeconds is how long the migration may run, in seconds. When it passes, the runner cancels the statement it is at and reports it.
	// There is none by default: cutting a schema change off is worse than waiting for it.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2592000
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`

	// TerminationGracePeriodSeconds is how long the runner has, after its pod was told to end, to get the running statement cancelled and rolled back
	// and to record that, before it is killed.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	TerminationGracePeriodSeconds int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// InfrastructureRetries is how many attempts in a row may fail for want of something outside (registry, database, lock, node) before the
	// object counts as Stalled. Attempts go on after that, five minutes apart, so that mending the cause is enough.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	InfrastructureRetries *int32 `json:"infrastructureRetries,omitempty"`

	// JobHistoryLimit is how many ended Jobs, and with them their pods' logs, are kept.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=20
	JobHistoryLimit *int32 `json:"jobHistoryLimit,omitempty"`

	// Resources of each of the Job's containers.
	// +optional
	// +kubebuilder:default={requests: {cpu: "50m", memory: "64Mi"}, limits: {cpu: "1", memory: "256Mi"}}
	Resources corev1.ResourceRequirements `json:"resources,omitzero"`

	// NodeSelector of the Job's pod.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// Tolerations of the Job's pod.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// Affinity of the Job's pod.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// ServiceAccountName of the Job's pod; its token is not mounted.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServiceAccountName string `json:"serviceAccountName,omitempty"`

	// PriorityClassName of the Job's pod.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// PodLabels are added to the Job's pod. They cannot replace the operator's own, on which network policies may rely.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	PodLabels map[string]string `json:"podLabels,omitempty"`

	// PodAnnotations are added to the Job's pod.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	PodAnnotations map[string]string `json:"podAnnotations,omitempty"`
}

// DBUpgradeStatus says what was observed. Facts that cannot be derived again are latched in it before their evidence goes away.
type DBUpgradeStatus struct {
	// ObservedGeneration is the generation of the spec that the conditions speak of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// Conditions: Accepted, Ready, Progressing, Degraded and Blocked are always present, Stalled while a person must act.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Attempt is the latest try. It is latched before its Job is created and its outcome before its Job is cleaned up.
	// +optional
	Attempt *AttemptStatus `json:"attempt,omitempty"`

	// Revision is the revision that was applied last: a hash of the fields that decide what a migration does.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`

	// Image is the image of the latest attempt, with the digest that was found in the registry.
	// +optional
	// +kubebuilder:validation:MaxLength=1280
	Image string `json:"image,omitempty"`

	// StartedAt is when the migration of the latest attempt started.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// CompletedAt is when the latest attempt ended.
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`

	// Migration is what the latest attempt that ended reported.
	// +optional
	Migration *MigrationStatus `json:"migration,omitempty"`

	// History holds the latest attempts that ended, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	History []HistoryEntry `json:"history,omitempty"`
}

// AttemptPhase is how far an attempt has come.
// +kubebuilder:validation:Enum=New;Pending;Running;Succeeded;Failed;Stuck;Cancelled
type AttemptPhase string

const (
	// AttemptNew: decided on; its Job is missing or suspended.
	AttemptNew AttemptPhase = "New"
	// AttemptPending: its Job is released, the migrate container has not started.
	AttemptPending AttemptPhase = "Pending"
	// AttemptRunning: the migrate container has started.
	AttemptRunning AttemptPhase = "Running"
	// AttemptSucceeded: every pending migration is applied.
	AttemptSucceeded AttemptPhase = "Succeeded"
	// AttemptFailed: it ended without success.
	AttemptFailed AttemptPhase = "Failed"
	// AttemptStuck: its pod could not start, and its Job is removed.
	AttemptStuck AttemptPhase = "Stuck"
	// AttemptCancelled: its Job is removed, before the migration has started, for a new spec or for suspend.
	AttemptCancelled AttemptPhase = "Cancelled"
)

// Ended tells whether the outcome of the attempt is recorded.
func (p AttemptPhase) Ended() bool {
	switch p {
	case AttemptSucceeded, AttemptFailed, AttemptStuck, AttemptCancelled:
		return true
	default:
		return false
	}
}

// AttemptStatus is one numbered try, with one Job.
type AttemptStatus struct {
	// Number of the attempt, counted from 1 over the life of the object.
	// +required
	// +kubebuilder:validation:Minimum=1
	Number int64 `json:"number"`
	// Revision that it applies.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision"`
	// Generation of the spec that it was made from.
	// +required
	Generation int64 `json:"generation"`
	// Retry is the value of the retry annotation when it was made.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Retry string `json:"retry,omitempty"`
	// Resolve is the value of the resolve annotation when it was made.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Resolve string `json:"resolve,omitempty"`
	// Mode is Plan where it only looks, and empty where it applies.
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// Job is the name of its Job.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Job string `json:"job"`
	// JobUID is the UID of its Job, latched before the Job may start; a Job that is missing although its UID is here was deleted by somebody.
	// +optional
	JobUID types.UID `json:"jobUID,omitempty"`
	// Phase that it has reached.
	// +required
	Phase AttemptPhase `json:"phase"`
	// Since is when it reached that phase.
	// +required
	Since metav1.Time `json:"since"`
	// TroubleSince is when what keeps its pod from starting was first told of; empty while nothing does.
	// +optional
	TroubleSince *metav1.Time `json:"troubleSince,omitempty"`
	// Reason of its outcome, as on the Ready condition.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// Message of its outcome, as on the Ready condition.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
	// InfrastructureFailures counts the attempts in a row, up to this one, that ended for want of something outside.
	// +optional
	InfrastructureFailures int32 `json:"infrastructureFailures,omitempty"`
}

// MigrationStatus is what a migration did and found.
type MigrationStatus struct {
	// CurrentVersion is the version of the database at the end.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	CurrentVersion string `json:"currentVersion,omitempty"`
	// TargetVersion is the last version in the directory.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	TargetVersion string `json:"targetVersion,omitempty"`
	// Pending is the number of files not applied at the end.
	// +optional
	Pending int32 `json:"pending"`
	// Total is the number of files in the directory.
	// +optional
	Total int32 `json:"total"`
	// Applied are the files that this attempt applied, oldest first. Where Truncated is set, some from the middle are left out; the pod's log has them all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Applied []AppliedFile `json:"applied,omitempty"`
	// Planned are the files that an attempt with mode Plan found pending, in the order in which they would be applied. Where Truncated is set, some from the
	// middle are left out; the pod's log has them all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Planned []PlannedFile `json:"planned,omitempty"`
	// Findings about the files that were pending, errors first. Where Truncated is set, some are left out; the pod's log has them all.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Findings []Finding `json:"findings,omitempty"`
	// LockRetries is how often a file, statement or run was tried again because a statement could not have a lock in time.
	// +optional
	LockRetries int32 `json:"lockRetries,omitempty"`
	// Failure is what ended the attempt.
	// +optional
	Failure *Failure `json:"failure,omitempty"`
	// DirectoryHash is the hash of the directory: the first line of its atlas.sum.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	DirectoryHash string `json:"directoryHash,omitempty"`
	// DatabaseAhead is set where the database has versions beyond the last one of the directory.
	// +optional
	DatabaseAhead bool `json:"databaseAhead,omitempty"`
	// Truncated is set where lists or texts were cut to fit.
	// +optional
	Truncated bool `json:"truncated,omitempty"`
}

// AppliedFile is one migration file that was applied.
type AppliedFile struct {
	// Version of the file.
	// +required
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version"`
	// Description in the file's name.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Description string `json:"description,omitempty"`
	// Statements executed from it in this attempt.
	// +optional
	Statements int32 `json:"statements"`
	// Duration of its execution.
	// +optional
	Duration metav1.Duration `json:"duration"`
}

// PlannedFile is one migration file that would be applied.
type PlannedFile struct {
	// Version of the file.
	// +required
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version"`
	// Description in the file's name.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Description string `json:"description,omitempty"`
	// Statements that would be executed from it.
	// +optional
	Statements int32 `json:"statements"`
}

// Severity of a finding.
// +kubebuilder:validation:Enum=Error;Warning
type Severity string

// The severities. With lint Enforce, an error keeps the migrations from being applied.
const (
	SeverityError   Severity = "Error"
	SeverityWarning Severity = "Warning"
)

// Finding is something to be said against a migration.
type Finding struct {
	// File concerned.
	// +required
	// +kubebuilder:validation:MaxLength=256
	File string `json:"file"`
	// Line in the file, counted from 1.
	// +optional
	Line int32 `json:"line,omitempty"`
	// Code of the rule; docs/lint.md has them all.
	// +required
	// +kubebuilder:validation:MaxLength=32
	Code string `json:"code"`
	// Severity of it.
	// +required
	Severity Severity `json:"severity"`
	// Message says what was seen and what to do.
	// +required
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message"`
}

// FailureClass says what kind of failure ended an attempt. docs/runner.md lists them with their exit codes.
// +kubebuilder:validation:Enum=StatementFailed;IntegrityFailed;HistoryConflict;InDoubt;DeadlineExceeded;ImageInvalid;Internal;LintFailed;ImagePullFailed;DatabaseUnreachable;LockTimeout;Interrupted
type FailureClass string

const (
	// StatementFailed: the database refused a statement.
	StatementFailed FailureClass = "StatementFailed"
	// IntegrityFailed: the directory and its atlas.sum do not agree, or a file cannot be read as migrations.
	IntegrityFailed FailureClass = "IntegrityFailed"
	// HistoryConflict: what the database says was applied does not go with the directory.
	HistoryConflict FailureClass = "HistoryConflict"
	// InDoubt: a statement outside a transaction was cut off; whether it took effect is not known.
	InDoubt FailureClass = "InDoubt"
	// DeadlineExceeded: spec.runner.activeDeadlineSeconds passed.
	DeadlineExceeded FailureClass = "DeadlineExceeded"
	// ImageInvalid: the image does not hold the directory, or holds what must not be unpacked.
	ImageInvalid FailureClass = "ImageInvalid"
	// Internal: a fault of the runner itself, or wrong usage of it.
	Internal FailureClass = "Internal"
	// LintFailed: spec.migrations.lint is Enforce, and there is a finding that is an error. Nothing was executed.
	LintFailed FailureClass = "LintFailed"
	// ImagePullFailed: the image could not be pulled. Worth another attempt.
	ImagePullFailed FailureClass = "ImagePullFailed"
	// DatabaseUnreachable: no connection, or it was lost. Worth another attempt.
	DatabaseUnreachable FailureClass = "DatabaseUnreachable"
	// LockTimeout: a lock could not be had in time. Worth another attempt.
	LockTimeout FailureClass = "LockTimeout"
	// Interrupted: the runner was told to end, or was killed. Worth another attempt.
	Interrupted FailureClass = "Interrupted"
)

// Failure says what ended an attempt.
type Failure struct {
	// Class of the failure.
	// +required
	Class FailureClass `json:"class"`
	// Version of the migration file concerned.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// File concerned.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	File string `json:"file,omitempty"`
	// Statement is the number of the statement in the file, counted from 1.
	// +optional
	Statement int32 `json:"statement,omitempty"`
	// SQLState is the database's five-character code.
	// +optional
	// +kubebuilder:validation:MaxLength=5
	SQLState string `json:"sqlState,omitempty"`
	// Error in the words of the database, the registry or the runner.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Error string `json:"error,omitempty"`
}

// HistoryEntry is one attempt that ended.
type HistoryEntry struct {
	// Attempt is its number.
	// +required
	Attempt int64 `json:"attempt"`
	// Revision that it applied or tried to.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision"`
	// Image with its digest, where that became known.
	// +optional
	// +kubebuilder:validation:MaxLength=1280
	Image string `json:"image,omitempty"`
	// Result of it: Succeeded, Failed, Stuck or Cancelled.
	// +required
	Result AttemptPhase `json:"result"`
	// Version of the database at its end, where that became known.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// Mode is Plan where it only looked, and empty where it applied.
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// StartedAt is when its migration started; empty where it did not.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// CompletedAt is when it ended.
	// +required
	CompletedAt metav1.Time `json:"completedAt"`
}
