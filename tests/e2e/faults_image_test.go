//go:build e2e

// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"net"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/hack/images/image"
	"github.com/subganapathy/automatic-db-upgrades/tests/cluster"
	"github.com/subganapathy/automatic-db-upgrades/tests/migrations"
	"github.com/subganapathy/automatic-db-upgrades/tests/registry"
)

// imageFaults are told by the runner, which fetches the image with the migrations.
func imageFaults() []*fault { return slices.Concat(registryFaults(), loginFaults(), contentFaults()) }

func registryFaults() []*fault {
	var closed *registry.Registry
	return []*fault{
		{
			name:     "no such tag",
			start:    func(s *site) { s.secret(s.url()); s.create(s.appImage()) },
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"/app:no-such-tag: ", "MANIFEST_UNKNOWN"},
			mend:     func(s *site) { s.push(users) },
		},
		{
			name:     "no such repository",
			start:    func(s *site) { s.secret(s.url()); s.create(cluster.Registry + "/" + s.Namespace + "-later/app:v1") },
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"-later/app:v1: ", "404 Not Found"},
			mend:     func(s *site) { s.Push(ginkgo.GinkgoTB(), s.Namespace+"-later/app:v1", appImage(users)) },
		},
		{
			name: "no such registry",
			start: func(s *site) {
				_, port, err := net.SplitHostPort(cluster.Registry)
				if err != nil {
					ginkgo.GinkgoTB().Fatal(err)
				}
				s.push(users)
				s.secret(s.url())
				s.create(net.JoinHostPort(s.name+"."+s.Namespace+".svc.cluster.local", port) + "/" + s.Namespace + "/app:" + s.name)
			},
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"lookup no-such-registry.", "no such host"},
			mend: func(s *site) {
				host, _, err := net.SplitHostPort(cluster.Registry)
				if err != nil {
					ginkgo.GinkgoTB().Fatal(err)
				}
				s.add(&corev1.Service{ObjectMeta: s.named(), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: host}})
			},
		},
		{
			name: "registry down",
			start: func(s *site) {
				closed = s.registry()
				closed.Push(ginkgo.GinkgoTB(), "app:v1", appImage(users))
				closed.Down()
				s.secret(s.url())
				s.create(closed.Ref("app:v1"))
			},
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"connection refused"},
			mend:     func(*site) { closed.Up(ginkgo.GinkgoTB()) },
		},
	}
}

func loginFaults() []*fault {
	const user, password = "team", "s3cret"
	locked := map[string]*registry.Registry{} // by site
	private := func(s *site, change ...func(*v1alpha1.DBUpgrade)) {
		r := s.registry(registry.WithBasicAuth(user, password))
		r.Push(ginkgo.GinkgoTB(), "app:v1", appImage(users))
		locked[s.name] = r
		s.secret(s.url())
		s.create(r.Ref("app:v1"), change...)
	}
	pullSecret := func(s *site, config []byte) {
		secret := &corev1.Secret{ObjectMeta: s.named(), Type: corev1.SecretTypeDockerConfigJson}
		secret.Name += "-pull"
		s.change(secret, func() { secret.Data = map[string][]byte{corev1.DockerConfigJsonKey: config} })
	}
	goodSecret := func(s *site) { pullSecret(s, locked[s.name].DockerConfig(ginkgo.GinkgoTB())) }
	named := func(o *v1alpha1.DBUpgrade) {
		o.Spec.Migrations.ImagePullSecrets = []corev1.LocalObjectReference{{Name: o.Name + "-pull"}}
	}
	return []*fault{
		{
			name:     "login asked for",
			start:    func(s *site) { private(s) },
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"UNAUTHORIZED", "no pull secret has a login for it"},
			mend:     func(s *site) { goodSecret(s); s.edit(named) },
		},
		{
			name:     "pull Secret missing",
			start:    func(s *site) { private(s, named) },
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"UNAUTHORIZED", "pull secret(s) absent: pull-secret-missing-pull"},
			mend:     goodSecret,
		},
		{
			name: "login refused",
			start: func(s *site) {
				private(s, named)
				pullSecret(s, registry.DockerConfig(ginkgo.GinkgoTB(), locked[s.name].Host(), user, "wr0ng"))
			},
			reason:   v1alpha1.ReasonImagePullFailed,
			messages: []string{"UNAUTHORIZED", "refused login(s) from pull secret(s): login-refused-pull"},
			mend:     goodSecret,
		},
	}
}

func contentFaults() []*fault {
	mend := func(s *site) { s.setImage(s.image) }
	return []*fault{
		{
			name: "directory missing",
			start: func(s *site) {
				s.secret(s.url())
				s.create(s.image, func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/migratons" })
			},
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{`directory "/migratons" is not in it (directories seen in /: migrations): set migrations.dir`},
			degraded: true,
			mend:     func(s *site) { s.edit(func(o *v1alpha1.DBUpgrade) { o.Spec.Migrations.Dir = "/migrations" }) },
		},
		{
			name:     "no sum",
			start:    func(s *site) { s.secret(s.url()); s.create(s.pushFiles(users)) },
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"atlas.sum"},
			degraded: true,
			mend:     mend,
		},
		{
			name: "wrong sum",
			start: func(s *site) {
				files := migrations.WithSum(ginkgo.GinkgoTB(), users)
				for name := range users {
					files[name] += "DROP TABLE IF EXISTS users;\n"
				}
				s.secret(s.url())
				s.create(s.pushFiles(files))
			},
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"atlas.sum", "20260101000000_users.sql"},
			degraded: true,
			mend:     mend,
		},
		{
			name: "not an image",
			start: func(s *site) {
				tb := ginkgo.GinkgoTB()
				img, err := mutate.AppendLayers(empty.Image, static.NewLayer([]byte("these are no files"), types.OCILayer))
				if err != nil {
					tb.Fatal(err)
				}
				s.secret(s.url())
				s.create(s.Push(tb, s.Namespace+"/app:"+s.name, img))
			},
			reason:   v1alpha1.ReasonJobFailed,
			messages: []string{"/app:not-an-image: "},
			degraded: true,
			mend:     mend,
		},
	}
}

// appImage is the name of the site's own image.
func (s *site) appImage() string { return cluster.Registry + "/" + s.Namespace + "/app:" + s.name }

// push pushes the site's own image, with these migrations.
func (s *site) push(files map[string]string) string { return s.Image(ginkgo.GinkgoTB(), s.name, files) }

// pushFiles pushes the site's own image, with these files as they are.
func (s *site) pushFiles(files map[string]string) string {
	return s.Push(ginkgo.GinkgoTB(), s.Namespace+"/app:"+s.name, imageOf(files))
}

// registry is one that runs in this process.
func (s *site) registry(options ...registry.Option) *registry.Registry {
	tb := ginkgo.GinkgoTB()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.here, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	return registry.New(tb, append(options, registry.WithListener(listener))...)
}

// appImage is an image with these migrations.
func appImage(files map[string]string) v1.Image {
	return imageOf(migrations.WithSum(ginkgo.GinkgoTB(), files))
}

func imageOf(files map[string]string) v1.Image {
	var placed []image.File
	for _, name := range slices.Sorted(maps.Keys(files)) {
		placed = append(placed, image.File{Path: path.Join("/migrations", name), Mode: 0o644, Content: []byte(files[name])})
	}
	img, err := image.Build(placed, v1.Config{}, image.Host())
	if err != nil {
		ginkgo.GinkgoTB().Fatal(err)
	}
	return img
}
