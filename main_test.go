// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/config"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
	"github.com/subganapathy/automatic-db-upgrades/tests/loopback"
)

const (
	systemNamespace = "dbupgrade-system"
	managerName     = "dbupgrade-controller-manager"
	webhookConfig   = "dbupgrade-validating-webhook-configuration"
	patience        = time.Minute
)

func inPod(name string) string {
	return map[string]string{"POD_NAMESPACE": "here", "OPERATOR_IMAGE": "registry.example.com/operator:v1"}[name]
}

func nowhere(string) string { return "" }

func TestParse(t *testing.T) {
	o, err := parse(nil, inPod, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.namespace != "here" || o.runner.Image != "registry.example.com/operator:v1" || o.workers != 8 || !o.metricsSecure ||
		o.leaderElection != "lease" || o.webhookCertificates != "self" || o.webhookPort != 9443 || o.runner.LockTimeout != "" ||
		o.metricsAddress != ":8080" || o.probeAddress != ":8081" || len(o.watchNamespaces) != 0 || o.log.Development ||
		o.runner.CraneImage+o.runner.AtlasImage != "" {
		t.Errorf("defaults are %+v", o)
	}
	o, err = parse([]string{
		"--namespace=ops", "--watch-namespaces=shop,bank", "--max-concurrent-reconciles=2", "--runner-image=registry.example.com/mirror:v2",
		"--runner-image-pull-policy=Always", "--registry-plain-http", "--allowed-image-prefixes=registry.example.com/,localhost:5000/",
		"--crane-image=registry.example.com/crane:v1", "--atlas-image=registry.example.com/atlas:v1",
		"--database-lock-timeout=90s", "--leader-election=none", "--webhook-certificates=none", "--metrics-secure=false", "--metrics-bind-address=0",
	}, inPod, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.namespace != "ops" || strings.Join(o.watchNamespaces, " ") != "shop bank" || o.workers != 2 || o.runner.Image != "registry.example.com/mirror:v2" ||
		o.runner.ImagePullPolicy != corev1.PullAlways || !o.runner.PlainHTTP || o.runner.LockTimeout != "1m30s" || o.leaderElection != "none" ||
		strings.Join(o.runner.AllowedImagePrefixes, " ") != "registry.example.com/ localhost:5000/" || o.metricsSecure || o.metricsAddress != "0" ||
		o.runner.CraneImage != "registry.example.com/crane:v1" || o.runner.AtlasImage != "registry.example.com/atlas:v1" {
		t.Errorf("flags give %+v", o)
	}
}

// TestParseRefuses: each error names the flag, the value and what it may be.
func TestParseRefuses(t *testing.T) {
	tests := map[string]struct {
		arg  string
		want []string
	}{
		"leader election":  {"--leader-election=life", []string{"-leader-election", `"life"`, "lease or none"}},
		"certificates":     {"--webhook-certificates=mine", []string{"-webhook-certificates", `"mine"`, "self, provided or none"}},
		"no workers":       {"--max-concurrent-reconciles=0", []string{"-max-concurrent-reconciles", `"0"`, "1 to 1000"}},
		"port":             {"--webhook-port=65536", []string{"-webhook-port", `"65536"`, "1 to 65535"}},
		"address":          {"--metrics-bind-address=8080", []string{"-metrics-bind-address", `"8080"`, "host:port"}},
		"namespace":        {"--watch-namespaces=shop,Bank", []string{"-watch-namespaces", `"Bank"`, "lower case"}},
		"pull policy":      {"--runner-image-pull-policy=always", []string{"-runner-image-pull-policy", `"always"`, "Always, IfNotPresent or Never"}},
		"image":            {"--runner-image=Not one", []string{"-runner-image", `"Not one"`}},
		"prefix":           {"--allowed-image-prefixes=registry.example.com/team,/", []string{"-allowed-image-prefixes", `"/"`, "registry or repository"}},
		"crane's image":    {"--crane-image=Not one", []string{"-crane-image", `"Not one"`}},
		"lock timeout":     {"--database-lock-timeout=30", []string{"-database-lock-timeout", `"30"`, "1s to 24h"}},
		"no lock timeout":  {"--database-lock-timeout=0s", []string{"-database-lock-timeout", `"0s"`, "1s to 24h"}},
		"bool":             {"--metrics-secure=maybe", []string{"-metrics-secure", `"maybe"`}},
		"unknown flag":     {"--fast", []string{"-fast"}},
		"no flag":          {"fast", []string{`"fast"`}},
		"log level":        {"--zap-log-level=loud", []string{"-zap-log-level", `"loud"`}},
		"kubeconfig alone": {"--namespace=", []string{"-namespace", `""`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]string{test.arg}, inPod, io.Discard)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %s", err, want)
				}
			}
		})
	}
	for name, without := range map[string]string{"OPERATOR_IMAGE": "--runner-image", "POD_NAMESPACE": "--namespace"} {
		_, err := parse(nil, func(asked string) string {
			if asked == name {
				return ""
			}
			return inPod(asked)
		}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), without) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s got %v, want an error that names %s too", name, err, without)
		}
	}
}

