//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// manager is the replica that works: its process on this machine, and its metrics.
type manager struct {
	stage   *stage.Stage
	process procfs.Proc
	metrics string // address
	token   string // for them
}

// findManager finds the replica that holds the Lease, once one does that is there to stay.
func findManager(b *testing.B, s *stage.Stage) *manager {
	b.Helper()
	var pod corev1.Pod
	operator := &stage.Team{Stage: s, Namespace: stage.Namespace}
	stage.Wait(operator, b, "dbupgrade-controller-manager.subbug.learning", "is held", func(lease *coordinationv1.Lease) bool {
		name, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
		if name == "" {
			return false
		}
		pod = corev1.Pod{}
		err := s.Client.Get(b.Context(), client.ObjectKey{Namespace: stage.Namespace, Name: name}, &pod)
		must(b, client.IgnoreNotFound(err))
		return err == nil && pod.DeletionTimestamp == nil
	})
	return &manager{
		stage: s, process: processOf(b, &pod), token: metricsToken(b, s),
		metrics: "https://" + net.JoinHostPort(pod.Status.PodIP, "8080") + "/metrics",
	}
}

// processOf finds the process of a pod with one container.
func processOf(b *testing.B, pod *corev1.Pod) procfs.Proc {
	b.Helper()
	_, container, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	all, err := procfs.AllProcs()
	must(b, err)
	for _, process := range all {
		groups, err := process.Cgroups()
		if err != nil {
			continue // it has ended
		}
		if slices.ContainsFunc(groups, func(g procfs.Cgroup) bool { return strings.Contains(g.Path, container) }) {
			return process
		}
	}
	b.Fatalf("no process of this machine is in container %s of pod %s", container, pod.Name)
	return procfs.Proc{}
}

// metricsToken is one of a ServiceAccount that may read the metrics.
func metricsToken(b *testing.B, s *stage.Stage) string {
	b.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: stage.Namespace, GenerateName: "bench-"}}
	must(b, s.Client.Create(b.Context(), account))
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account.Name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "dbupgrade-metrics-reader"},
	}
	must(b, s.Client.Create(b.Context(), binding))
	b.Cleanup(func() {
		for _, obj := range []client.Object{binding, account} {
			if err := s.Client.Delete(context.Background(), obj); err != nil {
				b.Error(err)
			}
		}
	})
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 60 * 60)}}
	must(b, s.Client.SubResource("token").Create(b.Context(), account, request))
	return request.Status.Token
}

// usage is what a manager, and everybody, has used so far.
type usage struct {
	cpu      float64            // seconds of the manager
	requests map[string]float64 // of the manager, by method and, of a refused one, status
	api      map[string]float64 // requests of all clients, by verb and resource, watches left out
}

func (m *manager) usage(b *testing.B) usage {
	b.Helper()
	stat, err := m.process.Stat()
	must(b, err)
	return usage{
		cpu: stat.CPUTime(),
		requests: sum(b, m.scrape(b), "rest_client_requests_total", func(label map[string]string) string {
			if code := label["code"]; code >= "400" {
				return label["method"] + " " + code
			}
			return label["method"]
		}),
		api: sum(b, apiMetrics(b, m.stage), "apiserver_request_total", func(label map[string]string) string {
			switch label["verb"] {
			case "WATCH", "CONNECT":
				return ""
			}
			return strings.TrimSuffix(label["verb"]+" "+label["resource"]+"/"+label["subresource"], "/")
		}),
	}
}

// since is what was used after an earlier look.
func (u usage) since(earlier usage) usage {
	return usage{cpu: u.cpu - earlier.cpu, requests: less(u.requests, earlier.requests), api: less(u.api, earlier.api)}
}

// plus adds up.
func (u usage) plus(other usage) usage {
	return usage{cpu: u.cpu + other.cpu, requests: less(u.requests, times(other.requests, -1)), api: less(u.api, times(other.api, -1))}
}

func less(all, some map[string]float64) map[string]float64 {
	rest := maps.Clone(all)
	if rest == nil {
		rest = map[string]float64{}
	}
	for key, n := range some {
		rest[key] -= n
	}
	return rest
}

func times(all map[string]float64, n float64) map[string]float64 {
	product := map[string]float64{}
	for key, value := range all {
		product[key] = value * n
	}
	return product
}

func total(all map[string]float64) float64 {
	sum := 0.0
	for _, n := range all {
		sum += n
	}
	return sum
}

// each lists counts for each of n objects; those that do not come to a tenth are noise of the cluster.
func each(all map[string]float64, n int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if per := all[key] / float64(n); per >= 0.1 {
			parts = append(parts, fmt.Sprintf("%.1f %s", per, key))
		}
	}
	return strings.Join(parts, ", ")
}

// resetPeak forgets what memory was resident at most.
func (m *manager) resetPeak(b *testing.B) {
	b.Helper()
	must(b, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", m.process.PID), []byte("5"), 0))
}

// peak is what memory was resident at most since then, in MiB.
func (m *manager) peak(b *testing.B) float64 {
	b.Helper()
	status, err := m.process.NewStatus()
	must(b, err)
	return float64(status.VmHWM) / (1 << 20)
}

func (m *manager) scrape(b *testing.B) []byte {
	b.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // its certificate is its own
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, m.metrics, nil)
	must(b, err)
	request.Header.Set("Authorization", "Bearer "+m.token)
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	must(b, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(b, err)
	if response.StatusCode != http.StatusOK {
		b.Fatalf("the manager's metrics: %s: %s", response.Status, text)
	}
	return text
}

func apiMetrics(b *testing.B, s *stage.Stage) []byte {
	b.Helper()
	api, err := discovery.NewDiscoveryClientForConfig(s.Config)
	must(b, err)
	text, err := api.RESTClient().Get().AbsPath("/metrics").DoRaw(b.Context())
	must(b, err)
	return text
}

// sum adds up a counter by a key made of its labels; those whose key is empty are left out.
func sum(b *testing.B, text []byte, counter string, key func(label map[string]string) string) map[string]float64 {
	b.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	must(b, err)
	if families[counter] == nil {
		b.Fatalf("the metrics have no %s", counter)
	}
	sums := map[string]float64{}
	for _, metric := range families[counter].Metric {
		labels := map[string]string{}
		for _, pair := range metric.Label {
			labels[pair.GetName()] = pair.GetValue()
		}
		if k := key(labels); k != "" {
			sums[k] += metric.GetCounter().GetValue()
		}
	}
	return sums
}
