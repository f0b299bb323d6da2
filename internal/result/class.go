// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package result

import "github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"

// Class is one kind of failure: how the runner exits with it, and what the manager makes of it.
type Class struct {
	Name v1alpha1.FailureClass
	// ExitCode of the runner. 1 and 2 are left to the Go runtime and to wrong usage.
	ExitCode int32
	// Retryable failures come from outside; the same attempt may succeed later.
	Retryable bool
	// Reason on the Ready condition.
	Reason string
}

// Classes are all kinds of failure, those that need a person first.
func Classes() []Class {
	return []Class{
		{v1alpha1.StatementFailed, 10, false, v1alpha1.ReasonJobFailed},
		{v1alpha1.IntegrityFailed, 11, false, v1alpha1.ReasonJobFailed},
		{v1alpha1.HistoryConflict, 12, false, v1alpha1.ReasonJobFailed},
		{v1alpha1.InDoubt, 13, false, v1alpha1.ReasonInDoubt},
		{v1alpha1.DeadlineExceeded, 14, false, v1alpha1.ReasonDeadlineExceeded},
		{v1alpha1.ImageInvalid, 15, false, v1alpha1.ReasonJobFailed},
		{v1alpha1.Internal, 16, false, v1alpha1.ReasonJobFailed},
		{v1alpha1.LintFailed, 17, false, v1alpha1.ReasonLintFailed},
		{v1alpha1.ImagePullFailed, 30, true, v1alpha1.ReasonImagePullFailed},
		{v1alpha1.DatabaseUnreachable, 31, true, v1alpha1.ReasonDatabaseUnreachable},
		{v1alpha1.LockTimeout, 32, true, v1alpha1.ReasonWaitingForLock},
		{v1alpha1.Interrupted, 33, true, v1alpha1.ReasonInterrupted},
	}
}

// ClassOf looks a class up by name; an unknown one counts as Internal.
func ClassOf(name v1alpha1.FailureClass) Class {
	if c, ok := byClass(name); ok {
		return c
	}
	c, _ := byClass(v1alpha1.Internal)
	return c
}

// ClassOfExit says what an exit code means where the runner left no result: its own codes as documented, 1 and 2 a fault
// of the runner (Go's panic is 2), anything else a kill from outside (137 is SIGKILL, also for want of memory).
func ClassOfExit(code int32) Class {
	for _, c := range Classes() {
		if c.ExitCode == code {
			return c
		}
	}
	if code == 1 || code == 2 {
		return ClassOf(v1alpha1.Internal)
	}
	return ClassOf(v1alpha1.Interrupted)
}

func byClass(name v1alpha1.FailureClass) (Class, bool) {
	for _, c := range Classes() {
		if c.Name == name {
			return c, true
		}
	}
	return Class{}, false
}
