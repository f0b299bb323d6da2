// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// objects is a reader of just these.
type objects []v1alpha1.DBUpgrade

func (o objects) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	if o == nil {
		return errors.New("no cache")
	}
	list.(*v1alpha1.DBUpgradeList).Items = o
	return nil
}

func (objects) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("metrics list, they do not get")
}

func upgradeIn(phase v1alpha1.AttemptPhase, conditions ...metav1.Condition) v1alpha1.DBUpgrade {
	return v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders"},
		Status:     v1alpha1.DBUpgradeStatus{Conditions: conditions, Attempt: &v1alpha1.AttemptStatus{Phase: phase}},
	}
}

func TestMetricsOfObjects(t *testing.T) {
	running := upgradeIn(v1alpha1.AttemptRunning, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse})
	ended := upgradeIn(v1alpha1.AttemptFailed)
	fresh := v1alpha1.DBUpgrade{}
	want := `
# HELP dbupgrade_migrations_in_progress Number of DBUpgrades whose migration is running. Plans are none.
# TYPE dbupgrade_migrations_in_progress gauge
dbupgrade_migrations_in_progress 1
# HELP dbupgrade_operator_up 1 on the replica of the operator that reconciles DBUpgrades.
# TYPE dbupgrade_operator_up gauge
dbupgrade_operator_up 1
# HELP dbupgrade_status_condition Conditions of each DBUpgrade, a series for each possible status: 1 for the present one, 0 for the others.
# TYPE dbupgrade_status_condition gauge
dbupgrade_status_condition{condition="Ready",name="orders",namespace="shop",status="false"} 1
dbupgrade_status_condition{condition="Ready",name="orders",namespace="shop",status="true"} 0
dbupgrade_status_condition{condition="Ready",name="orders",namespace="shop",status="unknown"} 0
`
	err := testutil.CollectAndCompare(NewMetrics(objects{running, ended, fresh}), strings.NewReader(want),
		"dbupgrade_migrations_in_progress", "dbupgrade_operator_up", "dbupgrade_status_condition")
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsWithoutObjects(t *testing.T) {
	want := `
# HELP dbupgrade_operator_up 1 on the replica of the operator that reconciles DBUpgrades.
# TYPE dbupgrade_operator_up gauge
dbupgrade_operator_up 1
# HELP dbupgrade_status_scrape_failures_total Scrapes for which the DBUpgrades could not be listed, and whose answer lacks dbupgrade_status_condition therefore.
# TYPE dbupgrade_status_scrape_failures_total counter
dbupgrade_status_scrape_failures_total 1
`
	err := testutil.CollectAndCompare(NewMetrics(objects(nil)), strings.NewReader(want),
		"dbupgrade_migrations_in_progress", "dbupgrade_operator_up", "dbupgrade_status_condition", "dbupgrade_status_scrape_failures_total")
	if err != nil {
		t.Error(err)
	}
}

func TestMetricsRecorded(t *testing.T) {
	m := NewMetrics(objects{})
	m.AttemptEnded(v1alpha1.ModeApply, "Succeeded", "", 0)
	m.AttemptEnded(v1alpha1.ModePlan, "Failed", "ImagePullFailed", -1)
	m.LockWaited(0.2)
	if got := testutil.ToFloat64(m.migrations.WithLabelValues("Plan", "Failed", "ImagePullFailed")); got != 1 {
		t.Errorf("failed attempts = %v, want 1", got)
	}
	if got := testutil.CollectAndCount(m.duration); got != 1 {
		t.Errorf("results with a duration = %d, want 1: a migration that never started has none", got)
	}
	want := `
# HELP dbupgrade_lock_wait_seconds Time from the creation of an attempt's Job until it had the lock of its database and was let go, in seconds.
# TYPE dbupgrade_lock_wait_seconds histogram
dbupgrade_lock_wait_seconds_bucket{le="0.1"} 0
dbupgrade_lock_wait_seconds_bucket{le="0.3"} 1
dbupgrade_lock_wait_seconds_bucket{le="1"} 1
dbupgrade_lock_wait_seconds_bucket{le="3"} 1
dbupgrade_lock_wait_seconds_bucket{le="10"} 1
dbupgrade_lock_wait_seconds_bucket{le="30"} 1
dbupgrade_lock_wait_seconds_bucket{le="60"} 1
dbupgrade_lock_wait_seconds_bucket{le="180"} 1
dbupgrade_lock_wait_seconds_bucket{le="600"} 1
dbupgrade_lock_wait_seconds_bucket{le="1800"} 1
dbupgrade_lock_wait_seconds_bucket{le="3600"} 1
dbupgrade_lock_wait_seconds_bucket{le="+Inf"} 1
dbupgrade_lock_wait_seconds_sum 0.2
dbupgrade_lock_wait_seconds_count 1
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), "dbupgrade_lock_wait_seconds"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
