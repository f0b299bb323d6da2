// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/reference"
)

// imageVolumes is the version of Kubernetes from which on image volumes are there by default.
var imageVolumes = version.MustParseGeneric("1.35.0")

// Validate finds what the schema cannot say about a spec, and what this operator cannot do. The webhook refuses it; where the webhook was away, Decide
// reports it.
func Validate(spec *v1alpha1.DBUpgradeSpec, config RunnerConfig) field.ErrorList {
	migrations := field.NewPath("spec", "migrations")
	errs := validateImage(migrations.Child("image"), spec.Migrations.Image, config)
	secrets := migrations.Child("imagePullSecrets")
	for i, secret := range spec.Migrations.ImagePullSecrets {
		for _, problem := range validation.IsDNS1123Subdomain(secret.Name) {
			errs = append(errs, field.Invalid(secrets.Index(i).Child("name"), secret.Name, "is no name of a Secret: "+problem))
		}
	}
	if spec.Migrations.Extraction != v1alpha1.ExtractionImageVolume {
		return errs
	}
	extraction := migrations.Child("extraction")
	if v := config.KubernetesVersion; v != nil && v.LessThan(imageVolumes) {
		errs = append(errs, field.Forbidden(extraction, fmt.Sprintf("ImageVolume needs Kubernetes 1.35, and this is %s: use Crane", v)))
	}
	if config.AtlasImage != "" {
		errs = append(errs, field.Forbidden(extraction, "ImageVolume is not for an operator that runs the Atlas CLI (--atlas-image): use Crane"))
	}
	return errs
}

// validateImage asks for the allowed prefixes here already, since a kubelet or crane would pull whatever it is told to.
func validateImage(path *field.Path, image string, config RunnerConfig) field.ErrorList {
	const wanted = "is not an image reference such as registry.example.com/team/app:v1.2.3 or …@sha256:…: "
	if scheme, _, found := strings.Cut(image, "://"); found {
		return field.ErrorList{field.Invalid(path, image, wanted+"leave "+scheme+":// out")}
	}
	ref, err := reference.Parse(image)
	if err != nil {
		return field.ErrorList{field.Invalid(path, image, wanted+err.Error())}
	}
	repository, prefixes := ref.Context().Name(), config.AllowedImagePrefixes
	if allowed, err := reference.Within(repository, prefixes); err != nil || !allowed {
		return field.ErrorList{field.Forbidden(path, fmt.Sprintf("repository %s is not within one that the operator allows (%s): use an image from there",
			repository, strings.Join(prefixes, ", ")))}
	}
	return nil
}
