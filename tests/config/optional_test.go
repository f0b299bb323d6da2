// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/controlplane"
)

const sample = root + "/config/samples/networkpolicy_migration.yaml"

// warnings fails the test for each thing that the API server warns of.
type warnings struct{ t *testing.T }

func (w warnings) HandleWarningHeader(_ int, _ string, text string) { w.t.Error("warning: ", text) }

// TestOptionalPartsAreAccepted has an API server that knows the Prometheus operator's own CRD judge what can be installed beside the operator.
func TestOptionalPartsAreAccepted(t *testing.T) {
	config, stop, err := controlplane.Start(func(env *envtest.Environment) {
		env.CRDDirectoryPaths = append(env.CRDDirectoryPaths, filepath.Join(prometheusOperator(t), "example/prometheus-operator-crd",
			"monitoring.coreos.com_servicemonitors.yaml"))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	warning := rest.CopyConfig(config)
	warning.WarningHandler = warnings{t}
	admin, err := client.New(warning, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	team := read(t, sample)
	team.SetNamespace(controlplane.Namespace(t, admin))
	objects := []*unstructured.Unstructured{Find(t, Render(t, root, "config/default"), "Namespace", namespace), team}
	for _, dir := range []string{"config/network-policy", "config/prometheus"} {
		objects = append(objects, Render(t, root, dir)...)
	}
	for _, object := range objects {
		if err := admin.Create(t.Context(), object, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
			t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// prometheusOperator is the directory of the Prometheus operator's module.
func prometheusOperator(t *testing.T) string {
	t.Helper()
	const module = "github.com/prometheus-operator/prometheus-operator"
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	download.Dir = root + "/hack/tools/prometheus-operator"
	out, err := download.Output()
	if err != nil {
		t.Fatalf("go mod download %s: %v\n%s", module, err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found.Dir
}

func read(t *testing.T, file string) *unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{}
	if err := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096).Decode(object); err != nil {
		t.Fatal(err)
	}
	return object
}

func selects(t *testing.T, policy networkingv1.NetworkPolicy, pod labels.Set) {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	if err != nil || selector.Empty() || !selector.Matches(pod) {
		t.Errorf("NetworkPolicy %s selects %v (%v), the pod has %v", policy.Name, selector, err, pod)
	}
	if !slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) || !slices.Contains(policy.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
		t.Errorf("NetworkPolicy %s is for %v, want both directions", policy.Name, policy.Spec.PolicyTypes)
	}
}

func TestManagersPolicyLetsInWhatTheManagerServes(t *testing.T) {
	d, container := deployment(t, Render(t, root, "config/default"))
	policy := as[networkingv1.NetworkPolicy](t, Find(t, Render(t, root, "config/network-policy"), "NetworkPolicy", manager))
	selects(t, policy, d.Spec.Template.Labels)
	open := map[string]bool{} // name of a port to whether everybody may come
	for _, rule := range policy.Spec.Ingress {
		for _, port := range rule.Ports {
			i := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.ContainerPort == port.Port.IntVal })
			if i < 0 {
				t.Fatalf("the policy lets port %s in, which the manager has not", port.Port)
			}
			open[container.Ports[i].Name] = len(rule.From) == 0
		}
	}
	if everybody, found := open["webhook"]; !found || !everybody {
		t.Error("the API server cannot reach the webhook")
	}
	if everybody, found := open["metrics"]; !found || everybody {
		t.Error("the metrics are for nobody, or for everybody")
	}
}

// TestSampleSelectsMigrations takes a pod of a DBUpgrade that tries to get out of the policy.
func TestSampleSelectsMigrations(t *testing.T) {
	obj := &v1alpha1.DBUpgrade{
		Spec: v1alpha1.DBUpgradeSpec{Runner: v1alpha1.RunnerSpec{PodLabels: map[string]string{
			upgrade.LabelManagedBy: "nobody", upgrade.LabelComponent: "nothing",
		}}},
		Status: v1alpha1.DBUpgradeStatus{Attempt: &v1alpha1.AttemptStatus{Number: 1}},
	}
	pod := upgrade.BuildJob(obj, upgrade.RunnerConfig{}).Spec.Template.Labels
	selects(t, as[networkingv1.NetworkPolicy](t, read(t, sample)), pod)
}

// TestMonitorFindsOnePort: the webhook's Service has the same labels as that of the metrics.
func TestMonitorFindsOnePort(t *testing.T) {
	monitor := Find(t, Render(t, root, "config/prometheus"), "ServiceMonitor", manager)
	selector, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	if err != nil || len(selector) == 0 {
		t.Fatalf("the monitor selects %v: %v", selector, err)
	}
	endpoints, _, err := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
	if err != nil || len(endpoints) != 1 {
		t.Fatalf("endpoints = %v, want one: %v", endpoints, err)
	}
	var found []string
	for _, object := range Render(t, root, "config/default") {
		if object.GetKind() != "Service" || !labels.SelectorFromSet(selector).Matches(labels.Set(object.GetLabels())) {
			continue
		}
		for _, port := range as[corev1.Service](t, object).Spec.Ports {
			if port.Name == endpoints[0].(map[string]any)["port"] {
				found = append(found, object.GetName()+":"+port.TargetPort.String())
			}
		}
	}
	if want := []string{manager + "-metrics:metrics"}; !slices.Equal(found, want) {
		t.Errorf("the monitor finds %v, want %v", found, want)
	}
}

// TestOverlayOfTheDocumentation builds the overlay that docs/install.md shows, of this checkout.
func TestOverlayOfTheDocumentation(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/install.md shows no overlay")
	}
	// kustomize takes relative paths only.
	dir := t.TempDir()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	out, err := filepath.Rel(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	back, err := filepath.Rel(dir, here)
	if err != nil {
		t.Fatal(err)
	}
	overlay := regexp.MustCompile(`github\.com/[^ ]+/(config/[^ ]+)\?ref=\S+`).ReplaceAllString(string(block[1]), back+"/$1")
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := Render(t, root, out)
	d, container := deployment(t, objects)
	if image := container.Image; !strings.HasPrefix(image, "registry.example.com/mirror/") ||
		!slices.ContainsFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "OPERATOR_IMAGE" && e.Value == image }) {
		t.Errorf("the manager is of %s, its environment %v", image, container.Env)
	}
	if d.Namespace != "dbupgrade-platform" || container.Args[len(container.Args)-1] != "--allowed-image-prefixes=registry.example.com/" {
		t.Errorf("the manager is in %s, with the arguments %v", d.Namespace, container.Args)
	}
	for _, object := range objects {
		if text, _ := object.MarshalJSON(); strings.Contains(string(text), namespace) {
			t.Errorf("%s %s still knows of %s", object.GetKind(), object.GetName(), namespace)
		}
	}
}
