// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

const (
	craneImage = "registry.test/crane:v1"
	atlasImage = "registry.test/atlas:v1"
)

func imageVolume(o *v1alpha1.DBUpgrade) {
	o.Spec.Migrations.Extraction = v1alpha1.ExtractionImageVolume
}

// upstream has the operator use the upstream command lines, which the player runs as they were built from their modules.
func upstream(h *hand) {
	h.t.Helper()
	h.player.Upstream = map[string]string{}
	for image, name := range map[string]string{craneImage: "crane", atlasImage: "atlas"} {
		path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
		h.must(err)
		if _, err := os.Stat(path); err != nil {
			if os.Getenv("CI") == "true" {
				h.t.Fatalf("'make bin/%s' builds what this test needs: %v", name, err)
			}
			h.t.Skipf("NOT TESTED: 'make bin/%s' builds what this test needs: %v", name, err)
		}
		h.player.Upstream[image] = path
	}
	h.reconciler.Runner.CraneImage, h.reconciler.Runner.AtlasImage = craneImage, atlasImage
}

// unencrypted lets the Atlas CLI connect, which insists on TLS by default.
func (h *hand) unencrypted() {
	h.t.Helper()
	if !strings.Contains(h.url, "sslmode=disable") {
		h.url += "&sslmode=disable"
		h.secret("db", map[string]string{"url": h.url})
	}
}

// private is what the Atlas CLI says in its log, and thus in the status of its pod.
const private = "for-the-log-alone"

// expectUntold looks for a text in all that the operator says.
func (h *hand) expectUntold(text string) {
	h.t.Helper()
	said, err := json.Marshal(map[string]any{"object": h.get(), "events": fmt.Sprint(h.events.events), "manager": world.log.String()})
	h.must(err)
	if strings.Contains(string(said), text) {
		h.t.Errorf("%s is told: %s", text, said)
	}
}

func (h *hand) readyMessage(o *v1alpha1.DBUpgrade) string {
	return meta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionReady).Message
}

// TestImageVolume applies what the kubelet mounts, says what is wrong with it, and goes on once that is mended.
func TestImageVolume(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.reconciler.Runner.KubernetesVersion = version.MustParseGeneric("1.35.0")
	h.create(h.image("app:v1", steps(1)), imageVolume)
	obj := h.drive(settled)
	h.expectExecuted("1")
	if m := obj.Status.Migration; obj.Status.Image != "" || m.CurrentVersion != "20260101000000" || len(m.Applied) != 1 || m.DirectoryHash == "" {
		t.Errorf("image %q, migration %+v", obj.Status.Image, m)
	}

	h.registry.Push(t, "app:v2", registry.Image(t, map[string]string{"app/main": "x"}))
	h.setImage(h.registry.Ref("app:v2"))
	obj = h.drive(reason(v1alpha1.ReasonJobFailed))
	want := &v1alpha1.Failure{Class: v1alpha1.ImageInvalid,
		Error: `directory "/migrations" of the image: it is not in it (directories seen in /: app): set migrations.dir to the one that holds the migrations`}
	if diff := cmp.Diff(want, obj.Status.Migration.Failure); diff != "" {
		t.Error(diff)
	}

	missing := h.registry.Ref("app:v3")
	h.setImage(missing)
	obj = h.drive(reason(v1alpha1.ReasonImagePullFailed))
	if message := h.readyMessage(obj); !strings.Contains(message, "image "+missing+" cannot be pulled") || !strings.Contains(message, "MANIFEST_UNKNOWN") {
		t.Errorf("message %q", message)
	}
	h.image("app:v3", steps(2))
	h.drive(settled)
	h.expectExecuted("1 2")
	h.expectOneJobPerAttempt()
}

// TestImageVolumeNeedsKubernetes135: nothing is made that an older API server would take without the volume.
func TestImageVolumeNeedsKubernetes135(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.reconciler.Runner.KubernetesVersion = version.MustParseGeneric("v1.34.6")
	h.create(h.image("app:v1", steps(1)), imageVolume)
	obj := h.drive(reason(v1alpha1.ReasonInvalidSpec))
	if accepted := meta.FindStatusCondition(obj.Status.Conditions, v1alpha1.ConditionAccepted); accepted.Status != "False" || !strings.Contains(accepted.Message, "ImageVolume needs Kubernetes 1.35, and this is 1.34.6") {
		t.Errorf("accepted: %+v", accepted)
	}
	if jobs := h.jobs(); len(jobs) > 0 {
		t.Errorf("there are %d Jobs", len(jobs))
	}
	h.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Extraction = v1alpha1.ExtractionCrane })
	h.drive(settled)
	h.expectExecuted("1")
}

