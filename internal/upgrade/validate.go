// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// Validate finds what the schema cannot say about a spec. The webhook refuses it; where the webhook was away, Decide reports it.
func Validate(spec *v1alpha1.DBUpgradeSpec) field.ErrorList {
	var errs field.ErrorList
	image := field.NewPath("spec", "migrations", "image")
	const wanted = "is not an image reference such as registry.example.com/team/app:v1.2.3 or …@sha256:…: "
	if _, err := name.ParseReference(spec.Migrations.Image); err != nil {
		errs = append(errs, field.Invalid(image, spec.Migrations.Image, wanted+err.Error()))
	} else if scheme, _, found := strings.Cut(spec.Migrations.Image, "://"); found {
		errs = append(errs, field.Invalid(image, spec.Migrations.Image, wanted+"leave "+scheme+":// out"))
	}
	secrets := field.NewPath("spec", "migrations", "imagePullSecrets")
	for i, secret := range spec.Migrations.ImagePullSecrets {
		for _, problem := range validation.IsDNS1123Subdomain(secret.Name) {
			errs = append(errs, field.Invalid(secrets.Index(i).Child("name"), secret.Name, "is no name of a Secret: "+problem))
		}
	}
	return errs
}
