//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

// The operator goes and comes, so this is alone.
var _ = ginkgo.It("make undeploy waits for a migration and loses nothing, and make deploy goes on", ginkgo.Serial, func() {
	tb := ginkgo.GinkgoTB()
	team := newTeam("deploy")
	g := closeGate(tb, team)
	team.Create(tb, "orders", team.Image(tb, "v1", gated))
	g.reached(tb)

	if out, err := makeTarget(tb, "undeploy"); err == nil || !strings.Contains(out, team.Namespace+"/orders") {
		tb.Errorf("undeploy in the middle of a migration: %v\n%s", err, out)
	}
	g.open(tb)
	before := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
	nothingUnderWay(tb)

	manifests := on.Kubectl(tb, "", "kustomize", stage.Root()+"/tests/stage/operator")
	afterwards("", rolledOut...)
	afterwards(manifests, apply...)
	if out, err := makeTarget(tb, "undeploy"); err != nil {
		tb.Fatalf("undeploy: %v\n%s", err, out)
	}
	if out := on.Kubectl(tb, "", "get", "namespace", stage.Namespace, "--ignore-not-found"); out != "" {
		tb.Errorf("left behind: %s", out)
	}
	team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)

	if out, err := makeTarget(tb, "deploy", "IMG="+cluster.Registry+"/dbupgrade-operator:local"); err != nil {
		tb.Fatalf("deploy: %v\n%s", err, out)
	}
	// Whatever makes the new manager look at it again.
	team.Kubectl(tb, "", "label", "dbu", "orders", "seen=again", "--namespace="+team.Namespace)
	after := team.Ready(tb, "orders", v1alpha1.ReasonMigrationComplete)
	expectOnce(tb, team)
	expectSameAttempt(tb, team, before, after)
})

// nothingUnderWay waits until no DBUpgrade has a finalizer, those of other specs included, whose namespaces are still going.
func nothingUnderWay(tb testing.TB) {
	tb.Helper()
	err := wait.PollUntilContextTimeout(tb.Context(), time.Second, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
		var all v1alpha1.DBUpgradeList
		err := on.Client.List(ctx, &all)
		return !slices.ContainsFunc(all.Items, func(d v1alpha1.DBUpgrade) bool { return len(d.Finalizers) > 0 }), err
	})
	if err != nil {
		tb.Fatalf("some DBUpgrade keeps its finalizer: %v", err)
	}
}

func makeTarget(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "make", append([]string{"--no-print-directory", "-C", stage.Root()}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+on.Kubeconfig)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