// TestAllowedPrefixes hold however the image is pulled, and before anybody pulls it.
func TestAllowedPrefixes(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	h.reconciler.Runner.AllowedImagePrefixes = []string{"registry.example.com/team"}
	h.create(h.image("app:v1", steps(1)), imageVolume)
	obj := h.drive(reason(v1alpha1.ReasonInvalidSpec))
	if message := h.readyMessage(obj); !strings.Contains(message, "is not within one that the operator allows (registry.example.com/team)") || len(h.jobs()) > 0 {
		t.Errorf("%d Jobs, message %q", len(h.jobs()), message)
	}
}

// TestUpstream has the real crane and the real Atlas CLI do the work, and fail at it.
func TestUpstream(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	upstream(h)
	h.unencrypted()
	h.create(h.image("app:v1", steps(1)))
	obj := h.drive(settled)
	h.expectExecuted("1")
	if obj.Status.Image != "" || obj.Status.Migration != nil && obj.Status.Migration.Failure != nil {
		t.Errorf("image %q, migration %+v", obj.Status.Image, obj.Status.Migration)
	}

	h.setImage(h.image("app:v2", steps(2, "ALTER TABLE nowhere ADD COLUMN c text DEFAULT '"+private+"';\n")))
	obj = h.drive(reason(v1alpha1.ReasonJobFailed))
	h.expectExecuted("1")
	failure := obj.Status.Migration.Failure
	if failure.Class != v1alpha1.StatementFailed || !strings.Contains(failure.Error, `version "20260102000000": pq: relation "nowhere" does not exist`) || strings.Contains(failure.Error, "ALTER") {
		t.Errorf("failure %+v", failure)
	}
	h.expectUntold(private)

	h.setImage(h.registry.Ref("app:v3"))
	obj = h.drive(reason(v1alpha1.ReasonImagePullFailed))
	if message := h.readyMessage(obj); !strings.Contains(message, "MANIFEST_UNKNOWN") || !strings.Contains(message, "app/manifests/v3") {
		t.Errorf("message %q", message)
	}
	h.image("app:v3", steps(2))
	h.drive(settled)
	h.expectExecuted("1 2")

	h.secret("db", map[string]string{"url": "postgres://u:" + private + "%zz@127.0.0.1:1/db"})
	h.setImage(h.image("app:v4", steps(3)))
	obj = h.drive(reason(v1alpha1.ReasonDatabaseUnreachable))
	if message := h.readyMessage(obj); message != "Error: sql/sqlclient: parse open url: the URL cannot be parsed" {
		t.Errorf("message %q", message)
	}
	h.expectUntold(private)
	h.secret("db", map[string]string{"url": h.url})
	h.drive(settled)
	h.expectExecuted("1 2 3")
	h.expectOneJobPerAttempt()
}

// TestUpstreamLogin: of several pull Secrets crane gets the login that fits.
func TestUpstreamLogin(t *testing.T) {
	t.Parallel()
	h := newHand(t)
	upstream(h)
	h.unencrypted()
	h.registry = registry.New(t, registry.WithBasicAuth("bot", marker))
	h.secret("elsewhere", map[string]string{corev1.DockerConfigJsonKey: `{"auths":{"registry.test":{"auth":"eDp5"}}}`})
	h.secret("registry", map[string]string{corev1.DockerConfigJsonKey: string(h.registry.DockerConfig(t))})
	image := h.image("app:v1", steps(1))
	h.create(image)
	obj := h.drive(reason(v1alpha1.ReasonImagePullFailed))
	if message := h.readyMessage(obj); !strings.Contains(message, "UNAUTHORIZED") {
		t.Errorf("message %q", message)
	}
	h.edit(func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "elsewhere"}, {Name: "absent"}, {Name: "registry"}}
	})
	h.drive(settled)
	h.expectExecuted("1")
}
