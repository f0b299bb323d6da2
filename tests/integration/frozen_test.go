// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// frozen is a client whose reads show the past, as a cache does that has lost its watch. Its writes are real.
type frozen struct {
	client.Client
	object *v1alpha1.DBUpgrade
	jobs   []batchv1.Job
}

func (f *frozen) freeze(object *v1alpha1.DBUpgrade, jobs []batchv1.Job) {
	f.object, f.jobs = object, jobs
}

func (f *frozen) Get(_ context.Context, _ client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	f.object.DeepCopyInto(obj.(*v1alpha1.DBUpgrade))
	return nil
}

func (f *frozen) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if jobs, ok := list.(*batchv1.JobList); ok {
		jobs.Items = f.jobs
	}
	return nil
}

func container(name string) corev1.Container {
	return corev1.Container{Name: name, Image: operatorImage}
}