func TestHelp(t *testing.T) {
	var help bytes.Buffer
	if _, err := parse([]string{"--help"}, nowhere, &help); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, name := range []string{"runner-image", "webhook-certificates", "metrics-secure", "kubeconfig", "zap-log-level"} {
		if !strings.Contains(help.String(), "-"+name) {
			t.Errorf("the help does not have --%s", name)
		}
	}
	if o, err := parse([]string{"--version"}, nowhere, io.Discard); err != nil || !o.showVersion {
		t.Errorf("--version alone: %+v %v", o, err)
	}
}

// installation is what config/default makes of an API server, with the manager running as the pod would.
type installation struct {
	config  *rest.Config
	admin   client.Client
	options options
	ended   chan error
	cancel  context.CancelFunc
}

// warnings fails the test for each thing that the API server warns of: PodSecurity does so for a Deployment that its namespace would not run.
type warnings struct{ t *testing.T }

func (w warnings) HandleWarningHeader(_ int, _ string, text string) { w.t.Error("warning: ", text) }

// TestInstallation runs the manager with the manifests of config/default and no other rights than those give it.
func TestInstallation(t *testing.T) {
	in := install(t)
	t.Run("probes", in.testProbes)
	t.Run("webhook", in.testWebhook)
	t.Run("reconciler", in.testReconciler)
	t.Run("metrics", in.testMetrics)
	t.Run("certificates are renewed", in.testRenewal)
	t.Run("end", in.testEnd)
}

