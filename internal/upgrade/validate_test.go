// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/subganapathy/automatic-db-upgrades/internal/upgrade"
	"github.com/subganapathy/automatic-db-upgrades/tests/builders"
)

func TestValidateImage(t *testing.T) {
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for image, valid := range map[string]bool{
		"app":                                true, // of Docker Hub, latest
		"app:v1":                             true,
		"team/app":                           true,
		"registry.test/app:v1":               true,
		"registry.test/team/sub/app:1.2.3":   true,
		"registry.test:5000/app:v1":          true,
		"localhost:5000/app":                 true,
		"127.0.0.1:5000/app:v1":              true,
		"[::1]:5000/app:v1":                  true,
		"registry.test/app@sha256:" + hex:    true,
		"registry.test/app:v1@sha256:" + hex: true,
		"registry.test/app:" + strings.Repeat("v", 128): true,

		"":                                              false,
		" ":                                             false,
		"registry.test/app:v1 ":                         false,
		"registry.test/my app":                          false,
		"registry.test/App":                             false, // upper case
		"registry.test/app:":                            false,
		"registry.test/app:v 1":                         false,
		"registry.test/app:v1:v2":                       false,
		"registry.test/app@sha256:abc":                  false,
		"registry.test/app@md5:" + hex:                  false,
		"registry.test/app@":                            false,
		"https://registry.test/app:v1":                  false,
		"oci://registry.test/app:v1":                    false,
		"docker://registry.test/app":                    false,
		"registry.test/app:v1\n":                        false,
		"registry.test/$(DATABASE_URL)":                 false,
		"registry.test/app;id":                          false,
		"registry.test/app:" + strings.Repeat("v", 129): false,
	} {
		t.Run(image, func(t *testing.T) {
			errs := upgrade.Validate(&builders.DBUpgrade(builders.Image(image)).Spec)
			if valid {
				if errs != nil {
					t.Error(errs)
				}
				return
			}
			if len(errs) != 1 {
				t.Fatalf("got %v", errs)
			}
			if e := errs[0]; e.Field != "spec.migrations.image" || e.Type != field.ErrorTypeInvalid || e.BadValue != image {
				t.Errorf("got %s %s of %q", e.Type, e.Field, e.BadValue)
			}
		})
	}
}
