//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// runFaults are in what the runner may use.
func runFaults() []*fault {
	return []*fault{
		{
			name: "deadline",
			start: func(s *site) {
				s.secret(s.url())
				slow := map[string]string{"20260101000000_users.sql": users["20260101000000_users.sql"] + "SELECT pg_sleep(600);\n"}
				s.create(s.push(slow), func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.ActiveDeadlineSeconds = new(int64(10)) })
			},
			reason:   v1alpha1.ReasonDeadlineExceeded,
			messages: []string{"20260101000000_users.sql, statement 2"},
			degraded: true,
			mend: func(s *site) {
				s.edit(func(o *v1alpha1.DBUpgrade) {
					o.Spec.Migrations.Image, o.Spec.Runner.ActiveDeadlineSeconds = s.image, nil
				})
			},
		},
		{
			name: "too little memory",
			start: func(s *site) {
				large := map[string]string{"20260101000000_users.sql": users["20260101000000_users.sql"] + strings.Repeat("-- much ado\n", 4<<20)}
				s.secret(s.url())
				s.create(s.push(large), func(o *v1alpha1.DBUpgrade) { memory(o, "32Mi") })
			},
			reason:   v1alpha1.ReasonInterrupted,
			messages: []string{"container migrate ended with exit code 137 (OOMKilled)"},
			mend:     func(s *site) { s.edit(func(o *v1alpha1.DBUpgrade) { memory(o, "1Gi") }) },
		},
	}
}

func memory(o *v1alpha1.DBUpgrade, quantity string) {
	o.Spec.Runner.Resources = corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(quantity)}}
}

// pendingFaults are mended while the pod, or its Job, still waits: the same attempt goes on.
func pendingFaults() []*fault {
	return []*fault{
		{
			name:     "Secret missing for a while",
			start:    func(s *site) { s.create(s.image) },
			reason:   v1alpha1.ReasonJobPending,
			messages: []string{`container migrate cannot be configured: secret "secret-missing-for-a-while" not found`},
			mend:     func(s *site) { s.secret(s.url()) },
		},
		{
			name:     "ServiceAccount missing for a while",
			start:    func(s *site) { s.secret(s.url()); s.create(s.image, serviceAccount(s.name)) },
			reason:   v1alpha1.ReasonJobPending,
			messages: []string{"has no pod: ", `serviceaccount "serviceaccount-missing-for-a-while" not found`},
			mend:     func(s *site) { s.add(&corev1.ServiceAccount{ObjectMeta: s.named()}) },
		},
		{
			name:     "no node for a while",
			start:    (*site).wantsLabel,
			reason:   v1alpha1.ReasonJobPending,
			messages: []string{"no node takes the pod of Job no-node-for-a-while-", "didn't match Pod's node affinity/selector"},
			mend:     (*site).labelNode,
		},
	}
}

// kubeletFaults are told by the kubelet.
func kubeletFaults() []*fault {
	return []*fault{
		{
			name: "no such volume image",
			start: func(s *site) {
				s.secret(s.url())
				s.create(s.appImage(), func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Extraction = v1alpha1.ExtractionImageVolume })
			},
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"container migrate: image registry.local:5000/", "/app:no-such-volume-image cannot be pulled: ", "not found"},
			mend:     func(s *site) { s.push(users) },
		},
		{
			name:     "Secret missing",
			start:    func(s *site) { s.create(s.image) },
			reason:   v1alpha1.ReasonSecretNotFound,
			messages: []string{`container migrate cannot be configured: secret "secret-missing" not found`},
			mend:     func(s *site) { s.secret(s.url()) },
		},
		{
			name: "key missing",
			start: func(s *site) {
				s.change(&corev1.Secret{ObjectMeta: s.named(), Data: map[string][]byte{"uri": []byte(s.url())}}, func() {})
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonSecretNotFound,
			messages: []string{"container migrate cannot be configured: couldn't find key url in Secret ", "/key-missing"},
			mend:     func(s *site) { s.secret(s.url()) },
		},
	}
}

// schedulerFaults are told by the scheduler.
func schedulerFaults() []*fault {
	return []*fault{
		{
			name:     "no such node",
			start:    (*site).wantsLabel,
			reason:   v1alpha1.ReasonUnschedulable,
			messages: []string{"no node takes the pod of Job no-such-node-", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector"},
			mend:     (*site).labelNode,
		},
		{
			name: "too much CPU",
			start: func(s *site) {
				s.secret(s.url())
				s.create(s.image, func(o *v1alpha1.DBUpgrade) {
					o.Spec.Runner.Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}}
				})
			},
			reason:   v1alpha1.ReasonUnschedulable,
			messages: []string{"1 Insufficient cpu"},
			mend: func(s *site) {
				s.edit(func(o *v1alpha1.DBUpgrade) {
					o.Spec.Runner.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("50m")
				})
			},
		},
	}
}

const nodeLabel = "faults.example.com/"

// wantsLabel creates a DBUpgrade for a node with a label of its own, which none has before labelNode.
func (s *site) wantsLabel() {
	ginkgo.DeferCleanup(func(ctx ginkgo.SpecContext) error {
		_, err := s.TryKubectl(ctx, "", "label", "nodes", "--all", nodeLabel+s.name+"-")
		return err
	})
	s.secret(s.url())
	s.create(s.image, func(o *v1alpha1.DBUpgrade) {
		o.Spec.Runner.NodeSelector = map[string]string{nodeLabel + s.name: s.Namespace}
	})
}

