// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package upgrade is the pure core of the operator: what to do about one DBUpgrade, given everything that was seen of it.
//
// Decide is a function of one Observation, without client, clock, logger or environment; docs/architecture.md holds its table, one row a
// state, and decide.go the same rows in the same order. An attempt is one numbered try with one Job. Of a Job, ReadJob says how far it is:
//
//	new       suspended; the operator made it and has not let it go
//	pending   released, the migrate container has not started
//	running   the migrate container has started
//	done      its outcome is known, from the termination of migrate or, where the pod is gone, from the Job's condition
//
// Three latches in status carry what could not be found out again: an attempt is written before its Job is created, the Job's UID before the
// Job is released, and the outcome before anything that shows it is removed. A crash between any two API calls therefore leads back here
// with enough to go on, and never to a second run of something that was applied.
package upgrade
