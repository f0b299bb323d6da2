// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// attempted gives an object attempt 1 in a phase, reached at second 0, with Job job-1.
func attempted(phase v1alpha1.AttemptPhase) func(*v1alpha1.DBUpgrade) {
	return func(o *v1alpha1.DBUpgrade) {
		o.Finalizers = []string{v1alpha1.Finalizer}
		o.Status.Attempt = &v1alpha1.AttemptStatus{
			Number: 1, Revision: upgrade.Revision(&o.Spec), Generation: o.Generation, Job: upgrade.JobName(o, 1), JobUID: "job-1", Phase: phase, Since: at(0),
		}
	}
}
