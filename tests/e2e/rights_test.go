//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var _ = ginkgo.Describe("The operator", func() {
	ginkgo.It("has no right to what it does not need", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("rights")
		for _, c := range []struct{ verb, resource, namespace, want string }{
			{"get", "secrets", team.Namespace, "no"},
			{"list", "secrets", team.Namespace, "no"},
			{"watch", "secrets", team.Namespace, "no"},
			{"get", "secret/db", team.Namespace, "no"},
			{"update", "secrets", team.Namespace, "no"},
			{"create", "pods", team.Namespace, "no"},
			{"create", "pods/exec", team.Namespace, "no"},
			{"get", "pods/log", team.Namespace, "no"},
			{"create", "dbupgrades", team.Namespace, "no"},
			{"delete", "dbupgrades", team.Namespace, "no"},
			{"create", "leases", team.Namespace, "no"},
			{"create", "clusterrolebindings", team.Namespace, "no"},
			{"impersonate", "serviceaccounts", team.Namespace, "no"},
			{"get", "secret/other", stage.Namespace, "no"},
			{"create", "jobs", team.Namespace, "yes"},
			{"patch", "dbupgrades/status", team.Namespace, "yes"},
			{"create", "leases", stage.Namespace, "yes"},
		} {
			out, _ := on.TryKubectl(tb.Context(), "", "auth", "can-i", c.verb, c.resource, "--namespace="+c.namespace,
				"--as=system:serviceaccount:"+stage.Namespace+":"+stage.Manager)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if got := lines[len(lines)-1]; got != c.want {
				tb.Errorf("may it %s %s in %s? %s, want %s", c.verb, c.resource, c.namespace, out, c.want)
			}
		}
	})

	ginkgo.It("makes pods that a restricted namespace admits", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("restricted")
		expectRefused(tb, "violates PodSecurity", "run", "plain", "--image=registry.local:5000/postgres:15", "--namespace="+team.Namespace)
		team.Create(tb, "orders", team.Image(tb, "v1", map[string]string{"1_orders.sql": "CREATE TABLE orders ();\n"}))
		team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
		if told := team.Kubectl(tb, "", "get", "events", "--namespace="+team.Namespace); strings.Contains(told, "PodSecurity") {
			tb.Errorf("%s", told)
		}
		// So are its own.
		ns := stage.Get[corev1.Namespace](&stage.Team{Stage: on}, tb, stage.Namespace)
		if level := ns.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
			tb.Errorf("namespace %s enforces %q", ns.Name, level)
		}
	})

	ginkgo.It("answers admission requests with each replica", func() {
		tb := ginkgo.GinkgoTB()
		webhook := validatingWebhook(tb)
		authority := x509.NewCertPool()
		authority.AppendCertsFromPEM(webhook.ClientConfig.CABundle)
		service := webhook.ClientConfig.Service
		asks := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs: authority, ServerName: service.Name + "." + service.Namespace + ".svc",
		}}}
		ginkgo.DeferCleanup(asks.CloseIdleConnections)
		for _, pod := range replicas(tb) {
			answer := review(tb, asks, "https://"+net.JoinHostPort(pod.Status.PodIP, "9443")+*service.Path)
			if answer.Allowed || !strings.Contains(answer.Result.Message, "spec.migrations.image: Invalid value") {
				tb.Errorf("%s: %+v", pod.Name, answer)
			}
		}
	})

	ginkgo.It("shows its metrics to those who may see them", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("metrics")
		in := "--namespace=" + team.Namespace
		team.Kubectl(tb, "", "create", "serviceaccount", "scraper", in)
		team.Kubectl(tb, "", "create", "clusterrolebinding", team.Namespace, "--clusterrole=dbupgrade-metrics-reader", "--serviceaccount="+team.Namespace+":scraper")
		afterwards("", "delete", "clusterrolebinding", team.Namespace)
		team.Create(tb, "orders", team.Image(tb, "v1", map[string]string{"1_orders.sql": "CREATE TABLE orders ();\n"}))
		team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)

		token := func(account string) string {
			return strings.TrimSpace(team.Kubectl(tb, "", "create", "token", account, in))
		}
		expectScrape(tb, "", http.StatusUnauthorized)
		expectScrape(tb, token("default"), http.StatusForbidden)
		all := expectScrape(tb, token("scraper"), http.StatusOK)
		for _, want := range []string{
			"dbupgrade_operator_up 1",
			fmt.Sprintf(`dbupgrade_status_condition{condition="Ready",name="orders",namespace=%q,status="true"} 1`, team.Namespace),
		} {
			if !strings.Contains(all, "\n"+want+"\n") {
				tb.Errorf("no replica shows %s", want)
			}
		}
	})
})

// replicas are the operator's pods. There are two.
func replicas(tb testing.TB) []corev1.Pod {
	tb.Helper()
	var pods corev1.PodList
	if err := on.Client.List(tb.Context(), &pods, client.InNamespace(stage.Namespace), client.MatchingLabels{"app.kubernetes.io/component": "manager"}); err != nil {
		tb.Fatal(err)
	}
	var running []corev1.Pod
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			running = append(running, pod)
		}
	}
	if len(running) != 2 {
		tb.Fatalf("%d replicas run", len(running))
	}
	return running
}

func validatingWebhook(tb testing.TB) admissionregistrationv1.ValidatingWebhook {
	tb.Helper()
	config := stage.Get[admissionregistrationv1.ValidatingWebhookConfiguration](&stage.Team{Stage: on}, tb, "dbupgrade-validating-webhook-configuration")
	return config.Webhooks[0]
}

// review asks one replica to admit a DBUpgrade that names no image.
func review(tb testing.TB, asks *http.Client, url string) *admissionv1.AdmissionResponse {
	tb.Helper()
	obj, err := json.Marshal(&v1alpha1.DBUpgrade{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "DBUpgrade"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orders"},
		Spec:       v1alpha1.DBUpgradeSpec{Migrations: v1alpha1.MigrationsSpec{Image: "No Image"}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	question, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request:  &admissionv1.AdmissionRequest{UID: "1", Operation: admissionv1.Create, Namespace: "default", Object: runtime.RawExtension{Raw: obj}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	response, err := asks.Post(url, "application/json", bytes.NewReader(question))
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Response == nil {
		tb.Fatalf("%s: %s: %v", url, response.Status, err)
	}
	return answer.Response
}

// expectScrape asks each replica for its metrics, holds all to the same code, and returns what they say together.
func expectScrape(tb testing.TB, token string, code int) string {
	tb.Helper()
	// The certificate is made anew at each start, for whoever only wants to be private.
	scraper := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	var all strings.Builder
	for _, pod := range replicas(tb) {
		request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "https://"+net.JoinHostPort(pod.Status.PodIP, "8080")+"/metrics", nil)
		if err != nil {
			tb.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := scraper.Do(request)
		if err != nil {
			tb.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != code {
			tb.Errorf("%s: %s, %v, want %d", pod.Name, response.Status, err, code)
		}
		all.WriteString("\n")
		all.Write(text)
	}
	return all.String()
}
