//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// The rules of the sample, in their order.
const (
	ruleRegistry = 1
	ruleDatabase = 2
)

// Where nothing is allowed but by the sample's policy, a migration reaches DNS, the registry and its database, but not the database of another
// team, and no registry that the policy does not name.
var _ = ginkgo.It("The sample's network policy lets a migration reach its registry and its database only", func() {
	t := ginkgo.GinkgoTB()
	s := on
	if s.Provider == "kind" {
		ginkgo.Skip("NOT TESTED: the sample needs an address of the registry, and kind's has none that is known here")
	}
	team, other := newTeam("netpol"), newTeam("netpol-other")
	image := team.Image(t, "v1", map[string]string{"1.sql": "CREATE TABLE here (id int);"})
	elsewhere := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: team.Namespace, Name: "elsewhere"},
		StringData: map[string]string{"url": "postgres://app:secret@postgres." + other.Namespace + ":5432/app?sslmode=disable"},
	}
	denial := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: team.Namespace, Name: "deny-by-default"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}},
	}
	policy := samplePolicy(t, s, team.Namespace)
	for _, object := range []client.Object{elsewhere, denial, policy} {
		if err := s.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}

	team.Create(t, "app", image)
	team.Ready(t, "app", v1alpha1.ReasonMigrationComplete)

	team.Create(t, "stray", image, func(d *v1alpha1.DBUpgrade) { d.Spec.Database.Connection.URLSecretRef.Name = elsewhere.Name })
	team.Ready(t, "stray", v1alpha1.ReasonDatabaseUnreachable)
	// It was the policy: with a rule more, the next attempt gets there.
	changed := policy.DeepCopy()
	changed.Spec.Egress[ruleDatabase].To[0].NamespaceSelector = &metav1.LabelSelector{}
	if err := s.Client.Patch(t.Context(), changed, client.MergeFrom(policy)); err != nil {
		t.Fatal(err)
	}
	team.Update(t, "stray", retry)
	team.Ready(t, "stray", v1alpha1.ReasonMigrationComplete)

	without := changed.DeepCopy()
	without.Spec.Egress = slices.Delete(without.Spec.Egress, ruleRegistry, ruleRegistry+1)
	if err := s.Client.Patch(t.Context(), without, client.MergeFrom(changed)); err != nil {
		t.Fatal(err)
	}
	team.Update(t, "app", func(d *v1alpha1.DBUpgrade) {
		d.Spec.Migrations.Image = team.Image(t, "v2", map[string]string{"1.sql": "CREATE TABLE here (id int);", "2.sql": "CREATE TABLE there (id int);"})
	})
	team.Ready(t, "app", v1alpha1.ReasonImagePullFailed)
})

// retry asks for another attempt after the present one.
func retry(d *v1alpha1.DBUpgrade) {
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, v1alpha1.AnnotationRetry, fmt.Sprint("after ", d.Status.Attempt.Number))
}

// samplePolicy is the sample, with the addresses and labels of the local cluster.
func samplePolicy(t testing.TB, s *stage.Stage, namespace string) *networkingv1.NetworkPolicy {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stage.Root(), "config/samples/networkpolicy_migration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var policy networkingv1.NetworkPolicy
	if err := yaml.UnmarshalStrict(text, &policy); err != nil {
		t.Fatal(err)
	}
	policy.Namespace = namespace
	host, port, err := net.SplitHostPort(s.Cluster.Push)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	registry, database := &policy.Spec.Egress[ruleRegistry], &policy.Spec.Egress[ruleDatabase]
	registry.To[0].IPBlock.CIDR = host + "/32"
	registry.Ports[0].Port = ptr.To(intstr.FromInt(number))
	database.To[0].PodSelector.MatchLabels = map[string]string{"app": "postgres"}
	return &policy
}
