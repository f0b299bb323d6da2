//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/stage"
)

var _ = ginkgo.Describe("Migrations in an image that the kubelet mounts", func() {
	mounted := func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Extraction = v1alpha1.ExtractionImageVolume }

	ginkgo.It("are applied by a pod of one container", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("mounted")
		team.Create(tb, "users", team.Image(tb, "v1", users), mounted)
		obj := team.Ready(tb, "users", v1alpha1.ReasonMigrationComplete)
		if applied := team.Applied(tb); !slices.Equal(applied, []string{"20260101000000"}) {
			tb.Errorf("applied: %v", applied)
		}
		pod := stage.Get[batchv1.Job](team, tb, obj.Status.Attempt.Job).Spec.Template.Spec
		if len(pod.InitContainers) != 0 || len(pod.Containers) != 1 {
			tb.Errorf("%d init containers and %d containers", len(pod.InitContainers), len(pod.Containers))
		}
		if obj.Status.Image != "" {
			tb.Errorf("image %s: nobody knows the digest", obj.Status.Image)
		}
	})

	ginkgo.It("are told to be missing, by the kubelet or the runner, until they are there", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("unmounted")
		img := strings.TrimSuffix(team.Image(tb, "other", users), "other")
		team.Create(tb, "late", img+"late", mounted)
		stage.Wait(team, tb, "late", "says that its image cannot be pulled", func(d *v1alpha1.DBUpgrade) bool {
			return strings.Contains(ready(d).Message, "app:late") && strings.Contains(ready(d).Message, "not found")
		})
		team.Image(tb, "late", users)
		team.Ready(tb, "late", v1alpha1.ReasonMigrationComplete)

		team.Create(tb, "elsewhere", img+"other", mounted, func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Dir = "/sql" })
		obj := team.Ready(tb, "elsewhere", v1alpha1.ReasonJobFailed)
		if message := ready(obj).Message; !strings.Contains(message, "/sql") || !strings.Contains(message, "directories seen in /: migrations") {
			tb.Errorf("message: %s", message)
		}
	})
})

// The whole operator is changed, so these are alone.
var _ = ginkgo.Describe("The upstream command lines", ginkgo.Serial, func() {
	ginkgo.It("do both steps where the operator wants that", func() {
		tb := ginkgo.GinkgoTB()
		team := newTeam("upstream")
		manifests := on.Kubectl(tb, "", "kustomize", stage.Root()+"/tests/stage/operator")
		afterwards("", rolledOut...)
		afterwards(manifests, apply...)
		var patch []map[string]string
		for _, name := range []string{"crane", "atlas"} {
			img, err := image.Static(stage.Root() + "/bin/" + name)
			if err != nil {
				tb.Fatal(err)
			}
			patch = append(patch, map[string]string{
				"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--" + name + "-image=" + on.Push(tb, name+":upstream", img),
			})
		}
		text, err := json.Marshal(patch)
		if err != nil {
			tb.Fatal(err)
		}
		on.Kubectl(tb, "", "patch", "deployment", stage.Manager, "--namespace="+stage.Namespace, "--type=json", "--patch="+string(text))
		on.Kubectl(tb, "", rolledOut...)

		team.Create(tb, "users", team.Image(tb, "v1", users))
		team.Ready(tb, "users", v1alpha1.ReasonMigrationComplete)
		broken := map[string]string{"20260102000000_again.sql": "CREATE TABLE users (id int);\n"}
		for name, sql := range users {
			broken[name] = sql
		}
		v2 := team.Image(tb, "v2", broken)
		team.Update(tb, "users", func(d *v1alpha1.DBUpgrade) { d.Spec.Migrations.Image = v2 })
		obj := team.Ready(tb, "users", v1alpha1.ReasonJobFailed)
		if message := ready(obj).Message; !strings.Contains(message, `"20260102000000"`) || !strings.Contains(message, `relation "users" already exists`) {
			tb.Errorf("message: %s", message)
		}
		if applied := team.Query(tb, "SELECT version FROM atlas_schema_revisions.atlas_schema_revisions WHERE error IS NULL OR error = ''"); !slices.Equal(applied, []string{"20260101000000"}) {
			tb.Errorf("applied: %v", applied)
		}
	})
})