func install(t *testing.T) *installation {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	config, stop, err := controlplane.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	warning := rest.CopyConfig(config)
	warning.WarningHandler = warnings{t}
	admin, err := client.New(warning, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{config: config, admin: admin, ended: make(chan error, 1)}
	in.apply(t)
	in.start(t)
	return in
}

// apply makes the objects of config/default, and reads the options out of its Deployment.
func (in *installation) apply(t *testing.T) {
	t.Helper()
	objects := config.Render(t, ".", "config/default")
	var manager appsv1.Deployment
	deployment := config.Find(t, objects, "Deployment", managerName)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(deployment.Object, &manager); err != nil {
		t.Fatal(err)
	}
	in.options = optionsOf(t, manager.Spec.Template.Spec.Containers[0])
	for _, object := range objects {
		switch object.GetKind() {
		case "CustomResourceDefinition":
			continue // the control plane has it
		case "Service":
			if object.GetName() == in.options.webhookService {
				object.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
			}
		case "ValidatingWebhookConfiguration":
			hooks, _, _ := unstructured.NestedSlice(object.Object, "webhooks")
			for _, hook := range hooks {
				err := unstructured.SetNestedField(hook.(map[string]any), int64(in.options.webhookPort), "clientConfig", "service", "port")
				if err != nil {
					t.Fatal(err)
				}
			}
			object.Object["webhooks"] = hooks
		}
		if err := in.admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// optionsOf parses the container's arguments with its environment, and moves what must differ outside of a pod: ports and the directory.
func optionsOf(t *testing.T, container corev1.Container) options {
	t.Helper()
	env := map[string]string{}
	for _, e := range container.Env {
		env[e.Name] = e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.namespace" {
			env[e.Name] = systemNamespace
		}
	}
	read := map[string]bool{}
	getenv := func(name string) string {
		read[name] = true
		return env[name]
	}
	o, err := parse(container.Args, getenv, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for name := range env {
		if !read[name] {
			t.Errorf("the Deployment sets %s, which the manager does not read", name)
		}
	}
	ports := map[string]string{"metrics": o.metricsAddress, "probes": o.probeAddress, "webhook": fmt.Sprintf(":%d", o.webhookPort)}
	for _, port := range container.Ports {
		if want := fmt.Sprintf(":%d", port.ContainerPort); ports[port.Name] != want {
			t.Errorf("the container has port %s at %s, the manager at %s", port.Name, want, ports[port.Name])
		}
	}
	if o.namespace != systemNamespace || o.webhookConfiguration != webhookConfig || o.runner.Image != container.Image {
		t.Errorf("the Deployment gives %+v", o)
	}
	if mounts := container.VolumeMounts; len(mounts) != 1 || mounts[0].MountPath != o.webhookCertDir {
		t.Errorf("mounts = %v, want one at %s", mounts, o.webhookCertDir)
	}
	o.metricsAddress, o.probeAddress, o.webhookCertDir = freeAddress(t), freeAddress(t), t.TempDir()
	_, port, _ := net.SplitHostPort(freeAddress(t))
	o.webhookPort, _ = strconv.Atoi(port)
	return o
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := loopback.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs the manager as its ServiceAccount, so that it has the rights of the manifests and no others.
func (in *installation) start(t *testing.T) {
	t.Helper()
	asPod := rest.CopyConfig(in.config)
	asPod.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + systemNamespace + ":" + managerName,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + systemNamespace, "system:authenticated"},
	}
	ctx, cancel := context.WithCancel(context.Background())
	in.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.ended <- run(ctx, asPod, in.options)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func eventually(t *testing.T, what string, done func(ctx context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = done(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, last)
	}
}

func get(ctx context.Context, url, token string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // the manager makes this certificate at its start, nobody signs it
	}}
	response, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func (in *installation) testProbes(t *testing.T) {
	for _, path := range []string{"/healthz", "/readyz"} {
		eventually(t, path, func(ctx context.Context) error {
			code, body, err := get(ctx, "http://"+in.options.probeAddress+path, "")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("status %d: %s", code, body)
			}
			return err
		})
	}
}

func upgradeOf(image string) *v1alpha1.DBUpgrade {
	return &v1alpha1.DBUpgrade{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orders"},
		Spec: v1alpha1.DBUpgradeSpec{
			Migrations: v1alpha1.MigrationsSpec{Image: image},
			Database: v1alpha1.DatabaseSpec{
				Type:       v1alpha1.DatabaseSelfHosted,
				Connection: &v1alpha1.ConnectionSpec{URLSecretRef: v1alpha1.SecretKeyRef{Name: "db", Key: "url"}},
			},
		},
	}
}

// refusedByWebhook is nil if the webhook answered, and said no.
func (in *installation) refusedByWebhook(ctx context.Context) error {
	err := in.admin.Create(ctx, upgradeOf("Not an image"), client.DryRunAll)
	if apierrors.IsInvalid(err) && strings.Contains(err.Error(), "denied the request") {
		return nil
	}
	return fmt.Errorf("the webhook did not refuse: %w", err)
}

// testWebhook: once the manager is ready, the API server trusts it. It looks at its configuration now and then, hence the patience.
func (in *installation) testWebhook(t *testing.T) {
	eventually(t, "webhook", in.refusedByWebhook)
}

// testReconciler: the rights suffice to bring an object to where a kubelet is needed, and to speak of it.
func (in *installation) testReconciler(t *testing.T) {
	obj := upgradeOf("registry.example.com/team/orders:v1")
	if err := in.admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	eventually(t, "attempt", func(ctx context.Context) error {
		if err := in.admin.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		if obj.Status.Attempt == nil || obj.Status.Attempt.Phase != v1alpha1.AttemptPending {
			return fmt.Errorf("status = %+v", obj.Status)
		}
		return nil
	})
	eventually(t, "event", func(ctx context.Context) error {
		var list eventsv1.EventList
		if err := in.admin.List(ctx, &list, client.InNamespace(obj.Namespace)); err != nil {
			return err
		}
		for _, event := range list.Items {
			if event.Regarding.UID == obj.UID && event.ReportingController == "dbupgrade-controller" {
				return nil
			}
		}
		return fmt.Errorf("%d events, none about the object", len(list.Items))
	})
}

func (in *installation) testMetrics(t *testing.T) {
	url := "https://" + in.options.metricsAddress + "/metrics"
	if code, _, err := get(t.Context(), url, ""); err != nil || code != http.StatusUnauthorized {
		t.Errorf("without a token: %d %v, want %d", code, err, http.StatusUnauthorized)
	}
	// Each has its own account: the manager remembers for a while who may not.
	if code, _, err := get(t.Context(), url, in.token(t, "stranger")); err != nil || code != http.StatusForbidden {
		t.Errorf("with a token that may not: %d %v, want %d", code, err, http.StatusForbidden)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "dbupgrade-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "scraper"}},
	}
	if err := in.admin.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	token := in.token(t, "scraper")
	eventually(t, "metrics", func(ctx context.Context) error {
		code, body, err := get(ctx, url, token)
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("status %d: %w", code, err)
		}
		for _, want := range []string{
			"dbupgrade_operator_up 1",
			`dbupgrade_status_condition{condition="Ready",name="orders",namespace="default",status="false"} 1`,
			"controller_runtime_reconcile_total",
		} {
			if !strings.Contains(body, want) {
				return fmt.Errorf("no %s in the metrics", want)
			}
		}
		return nil
	})
}

