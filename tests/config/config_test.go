// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

const (
	root      = "../.."
	namespace = "dbupgrade-system"
	manager   = "dbupgrade-controller-manager"
)

// as converts an object to its type, and is strict about fields that the type does not have.
func as[T any](t *testing.T, object *unstructured.Unstructured) T {
	t.Helper()
	var typed T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &typed, true); err != nil {
		t.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
	}
	return typed
}

func deployment(t *testing.T, objects []*unstructured.Unstructured) (appsv1.Deployment, corev1.Container) {
	t.Helper()
	d := as[appsv1.Deployment](t, Find(t, objects, "Deployment", manager))
	if len(d.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("the manager's pod has %d containers, want 1", len(d.Spec.Template.Spec.Containers))
	}
	return d, d.Spec.Template.Spec.Containers[0]
}

func TestNames(t *testing.T) {
	clusterScoped := []string{"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "ValidatingWebhookConfiguration"}
	for _, object := range Render(t, root, "config/default") {
		if object.GetKind() != "CustomResourceDefinition" && !strings.HasPrefix(object.GetName(), "dbupgrade-") {
			t.Errorf("%s %s could meet somebody else's of the same name", object.GetKind(), object.GetName())
		}
		want := namespace
		if slices.Contains(clusterScoped, object.GetKind()) {
			want = ""
		}
		if object.GetNamespace() != want {
			t.Errorf("%s %s is in namespace %q, want %q", object.GetKind(), object.GetName(), object.GetNamespace(), want)
		}
	}
}

func TestRights(t *testing.T) {
	for _, object := range Render(t, root, "config/default") {
		var rules []rbacv1.PolicyRule
		switch object.GetKind() {
		case "ClusterRole":
			rules = as[rbacv1.ClusterRole](t, object).Rules
		case "Role":
			rules = as[rbacv1.Role](t, object).Rules
		}
		for _, rule := range rules {
			everything := slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources, rule.ResourceNames, rule.NonResourceURLs)
			for _, word := range everything {
				if strings.Contains(word, "*") {
					t.Errorf("%s %s has a wildcard: %v", object.GetKind(), object.GetName(), rule)
				}
			}
			for _, verb := range rule.Verbs {
				if slices.Contains([]string{"escalate", "bind", "impersonate"}, verb) {
					t.Errorf("%s %s may %s: %v", object.GetKind(), object.GetName(), verb, rule)
				}
			}
			if object.GetKind() == "ClusterRole" && slices.Contains(rule.Resources, "leases") {
				t.Errorf("ClusterRole %s has Leases of every namespace", object.GetName())
			}
			if object.GetKind() == "ClusterRole" && slices.Contains(rule.Resources, "secrets") {
				for _, verb := range rule.Verbs {
					if verb != "create" && verb != "delete" {
						t.Errorf("ClusterRole %s may %s Secrets of every namespace", object.GetName(), verb)
					}
				}
			}
		}
	}
}

// TestUsersRights: aggregation gives each role what the one below it has, so each has only what it adds.
func TestUsersRights(t *testing.T) {
	want := map[string][]string{
		"admin": {"create", "delete", "deletecollection"},
		"edit":  {"patch", "update"},
		"view":  {"get", "list", "watch"},
	}
	objects := Render(t, root, "config/default")
	for role, verbs := range want {
		typed := as[rbacv1.ClusterRole](t, Find(t, objects, "ClusterRole", "dbupgrade-"+role))
		if typed.Labels["rbac.authorization.k8s.io/aggregate-to-"+role] != "true" {
			t.Errorf("%s is not aggregated to %s: %v", typed.Name, role, typed.Labels)
		}
		var got []string
		for _, rule := range typed.Rules {
			got = append(got, rule.Verbs...)
		}
		slices.Sort(got)
		if diff := cmp.Diff(verbs, slices.Compact(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
}

func TestBindingsHoldTogether(t *testing.T) {
	objects := Render(t, root, "config/default")
	bound := 0
	for _, object := range objects {
		if !strings.HasSuffix(object.GetKind(), "RoleBinding") {
			continue
		}
		bound++
		binding := as[rbacv1.ClusterRoleBinding](t, object) // a RoleBinding has the same fields
		Find(t, objects, binding.RoleRef.Kind, binding.RoleRef.Name)
		want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: manager, Namespace: namespace}}
		if diff := cmp.Diff(want, binding.Subjects); diff != "" {
			t.Errorf("subjects of %s (-want +got):\n%s", binding.Name, diff)
		}
	}
	if bound != 4 {
		t.Errorf("%d bindings, want 4", bound)
	}
	d, _ := deployment(t, objects)
	Find(t, objects, "ServiceAccount", d.Spec.Template.Spec.ServiceAccountName)
	Find(t, objects, "PriorityClass", d.Spec.Template.Spec.PriorityClassName)
}

func TestOneImage(t *testing.T) {
	_, container := deployment(t, Render(t, root, "config/default"))
	name, tag, tagged := strings.Cut(container.Image, ":")
	if name != "ghcr.io/subganapathy/automatic-db-upgrades" || !tagged || tag == "latest" {
		t.Errorf("image = %s, want a release of ghcr.io/subganapathy/automatic-db-upgrades", container.Image)
	}
	i := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == "OPERATOR_IMAGE" })
	if i < 0 || container.Env[i].Value != container.Image {
		t.Errorf("env = %v: the runner must come from the manager's own image %s", container.Env, container.Image)
	}
}

