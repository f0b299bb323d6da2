// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Component names a program of the node, as Start, Stop and Kill take it.
type Component string

// The programs of a node, in the order in which they are started.
const (
	Etcd              Component = "etcd"
	APIServer         Component = "kube-apiserver"
	RegistryServer    Component = "registry"
	Containerd        Component = "containerd"
	ControllerManager Component = "kube-controller-manager"
	Scheduler         Component = "kube-scheduler"
	Kubelet           Component = "kubelet"
	KubeProxy         Component = "kube-proxy"
	NetworkPolicies   Component = "kube-network-policies"
)

// policyQueue is the number of the queue in which the first packet of a pod's connection waits for what network policies say.
const policyQueue = "100"

// program is how a component is run.
type program struct {
	name Component
	argv []string
	// ready is nil as soon as the component answers.
	ready func(context.Context) error
}

func programs(l layout) []program {
	return []program{
		{Etcd, []string{
			l.tool("etcd"), "--name=" + NodeName, "--data-dir=/var/lib/etcd", "--log-level=warn",
			"--unsafe-no-fsync", // the data of a test outlives no machine
		}, httpReady("http://127.0.0.1:2379/health")},
		{APIServer, apiServer(l), httpReady("https://127.0.0.1:6443/readyz")},
		{RegistryServer, []string{l.tool("docker-registry"), "serve", l.path("registry.yaml")}, httpReady("http://127.0.0.1:5000/v2/")},
		{Containerd, []string{l.tool("containerd"), "--config=" + l.path("containerd.toml")}, socketReady(containerdSocket)},
		{ControllerManager, []string{
			l.tool("kube-controller-manager"), "--kubeconfig=" + l.path("admin.kubeconfig"), "--leader-elect=false",
			"--service-account-private-key-file=" + l.path("pki/service-account.key"), "--root-ca-file=" + l.path("pki/ca.crt"),
			"--use-service-account-credentials=true",
			"--cluster-signing-cert-file=" + l.path("pki/ca.crt"), "--cluster-signing-key-file=" + l.path("pki/ca.key"),
		}, httpReady("https://127.0.0.1:10257/healthz")},
		{Scheduler, []string{
			l.tool("kube-scheduler"), "--kubeconfig=" + l.path("admin.kubeconfig"), "--leader-elect=false",
		}, httpReady("https://127.0.0.1:10259/healthz")},
		{Kubelet, []string{
			l.tool("kubelet"), "--kubeconfig=" + l.path("kubelet.kubeconfig"), "--config=" + l.path("kubelet.yaml"),
			"--hostname-override=" + NodeName, "--node-ip=" + l.nodeAddress(),
		}, httpReady("http://127.0.0.1:10248/healthz")},
		{KubeProxy, []string{
			l.tool("kube-proxy"), "--kubeconfig=" + l.path("admin.kubeconfig"), "--hostname-override=" + NodeName,
			"--proxy-mode=nftables", "--cluster-cidr=" + l.podRange(),
			// These would write sysctls that a machine may have read-only.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		}, httpReady("http://127.0.0.1:10256/healthz")},
		// It judges what nodeNetwork queues for it. Its own rules need a kernel with CONFIG_NFT_QUEUE; where they are refused, its log says so again
		// and again, and nothing is lost.
		{NetworkPolicies, []string{
			l.tool("kube-network-policies"), "--kubeconfig=" + l.path("admin.kubeconfig"), "--hostname-override=" + NodeName,
			"--nfqueue-id=" + policyQueue, "--metrics-bind-address=127.0.0.1:9080", "--strict-mode=false", "--netfilter-bug-1766-fix=false",
		}, queueReady},
	}
}

func apiServer(l layout) []string {
	return []string{
		l.tool("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + l.nodeAddress(), "--secure-port=6443",
		"--tls-cert-file=" + l.path("pki/apiserver.crt"), "--tls-private-key-file=" + l.path("pki/apiserver.key"),
		"--client-ca-file=" + l.path("pki/ca.crt"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true", "--service-cluster-ip-range=" + l.serviceRange(),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + l.path("pki/service-account.key"), "--service-account-signing-key-file=" + l.path("pki/service-account.key"),
		"--kubelet-client-certificate=" + l.path("pki/admin.crt"), "--kubelet-client-key=" + l.path("pki/admin.key"),
		"--kubelet-preferred-address-types=InternalIP",
		// For aggregated API servers, such as an adapter of metrics.
		"--requestheader-client-ca-file=" + l.path("pki/ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + l.path("pki/front-proxy.crt"), "--proxy-client-key-file=" + l.path("pki/front-proxy.key"),
		"--enable-aggregator-routing=true",
	}
}

// httpReady asks over loopback, where the certificate proves nothing.
func httpReady(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		}}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := c.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}

func socketReady(path string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// queueReady: somebody listens to the queue of packets that network policies are judged by.
func queueReady(context.Context) error {
	queues, err := os.ReadFile("/proc/net/netfilter/nfnetlink_queue")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(queues)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == policyQueue {
			return nil
		}
	}
	return fmt.Errorf("nobody listens to the queue %s", policyQueue)
}
