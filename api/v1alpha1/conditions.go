// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types. The first five are always present; Stalled is there, and True, exactly while a person must act.
const (
	// ConditionAccepted is False only while the spec cannot be worked with (reason InvalidSpec).
	ConditionAccepted = "Accepted"
	// ConditionReady is True once the migrations of the present revision are applied. Its reason tells the whole state.
	ConditionReady = "Ready"
	// ConditionProgressing is True while the operator is working towards Ready and needs nobody.
	ConditionProgressing = "Progressing"
	// ConditionDegraded is True when an attempt ended in a way that leaves the database behind its image until a person acts.
	ConditionDegraded = "Degraded"
	// ConditionBlocked is True while something outside the operator keeps the upgrade from starting.
	ConditionBlocked = "Blocked"
	// ConditionStalled follows kstatus: present and True where a person must act.
	ConditionStalled = "Stalled"
)

// Reasons of ConditionReady. The other conditions carry the same reason at the same time.
const (
	// ReasonInitializing: the next attempt is being set up.
	ReasonInitializing = "Initializing"
	// ReasonWaitingForLock: somebody else is changing the same database, or a lock inside it could not be had in time.
	ReasonWaitingForLock = "WaitingForLock"
	// ReasonJobPending: the attempt's Job is released, its migrate container has not started.
	ReasonJobPending = "JobPending"
	// ReasonMigrationInProgress: the migrate container is running.
	ReasonMigrationInProgress = "MigrationInProgress"
	// ReasonMigrationComplete: the revision is applied.
	ReasonMigrationComplete = "MigrationComplete"
	// ReasonJobFailed: the attempt failed and trying again as it stands would fail again.
	ReasonJobFailed = "JobFailed"
	// ReasonInDoubt: a statement outside a transaction was cut off; whether it took effect is not known.
	ReasonInDoubt = "InDoubt"
	// ReasonDeadlineExceeded: spec.runner.activeDeadlineSeconds passed.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonLintFailed: spec.migrations.lint is Enforce, and there is something to be said against the pending migrations.
	ReasonLintFailed = "LintFailed"
	// ReasonPlanComplete: spec.mode is Plan, and status.migration tells what would be applied.
	ReasonPlanComplete = "PlanComplete"
	// ReasonSecretNotFound: the Secret of the database URL, or its key, is missing.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonImagePullFailed: an image could not be pulled.
	ReasonImagePullFailed = "ImagePullFailed"
	// ReasonDatabaseUnreachable: the database could not be reached or refused the login.
	ReasonDatabaseUnreachable = "DatabaseUnreachable"
	// ReasonInterrupted: the attempt was ended from outside before it had finished.
	ReasonInterrupted = "Interrupted"
	// ReasonPodNotCreated: the Job or its pod is refused (quota, pod security, admission), or the pod cannot be set up.
	ReasonPodNotCreated = "PodNotCreated"
	// ReasonUnschedulable: no node takes the pod.
	ReasonUnschedulable = "Unschedulable"
	// ReasonSuspended: spec.suspend is set.
	ReasonSuspended = "Suspended"
	// ReasonDeleting: the object is being deleted and waits for its running migration.
	ReasonDeleting = "Deleting"
	// ReasonInvalidSpec: the spec cannot be worked with; only when admission could not refuse it.
	ReasonInvalidSpec = "InvalidSpec"
)

// Reasons of the events that mark start and end of an attempt, besides one event per change of Ready's reason.
const (
	EventMigrationStarted   = "MigrationStarted"
	EventMigrationSucceeded = "MigrationSucceeded"
	EventMigrationFailed    = "MigrationFailed"
)

// Reasons of the same events where the attempt has mode Plan.
const (
	EventPlanStarted   = "PlanStarted"
	EventPlanSucceeded = "PlanSucceeded"
	EventPlanFailed    = "PlanFailed"
)

// AnnotationRetry asks for a new attempt after a failure, or for a new plan after a plan: any new value starts one. It does nothing on a Ready object.
const AnnotationRetry = "dbupgrade.subbug.learning/retry"

// AnnotationResolve says what became of the statement that an attempt ended InDoubt about, by the ID that status tells: "redo:<ID>" has it executed again,
// "skip:<ID>" has it taken for executed. Either starts a new attempt; with an ID that is not the database's present one it changes nothing.
const AnnotationResolve = "dbupgrade.subbug.learning/resolve"

// Finalizer is on an object from before its attempt starts until nothing of that attempt is left to wait for.
const Finalizer = "dbupgrade.subbug.learning/unfinished-attempt"
