// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package builders makes objects with sane defaults, so that a test states only what it is about.
package builders

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// Option changes what a builder makes.
type Option func(*v1alpha1.DBUpgrade)

// DBUpgrade makes team/app of image registry.test/app:v1, as the API server would store it.
func DBUpgrade(options ...Option) *v1alpha1.DBUpgrade {
	obj := &v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "app", UID: "11111111-2222-3333-4444-555555555555", Generation: 1},
		Spec: v1alpha1.DBUpgradeSpec{
			Migrations: v1alpha1.MigrationsSpec{Image: "registry.test/app:v1", Dir: "/migrations"},
			Database: v1alpha1.DatabaseSpec{
				Type:       v1alpha1.DatabaseSelfHosted,
				Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: "db", Key: "url"}},
			},
			Runner: v1alpha1.RunnerSpec{
				TerminationGracePeriodSeconds: 300, InfrastructureRetries: ptr.To[int32](3), JobHistoryLimit: ptr.To[int32](3),
				Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("64Mi")},
					Limits:   corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("256Mi")},
				},
			},
		},
	}
	for _, option := range options {
		option(obj)
	}
	return obj
}

// Named sets namespace and name, and forgets what the API server would have added.
func Named(namespace, name string) Option {
	return func(o *v1alpha1.DBUpgrade) {
		o.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
}

// Image sets the image of the migrations.
func Image(image string) Option {
	return func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Image = image }
}

// URLSecret sets the Secret of the database URL, with key url.
func URLSecret(name string) Option {
	return func(o *v1alpha1.DBUpgrade) {
		o.Spec.Database.Connection.URLSecretRef = v1alpha1.SecretKeyRef{Name: name, Key: "url"}
	}
}
