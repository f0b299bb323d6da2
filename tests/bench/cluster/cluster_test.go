//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster measures the operator on a real cluster: how long one migration takes on a real node, and what a fleet of them costs where only the
// nodes are fake. docs/benchmarks.md says how to read the numbers.
package cluster

import (
	"os"
	"testing"

	"go.uber.org/zap/zapcore"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr), zap.Level(zapcore.ErrorLevel)))
	os.Exit(m.Run())
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// bareJob is what a person without the operator would create: a Job of the same pod as one of the operator's, not suspended, and without the
// label by which the manager knows its own.
func bareJob(operators *batchv1.Job, namespace, name string) *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: *operators.Spec.DeepCopy()}
	job.Spec.Suspend, job.Spec.Selector = nil, nil
	for _, label := range []string{
		upgrade.LabelOwner, batchv1.ControllerUidLabel, batchv1.JobNameLabel, "controller-uid", "job-name", // the API server adds the others anew
	} {
		delete(job.Spec.Template.Labels, label)
	}
	return job
}
