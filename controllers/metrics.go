// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// scrapeTimeout bounds the read of the cache for one scrape.
const scrapeTimeout = 5 * time.Second

var (
	upDesc = prometheus.NewDesc("dbupgrade_operator_up",
		"1 on the replica of the operator that reconciles DBUpgrades.", nil, nil)
	conditionDesc = prometheus.NewDesc("dbupgrade_status_condition",
		"Conditions of each DBUpgrade, a series for each possible status: 1 for the present one, 0 for the others.",
		[]string{"namespace", "name", "condition", "status"}, nil)
	inProgressDesc = prometheus.NewDesc("dbupgrade_migrations_in_progress",
		"Number of DBUpgrades whose migration is running. Plans are none.", nil, nil)
)

// conditionStatuses are the values of the label status, as kube-state-metrics has them for its conditions.
var conditionStatuses = []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown}

// Metrics are those of the operator itself: what the objects are like is read from the cache at each scrape, so that no series outlives
// its object; what happened is counted by the reconciler. It is a prometheus.Collector, to be registered where the controllers run.
type Metrics struct {
	reader      client.Reader
	migrations  *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	lockWait    prometheus.Histogram
	scrapeFails prometheus.Counter
}

var _ prometheus.Collector = &Metrics{}

// NewMetrics makes the metrics over a reader of the cache.
func NewMetrics(reader client.Reader) *Metrics {
	return &Metrics{
		reader: reader,
		migrations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dbupgrade_migrations_total",
			Help: "Attempts whose Job ended, by mode (Apply, Plan), result (Succeeded, Failed) and, of failed ones, class of failure.",
		}, []string{"mode", "result", "class"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dbupgrade_migration_duration_seconds",
			Help: "Time that the migrations of an attempt ran, in seconds, by mode and result; attempts that never started to migrate are left out.",
			// Most take less than a second; those that rewrite a table take hours.
			Buckets: []float64{0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 3 * 3600, 12 * 3600},
		}, []string{"mode", "result"}),
		lockWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "dbupgrade_lock_wait_seconds",
			Help:    "Time from the creation of an attempt's Job until it had the lock of its database and was let go, in seconds.",
			Buckets: []float64{0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600},
		}),
		scrapeFails: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dbupgrade_status_scrape_failures_total",
			Help: "Scrapes for which the DBUpgrades could not be listed, and whose answer lacks dbupgrade_status_condition therefore.",
		}),
	}
}

// AttemptEnded counts an attempt: its result is the phase that it ended in, its class that of its failure, empty where there is none.
// Its migration ran for so many seconds; a negative number says that it never started.
func (m *Metrics) AttemptEnded(mode v1alpha1.Mode, result, class string, seconds float64) {
	m.migrations.WithLabelValues(string(mode), result, class).Inc()
	if seconds >= 0 {
		m.duration.WithLabelValues(string(mode), result).Observe(seconds)
	}
}

// LockWaited records how many seconds an attempt waited for the lock of its database.
func (m *Metrics) LockWaited(seconds float64) {
	m.lockWait.Observe(seconds)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- upDesc
	ch <- conditionDesc
	ch <- inProgressDesc
	for _, c := range m.recorded() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector. Objects that cannot be listed cost their own series, not the whole scrape.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, 1)
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	var list v1alpha1.DBUpgradeList
	if err := m.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		m.scrapeFails.Inc()
		ctrl.Log.WithName("metrics").Error(err, "Listing DBUpgrades for metrics failed")
	} else {
		collectStatus(ch, list.Items)
	}
	for _, c := range m.recorded() {
		c.Collect(ch)
	}
}

func (m *Metrics) recorded() []prometheus.Collector {
	return []prometheus.Collector{m.migrations, m.duration, m.lockWait, m.scrapeFails}
}

func collectStatus(ch chan<- prometheus.Metric, objects []v1alpha1.DBUpgrade) {
	running := 0
	for i := range objects {
		obj := &objects[i]
		if attempt := obj.Status.Attempt; attempt != nil && attempt.Phase == v1alpha1.AttemptRunning && attempt.Mode != v1alpha1.ModePlan {
			running++
		}
		for _, condition := range obj.Status.Conditions {
			for _, status := range conditionStatuses {
				value := 0.0
				if condition.Status == status {
					value = 1
				}
				ch <- prometheus.MustNewConstMetric(conditionDesc, prometheus.GaugeValue, value,
					obj.Namespace, obj.Name, condition.Type, strings.ToLower(string(status)))
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(inProgressDesc, prometheus.GaugeValue, float64(running))
}