func (s *site) labelNode() {
	s.Kubectl(ginkgo.GinkgoTB(), "", "label", "nodes", "--all", "--overwrite", nodeLabel+s.name+"="+s.Namespace)
}

// refusals are by the API server: of the pod, which the Job controller tells in an event, or of the Job itself.
func refusals() []*fault { return append(namespaceRefusals(), podRefusals()...) }

func podRefusals() []*fault {
	priorityClass := func(s *site) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}, Value: 1}
	}
	return []*fault{
		{
			name:     "ServiceAccount missing",
			start:    func(s *site) { s.secret(s.url()); s.create(s.image, serviceAccount(s.name)) },
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"has no pod: ", `serviceaccount "serviceaccount-missing" not found`},
			mend:     func(s *site) { s.add(&corev1.ServiceAccount{ObjectMeta: s.named()}) },
		},
		{
			name: "PriorityClass missing",
			start: func(s *site) {
				s.removeAtEnd(priorityClass(s))
				s.secret(s.url())
				s.create(s.image, func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PriorityClassName = s.Namespace })
			},
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"has no pod: ", "no PriorityClass with name faults-", "was found"},
			mend:     func(s *site) { s.add(priorityClass(s)) },
		},
		{
			name: "pod security",
			start: func(s *site) {
				unconfined := map[string]string{"container.apparmor.security.beta.kubernetes.io/migrate": "unconfined"}
				s.secret(s.url())
				s.create(s.image, func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodAnnotations = unconfined })
			},
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"has no pod: ", `violates PodSecurity "restricted:latest"`, "AppArmor"},
			mend:     func(s *site) { s.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.PodAnnotations = nil }) },
		},
	}
}

func serviceAccount(name string) func(*v1alpha1.DBUpgrade) {
	return func(o *v1alpha1.DBUpgrade) { o.Spec.Runner.ServiceAccountName = name }
}

func namespaceRefusals() []*fault {
	return []*fault{
		quotaFault("quota of pods", corev1.ResourcePods, "0", "10", "has no pod: ", "exceeded quota: quota-of-pods, requested: pods=1, used: pods=0, limited: pods=0"),
		quotaFault("quota of CPU", corev1.ResourceLimitsCPU, "500m", "2", "has no pod: ", "requested: limits.cpu=1, used: limits.cpu=0, limited: limits.cpu=500m"),
		quotaFault("quota of Jobs", "count/jobs.batch", "0", "10", "the Job is refused", "exceeded quota: quota-of-jobs"),
		{
			name: "LimitRange", alone: true,
			start: func(s *site) {
				s.add(&corev1.LimitRange{ObjectMeta: s.named(), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
					Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
				}}}})
				s.secret(s.url())
				s.create(s.image)
			},
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"has no pod: ", "maximum memory usage per Container is 128Mi, but limit is 256Mi"},
			mend:     func(s *site) { s.delete(&corev1.LimitRange{ObjectMeta: s.named()}) },
		},
		{
			name: "policy", alone: true,
			start:    func(s *site) { s.refusePods("migrations need a change ticket"); s.secret(s.url()); s.create(s.image) },
			reason:   v1alpha1.ReasonPodNotCreated,
			messages: []string{"has no pod: ", "ValidatingAdmissionPolicy", "denied request: migrations need a change ticket"},
			mend: func(s *site) {
				s.delete(&admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}})
			},
		},
	}
}

func quotaFault(name string, kind corev1.ResourceName, low, high string, messages ...string) *fault {
	set := func(s *site, value string) {
		quota := &corev1.ResourceQuota{ObjectMeta: s.named()}
		s.change(quota, func() { quota.Spec.Hard = corev1.ResourceList{kind: resource.MustParse(value)} })
	}
	return &fault{
		name: name, alone: true,
		start: func(s *site) {
			set(s, low)
			stage.Wait(s.Team, ginkgo.GinkgoTB(), s.name, "is in force", func(q *corev1.ResourceQuota) bool { return len(q.Status.Hard) > 0 })
			s.secret(s.url())
			s.create(s.image)
		},
		reason:   v1alpha1.ReasonPodNotCreated,
		messages: messages,
		mend:     func(s *site) { set(s, high) },
	}
}

// refusePods has the API server refuse every pod, and every template of one, of the site's namespace with these words.
func (s *site) refusePods(words string) {
	meta := metav1.ObjectMeta{Name: s.Namespace}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.Namespace}},
			ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods", "podtemplates"}},
			}}},
		},
		Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: words}},
	}}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: s.Namespace, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
	}}
	for _, obj := range []client.Object{policy, binding} {
		s.add(obj)
		s.removeAtEnd(obj)
	}
	// The API server says nowhere that it has taken notice.
	tb := ginkgo.GinkgoTB()
	err := wait.PollUntilContextTimeout(tb.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		any := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "any", Image: "any"}}}}
		err := s.Client.Create(ctx, &corev1.PodTemplate{ObjectMeta: s.named(), Template: any}, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), words), nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}
