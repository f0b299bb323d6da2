//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// moment is something that becomes true of an object once.
type moment string

const (
	ready    moment = "Ready"          // of a DBUpgrade
	settled  moment = "settled"        // of a DBUpgrade: Ready, with nothing left to clean up
	ended    moment = "ended"          // of a Job: its migration has terminated, as its pod says
	complete moment = "Job condition"  // of a Job
	patience        = 20 * time.Minute // far more than anything takes
)

// witness watches a namespace and notes when it saw each moment of each object.
type witness struct {
	ctx  context.Context // ends with the watch, or with what makes it pointless to go on
	fail context.CancelCauseFunc

	mu     sync.Mutex
	sights map[sight]*sighting
}

type sight struct {
	uid  types.UID
	what moment
}

type sighting struct {
	at   time.Time
	done chan struct{}
}

// watch starts a witness, which stops with the returned function.
func watch(b *testing.B, s *stage.Stage, namespace string) (*witness, func()) {
	b.Helper()
	w := &witness{sights: map[sight]*sighting{}}
	w.ctx, w.fail = context.WithCancelCause(b.Context())
	all, err := cache.New(s.Config, cache.Options{Scheme: s.Client.Scheme(), DefaultNamespaces: map[string]cache.Config{namespace: {}}})
	must(b, err)
	handler := toolscache.ResourceEventHandlerFuncs{AddFunc: w.look, UpdateFunc: func(_, o any) { w.look(o) }}
	for _, kind := range []client.Object{&v1alpha1.DBUpgrade{}, &batchv1.Job{}, &corev1.Pod{}} {
		informer, err := all.GetInformer(w.ctx, kind, cache.BlockUntilSynced(false))
		must(b, err)
		_, err = informer.AddEventHandler(handler)
		must(b, err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := all.Start(w.ctx); err != nil {
			w.fail(fmt.Errorf("watch the cluster: %w", err))
		}
	})
	if !all.WaitForCacheSync(w.ctx) {
		b.Fatal(context.Cause(w.ctx))
	}
	return w, func() {
		w.fail(nil)
		running.Wait()
	}
}

func (w *witness) look(o any) {
	switch o := o.(type) {
	case *v1alpha1.DBUpgrade:
		w.lookAtUpgrade(o)
	case *batchv1.Job:
		w.lookAtJob(o)
	case *corev1.Pod:
		if job := metav1.GetControllerOf(o); job != nil && terminated(o) {
			w.saw(job.UID, ended)
		}
	}
}

func (w *witness) lookAtUpgrade(o *v1alpha1.DBUpgrade) {
	conditions := o.Status.Conditions
	if meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled) {
		w.fail(fmt.Errorf("DBUpgrade %s is stalled: %+v", o.Name, conditions))
	}
	if !meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReady) {
		return
	}
	w.saw(o.UID, ready)
	if len(o.Finalizers) == 0 {
		w.saw(o.UID, settled)
	}
}

func (w *witness) lookAtJob(o *batchv1.Job) {
	for _, c := range o.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			w.saw(o.UID, complete)
		case c.Type == batchv1.JobFailed:
			w.fail(fmt.Errorf("Job %s failed: %s: %s", o.Name, c.Reason, c.Message))
		}
	}
}

func terminated(pod *corev1.Pod) bool {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == upgrade.MigrateContainer {
			return s.State.Terminated != nil
		}
	}
	return false
}

// saw notes a moment the first time.
func (w *witness) saw(uid types.UID, what moment) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sighting(uid, what)
	if s.at.IsZero() {
		s.at = now
		close(s.done)
	}
}

// sighting is made by who looks for it or by who sees it, whichever comes first. The lock must be held.
func (w *witness) sighting(uid types.UID, what moment) *sighting {
	key := sight{uid, what}
	if w.sights[key] == nil {
		w.sights[key] = &sighting{done: make(chan struct{})}
	}
	return w.sights[key]
}

// wait waits for a moment and returns when it was seen.
func (w *witness) wait(b *testing.B, uid types.UID, what moment) time.Time {
	b.Helper()
	w.mu.Lock()
	s := w.sighting(uid, what)
	w.mu.Unlock()
	select {
	case <-s.done:
		return s.at
	case <-w.ctx.Done():
		b.Fatal(context.Cause(w.ctx))
	case <-time.After(patience):
		b.Fatalf("%s was never %s", uid, what)
	}
	return time.Time{}
}

// last waits for a moment of all objects and returns when the last had it.
func (w *witness) last(b *testing.B, uids []types.UID, what moment) time.Time {
	b.Helper()
	var last time.Time
	for _, uid := range uids {
		if at := w.wait(b, uid, what); at.After(last) {
			last = at
		}
	}
	return last
}
