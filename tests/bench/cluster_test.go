// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package bench measures the manager against a real API server. Only what makes pods run is played, by a kubelet that takes no time, so that
// what is measured is the manager and the API server and not a node. docs/benchmarks.md says how to read the numbers.
package bench

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
	"github.com/subganapathy/automatic-db-upgrades/tests/rbac"
)

const (
	operatorNamespace = "dbupgrade-system"
	operatorImage     = "registry.test/operator:test"
	// creators is how many clients create objects at the same time.
	creators = 16
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr), zap.Level(zapcore.ErrorLevel)))
	os.Exit(m.Run())
}

// cluster is an API server of one benchmark alone, so that none pays for what another left behind.
type cluster struct {
	ctx       context.Context // ends with the benchmark, or with what makes it pointless to go on
	fail      context.CancelCauseFunc
	scheme    *runtime.Scheme
	admin     *rest.Config
	operator  *rest.Config // the manager's ServiceAccount: unlike an administrator's, its requests take their turn in the API server
	client    client.Client
	namespace string
}

func startCluster(b *testing.B) *cluster {
	b.Helper()
	admin, stop, err := controlplane.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := stop(); err != nil {
			b.Error(err)
		}
	})
	c := &cluster{scheme: runtime.NewScheme(), admin: admin}
	c.ctx, c.fail = context.WithCancelCause(b.Context())
	b.Cleanup(func() { c.fail(nil) })
	utilruntime.Must(clientgoscheme.AddToScheme(c.scheme))
	utilruntime.Must(v1alpha1.AddToScheme(c.scheme))
	admin.QPS = -1
	c.client, err = client.New(admin, client.Options{Scheme: c.scheme})
	must(b, err)
	must(b, c.client.Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}))
	subject := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: operatorNamespace, Name: "dbupgrade-controller-manager"}
	must(b, rbac.Grant(b.Context(), c.client, subject))
	c.operator = rest.CopyConfig(admin)
	c.operator.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + subject.Namespace + ":" + subject.Name}
	c.namespace = controlplane.Namespace(b, c.client)
	return c
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// upgrade makes a DBUpgrade with a database of its own.
func (c *cluster) upgrade(name string) client.Object {
	return builders.DBUpgrade(builders.Named(c.namespace, name), builders.URLSecret(name))
}

// bareJob makes what a person without the operator would create in place of a DBUpgrade: its Job, not suspended, and not labelled as the
// operator's, so that the manager does not see it.
func (c *cluster) bareJob(name string) client.Object {
	obj := c.upgrade(name).(*v1alpha1.DBUpgrade)
	obj.Status.Attempt = &v1alpha1.AttemptStatus{Number: 1, Generation: 1, Job: name}
	job := upgrade.BuildJob(obj, upgrade.RunnerConfig{Image: operatorImage})
	job.Spec.Suspend = nil
	for _, labels := range []map[string]string{job.Labels, job.Spec.Template.Labels} {
		delete(labels, upgrade.LabelManagedBy)
		delete(labels, upgrade.LabelOwner)
	}
	return job
}

func ready(o client.Object) bool {
	return meta.IsStatusConditionTrue(o.(*v1alpha1.DBUpgrade).Status.Conditions, v1alpha1.ConditionReady)
}

// settled is Ready with nothing left to clean up.
func settled(o client.Object) bool { return ready(o) && len(o.GetFinalizers()) == 0 }

func complete(o client.Object) bool { return upgrade.Ended(o.(*batchv1.Job)) }

// create creates these objects at once.
func (c *cluster) create(b *testing.B, names []string, object func(name string) client.Object) {
	b.Helper()
	next, errs := make(chan string), make(chan error, len(names))
	var workers sync.WaitGroup
	for range creators {
		workers.Go(func() {
			for name := range next {
				if err := c.client.Create(b.Context(), object(name)); err != nil {
					errs <- err
				}
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	workers.Wait()
	select {
	case err := <-errs:
		b.Fatal(err)
	default:
	}
}

// stage is where a fleet is played: what the cluster does by itself, and somebody who watches.
type stage struct {
	*cluster
	cache cache.Cache
}

// play starts the kubelet, until the returned function is called.
func (c *cluster) play(b *testing.B) (*stage, func()) {
	b.Helper()
	all, err := cache.New(c.admin, cache.Options{Scheme: c.scheme})
	must(b, err)
	s := &stage{cluster: c, cache: all}
	s.handle(b, &batchv1.Job{}, newKubelet(c).see)
	ctx, cancel := context.WithCancel(c.ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := all.Start(ctx); err != nil {
			c.fail(fmt.Errorf("watch the cluster: %w", err))
		}
	}()
	return s, func() {
		cancel()
		<-stopped
	}
}

// handle calls a function for each object of a kind that there is, and after each change, one call at a time, until the returned function is called.
func (s *stage) handle(b *testing.B, kind client.Object, see func(client.Object)) func() {
	b.Helper()
	informer, err := s.cache.GetInformer(s.ctx, kind, cache.BlockUntilSynced(false))
	must(b, err)
	handle, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { see(o.(client.Object)) },
		UpdateFunc: func(_, o any) { see(o.(client.Object)) },
	})
	must(b, err)
	return func() { must(b, informer.RemoveEventHandler(handle)) }
}

// await returns a function that waits until all these objects have become done and returns when that was.
func (s *stage) await(b *testing.B, names []string, kind client.Object, done func(client.Object) bool) func() time.Time {
	b.Helper()
	missing, end := map[string]bool{}, make(chan time.Time, 1)
	for _, name := range names {
		missing[name] = true
	}
	forget := s.handle(b, kind, func(o client.Object) {
		if !missing[o.GetName()] || !done(o) {
			return
		}
		delete(missing, o.GetName())
		if len(missing) == 0 {
			end <- time.Now()
		}
	})
	return func() time.Time {
		b.Helper()
		defer forget()
		select {
		case at := <-end:
			return at
		case <-s.ctx.Done():
			b.Fatal(context.Cause(s.ctx))
			return time.Time{}
		}
	}
}

// upgrades creates DBUpgrades at once and returns how long it took until all were Ready, and until all were settled.
func (s *stage) upgrades(b *testing.B, names []string) (time.Duration, time.Duration) {
	b.Helper()
	allReady := s.await(b, names, &v1alpha1.DBUpgrade{}, ready)
	allSettled := s.await(b, names, &v1alpha1.DBUpgrade{}, settled)
	start := time.Now()
	s.create(b, names, s.upgrade)
	return allReady().Sub(start), allSettled().Sub(start)
}

// bareJobs creates Jobs at once and returns how long it took until all were Complete.
func (s *stage) bareJobs(b *testing.B, names []string) time.Duration {
	b.Helper()
	allComplete := s.await(b, names, &batchv1.Job{}, complete)
	start := time.Now()
	s.create(b, names, s.bareJob)
	return allComplete().Sub(start)
}

// fleet names n objects.
func fleet(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return names
}
