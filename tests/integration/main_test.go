// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package integration proves the controller against a real API server, a real PostgreSQL, a real registry and the real runner. Only what makes pods
// run is played (tests/player). Reconcile is called by hand with a stepped clock, except in manager_test.go, where a real manager does it.
package integration

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/controllers"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
	"github.com/subganapathy/automatic-db-upgrades/tests/postgres"
	"github.com/subganapathy/automatic-db-upgrades/tests/rbac"
	"github.com/subganapathy/automatic-db-upgrades/tests/runner"
)

const (
	operatorNamespace = "dbupgrade-system"
	operatorImage     = "registry.test/operator:test"
)

// world is what all tests of the package share.
var world struct {
	admin    *rest.Config
	operator *rest.Config // the manager's ServiceAccount, with the rights of config/rbac and no others
	client   client.Client
	cache    cache.Cache
	scheme   *runtime.Scheme
	mapper   meta.RESTMapper // shared, so that its discovery is nobody's API call
	postgres *postgres.Server
	runner   string
	log      safeBuffer // the manager's
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	// Tests here wait for the API server most of their time: a consistent list alone takes it up to a tenth of a second. So more of them than there
	// are cores run at once.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		return 1, err
	}
	ctrl.SetLogger(zap.New(zap.WriteTo(&world.log)))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	dir, err := os.MkdirTemp("", "integration")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if world.runner, err = runner.Build(dir); err != nil {
		return 1, err
	}
	if world.postgres, err = postgres.Run(); err != nil {
		return 1, err
	}
	defer func() { _ = world.postgres.Close() }()

	admin, stop, err := controlplane.Start()
	if err != nil {
		return 1, err
	}
	defer func() { _ = stop() }()
	if err := connect(ctx, admin); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func connect(ctx context.Context, admin *rest.Config) error {
	world.scheme = runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(world.scheme))
	utilruntime.Must(v1alpha1.AddToScheme(world.scheme))
	admin.QPS, world.admin = -1, admin
	httpClient, err := rest.HTTPClientFor(admin)
	if err != nil {
		return err
	}
	if world.mapper, err = apiutil.NewDynamicRESTMapper(admin, httpClient); err != nil {
		return err
	}
	if world.client, err = client.New(admin, client.Options{Scheme: world.scheme, Mapper: world.mapper}); err != nil {
		return err
	}
	if err := world.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}); err != nil {
		return err
	}
	subject := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: operatorNamespace, Name: "dbupgrade-controller-manager"}
	if err := rbac.Grant(ctx, world.client, subject); err != nil {
		return err
	}
	world.operator = rest.CopyConfig(admin)
	world.operator.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + subject.Namespace + ":" + subject.Name}

	options := controllers.CacheOptions(operatorNamespace, nil)
	options.Scheme, options.Mapper = world.scheme, world.mapper
	if world.cache, err = cache.New(world.operator, options); err != nil {
		return err
	}
	if err := controllers.IndexFields(ctx, world.cache); err != nil {
		return err
	}
	go func() { _ = world.cache.Start(ctx) }()
	synced, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !world.cache.WaitForCacheSync(synced) {
		return errors.New("the cache does not sync: does config/rbac lack a right?")
	}
	return nil
}