// token makes a ServiceAccount and a token for it.
func (in *installation) token(t *testing.T, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if err := in.admin.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{}
	if err := in.admin.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}

// testRenewal: certificates that are gone are made anew, told and served, without a restart.
func (in *installation) testRenewal(t *testing.T) {
	bundle := func(ctx context.Context) []byte {
		var registration admissionregistrationv1.ValidatingWebhookConfiguration
		if err := in.admin.Get(ctx, types.NamespacedName{Name: webhookConfig}, &registration); err != nil {
			t.Error(err)
			return nil
		}
		return registration.Webhooks[0].ClientConfig.CABundle
	}
	old := bundle(t.Context())
	if len(old) == 0 {
		t.Fatal("there is no authority in the webhook configuration")
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: in.options.webhookSecret}}
	if err := in.admin.Patch(t.Context(), secret, client.RawPatch(types.MergePatchType, []byte(`{"data":null}`))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new authority", func(ctx context.Context) error {
		if now := bundle(ctx); len(now) == 0 || bytes.Equal(now, old) {
			return errors.New("the webhook configuration has the old one")
		}
		return in.refusedByWebhook(ctx)
	})
}

// testEnd: told to end, the manager ends without an error and leaves its Lease to the next.
func (in *installation) testEnd(t *testing.T) {
	key := types.NamespacedName{Namespace: systemNamespace, Name: leaderLock}
	var lease coordinationv1.Lease
	if err := in.admin.Get(t.Context(), key, &lease); err != nil || *lease.Spec.HolderIdentity == "" {
		t.Fatalf("nobody leads: %v", err)
	}
	in.cancel()
	select {
	case err := <-in.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the manager does not end")
	}
	if err := in.admin.Get(t.Context(), key, &lease); err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the Lease is still held by %s", *holder)
	}
}
