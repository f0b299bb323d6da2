// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package controllers carries the decisions of internal/upgrade out on a cluster.
package controllers

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
)

// DBUpgradeReconciler carries a DBUpgrade from one state to the next.
type DBUpgradeReconciler struct {
	// Client reads from the cache and writes to the API server.
	client.Client
	// Live reads from the API server, where a stale answer could do harm.
	Live     client.Reader
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Namespace of the operator, where the locks are.
	Namespace string
	Runner    upgrade.RunnerConfig
	// Workers is how many objects are reconciled at the same time.
	Workers int
	Metrics *Metrics
}

const (
	// reconcileTimeout bounds all calls of one reconcile together, so that a hung API server holds no worker for ever.
	reconcileTimeout = time.Minute
	// staleRetry is the wait before another look when this one turned out to be outdated.
	staleRetry = 250 * time.Millisecond
)

// errStale says that what was seen is no longer so. Nothing is wrong: the next look sees more.
var errStale = errors.New("the cluster has moved on since it was observed")

// +kubebuilder:rbac:groups=dbupgrade.subbug.learning,resources=dbupgrades,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=dbupgrade.subbug.learning,resources=dbupgrades/status,verbs=patch
// +kubebuilder:rbac:groups=dbupgrade.subbug.learning,resources=dbupgrades/finalizers,verbs=update
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,namespace=dbupgrade-system,verbs=get;list;watch;create;update;delete

// Reconcile observes, decides, acts and reports. What to do is decided in one place only, upgrade.Decide.
func (r *DBUpgradeReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	seen, err := r.observe(ctx, req.NamespacedName)
	if err != nil || seen.DBUpgrade == nil {
		return finish(0, err)
	}
	decision := upgrade.Decide(seen)
	ctrl.LoggerFrom(ctx).V(1).Info("Decided", "row", decision.Row, "actions", len(decision.Do), "wait", decision.Wait.String())

	obstacle, err := r.act(ctx, seen.DBUpgrade, decision.Do)
	if obstacle != nil {
		decision = decision.Obstructed(*obstacle, seen.DBUpgrade, seen.Now)
	}
	if err == nil {
		err = r.report(ctx, seen.DBUpgrade, decision)
	}
	return finish(decision.Wait, err)
}

// finish keeps quiet about a look that was outdated. Everything else is an error, and tried again with backoff.
func finish(wait time.Duration, err error) (ctrl.Result, error) {
	if errors.Is(err, errStale) || apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: staleRetry}, nil
	}
	return ctrl.Result{RequeueAfter: wait}, err
}

// staleIfGone makes a stale look of one whose object is no longer there.
func staleIfGone(err error) error {
	if apierrors.IsNotFound(err) {
		return errStale
	}
	return err
}
