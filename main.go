// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// The manager reconciles DBUpgrades and answers admission requests for them. This package is the only reader of flags and environment.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // roots for an image that has none; those of the system win
	"k8s.io/apimachinery/pkg/runtime"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/controllers"
	"github.com/subganapathy/automatic-db-upgrades/webhooks"
)

// version is set by the linker.
var version = "unknown"

const (
	// leaderLock is the name of the Lease of the replica that works.
	leaderLock = "dbupgrade-controller-manager.subbug.learning"
	// shutdownTimeout is how long reconciles and requests at hand may take to end. The Deployment's grace period is longer.
	shutdownTimeout = 30 * time.Second
	// cacheCheckTimeout is how long a readiness probe waits for the caches, less than the probe itself waits for its answer.
	cacheCheckTimeout = time.Second
)

func main() {
	o, err := parse(os.Args[1:], os.Getenv, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v\nRun with --help for all flags.\n", err)
		os.Exit(2)
	}
	if o.showVersion {
		fmt.Println(version)
		return
	}
	log := zap.New(zap.UseFlagOptions(&o.log))
	ctrl.SetLogger(log)
	klog.SetLogger(log)

	config, err := ctrl.GetConfig()
	if err == nil {
		err = run(ctrl.SetupSignalHandler(), config, o)
	}
	if err != nil {
		log.Error(err, "The manager failed")
		os.Exit(1)
	}
}

// run starts the manager and returns when the context has ended and everything is put down, or with what went wrong.
func run(ctx context.Context, config *rest.Config, o options) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "dbupgrade-operator/" + version
	// No limit on this side: the API server's priority and fairness knows better, and twenty requests a second hold up a fleet for minutes.
	config.QPS = -1

	kubernetes, err := kubernetesVersion(config)
	if err != nil {
		return fmt.Errorf("ask the API server for its version: %w", err)
	}
	o.runner.KubernetesVersion = kubernetes

	certificates := o.selfCertificates()
	server := webhook.NewServer(webhook.Options{Port: o.webhookPort, CertDir: o.webhookCertDir})
	if o.webhookCertificates == certificatesSelf {
		server = certificates.Server(server)
	}
	mgr, err := newManager(config, server, o)
	if err != nil {
		return fmt.Errorf("make the manager: %w", err)
	}
	if err := addController(mgr, o); err != nil {
		return fmt.Errorf("add the controller: %w", err)
	}
	if err := addWebhook(mgr, certificates, o); err != nil {
		return fmt.Errorf("add the webhook: %w", err)
	}
	if err := addProbes(mgr, server, o); err != nil {
		return fmt.Errorf("add the probes: %w", err)
	}
	mgr.GetLogger().Info("Starting", "version", version, "kubernetes", kubernetes.String(), "namespace", o.namespace, "watchNamespaces", o.watchNamespaces)
	return mgr.Start(ctx)
}

// kubernetesVersion asks once: a cluster is upgraded more seldom than a manager is started anew.
func kubernetesVersion(config *rest.Config) (*utilversion.Version, error) {
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	info, err := client.ServerVersion()
	if err != nil {
		return nil, err
	}
	return utilversion.ParseGeneric(info.GitVersion)
}

func newManager(config *rest.Config, server webhook.Server, o options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	cacheOptions := controllers.CacheOptions(o.namespace, o.watchNamespaces)
	if o.webhookCertificates == certificatesSelf {
		o.selfCertificates().Cache(&cacheOptions)
	}
	metricsOptions := metricsserver.Options{BindAddress: o.metricsAddress, SecureServing: o.metricsSecure, CertDir: o.metricsCertDir}
	if o.metricsSecure {
		metricsOptions.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	return ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		Cache:                   cacheOptions,
		Metrics:                 metricsOptions,
		HealthProbeBindAddress:  o.probeAddress,
		WebhookServer:           server,
		GracefulShutdownTimeout: ptr.To(shutdownTimeout),

		LeaderElection:          o.leaderElection == leaderElectionLease,
		LeaderElectionID:        leaderLock,
		LeaderElectionNamespace: o.namespace,
		// Safe, since the process ends as soon as the manager has: the next replica need not wait for the Lease to run out.
		LeaderElectionReleaseOnCancel: true,
	})
}

func addController(mgr manager.Manager, o options) error {
	recorded := controllers.NewMetrics(mgr.GetClient())
	reconciler := &controllers.DBUpgradeReconciler{
		Client:    mgr.GetClient(),
		Live:      mgr.GetAPIReader(),
		Recorder:  mgr.GetEventRecorder("dbupgrade-controller"),
		Clock:     clock.RealClock{},
		Namespace: o.namespace,
		Runner:    o.runner,
		Workers:   o.workers,
		Metrics:   recorded,
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return err
	}
	// A runnable like this waits for leadership, so that each object has its series once, from the replica that works.
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if err := metrics.Registry.Register(recorded); err != nil {
			return err
		}
		<-ctx.Done()
		metrics.Registry.Unregister(recorded)
		return nil
	}))
}

func addWebhook(mgr manager.Manager, certificates webhooks.SelfCertificates, o options) error {
	if o.webhookCertificates == certificatesNone {
		return nil
	}
	if o.webhookCertificates == certificatesSelf {
		if err := certificates.SetupWithManager(mgr); err != nil {
			return err
		}
	}
	return (&webhooks.DBUpgradeValidator{Reader: mgr.GetClient(), Runner: o.runner}).SetupWithManager(mgr)
}

// addProbes: a replica lives while it answers, and is ready once its caches are filled and its webhook serves, whether it leads or not.
func addProbes(mgr manager.Manager, server webhook.Server, o options) error {
	checks := []error{
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", func(req *http.Request) error {
			ctx, cancel := context.WithTimeout(req.Context(), cacheCheckTimeout)
			defer cancel()
			if !mgr.GetCache().WaitForCacheSync(ctx) {
				return errors.New("the caches are not filled yet")
			}
			return nil
		}),
	}
	if o.webhookCertificates != certificatesNone {
		checks = append(checks, mgr.AddReadyzCheck("webhook", server.StartedChecker()))
	}
	return errors.Join(checks...)
}