// TestPod checks what the restricted standard does not ask for; that itself is judged by the API server, when the manager's own test installs all this.
func TestPod(t *testing.T) {
	d, container := deployment(t, Render(t, root, "config/default"))
	if c := container.SecurityContext; c == nil || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem {
		t.Error("the root file system can be written to")
	}
	if container.Resources.Requests.Cpu().IsZero() || container.Resources.Limits.Memory().IsZero() {
		t.Errorf("resources = %+v, want a request of CPU and a limit of memory", container.Resources)
	}
	if len(container.Command) != 1 || container.Command[0] != "/manager" {
		t.Errorf("command = %v, want /manager alone", container.Command)
	}
	for _, volume := range d.Spec.Template.Spec.Volumes {
		if volume.EmptyDir == nil || volume.EmptyDir.Medium != corev1.StorageMediumMemory {
			t.Errorf("volume %s could put the webhook's key on a disk", volume.Name)
		}
	}
}

func TestServicesReachTheManager(t *testing.T) {
	objects := Render(t, root, "config/default")
	d, container := deployment(t, objects)
	pod := labels.Set(d.Spec.Template.Labels)
	for _, object := range objects {
		switch object.GetKind() {
		case "Service":
			service := as[corev1.Service](t, object)
			if len(service.Spec.Selector) == 0 || !labels.SelectorFromSet(service.Spec.Selector).Matches(pod) {
				t.Errorf("Service %s selects %v, the pod has %v", service.Name, service.Spec.Selector, pod)
			}
			for _, port := range service.Spec.Ports {
				if !slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal }) {
					t.Errorf("Service %s has the target port %s, which the container has not", service.Name, port.TargetPort.String())
				}
			}
		case "PodDisruptionBudget":
			selector, err := metav1.LabelSelectorAsSelector(as[policyv1.PodDisruptionBudget](t, object).Spec.Selector)
			if err != nil || !selector.Matches(pod) {
				t.Errorf("PodDisruptionBudget %s selects %v (%v), the pod has %v", object.GetName(), selector, err, pod)
			}
		}
	}
	registration := as[admissionregistrationv1.ValidatingWebhookConfiguration](t,
		Find(t, objects, "ValidatingWebhookConfiguration", "dbupgrade-validating-webhook-configuration"))
	for _, hook := range registration.Webhooks {
		service := hook.ClientConfig.Service
		if service == nil || service.Namespace != namespace {
			t.Fatalf("webhook %s is at %+v", hook.Name, hook.ClientConfig)
		}
		Find(t, objects, "Service", service.Name)
		if len(hook.MatchConditions) != 3 {
			t.Errorf("webhook %s has %d match conditions, want 3", hook.Name, len(hook.MatchConditions))
		}
	}
}

// TestSecretIsLeftAlone: data in the manifest would take the certificate away at each apply.
func TestSecretIsLeftAlone(t *testing.T) {
	secret := Find(t, Render(t, root, "config/default"), "Secret", "dbupgrade-webhook-certificate")
	for _, field := range []string{"data", "stringData"} {
		if _, found := secret.Object[field]; found {
			t.Errorf("the Secret sets %s", field)
		}
	}
}
