// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"regexp"
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
	extraction := migrations.Child("extraction")
	if v := config.KubernetesVersion; spec.Migrations.Extraction == v1alpha1.ExtractionImageVolume && v != nil && v.LessThan(imageVolumes) {
		errs = append(errs, field.Forbidden(extraction, fmt.Sprintf("ImageVolume needs Kubernetes 1.35, and this is %s: use Crane", v)))
	}
	if config.AtlasImage != "" {
		errs = append(errs, validateUpstream(spec)...)
	}
	return errs
}

// validateUpstream refuses what the Atlas CLI cannot do, or not as it is promised. Findings it tells none, so lint Warn comes to nothing there.
func validateUpstream(spec *v1alpha1.DBUpgradeSpec) field.ErrorList {
	path := field.NewPath("spec")
	migrations, apply := path.Child("migrations"), path.Child("migrations", "apply")
	var errs field.ErrorList
	for _, c := range []struct {
		asked  bool
		field  *field.Path
		remedy string
	}{
		{spec.Mode == v1alpha1.ModePlan, path.Child("mode"), "its dry run changes the database"},
		{spec.Migrations.Extraction == v1alpha1.ExtractionImageVolume, migrations.Child("extraction"), "use Crane"},
		{spec.Migrations.Lint == v1alpha1.LintEnforce, migrations.Child("lint"), "have the migrations checked before they are built into their image"},
		{spec.Migrations.Apply.ToVersion != "", apply.Child("toVersion"), "use an image that ends there"},
		{spec.Migrations.Apply.StatementLockTimeout != nil, apply.Child("statementLockTimeout"), "set it for the role, or in the URL"},
		{spec.Migrations.Apply.StatementTimeout != nil, apply.Child("statementTimeout"), "set it for the role, or in the URL"},
		{spec.Database.TLS != nil, path.Child("database", "tls"), "use the parameters of the URL"},
	} {
		if c.asked {
			errs = append(errs, field.Forbidden(c.field, "is not for an operator that runs the Atlas CLI (--atlas-image): "+c.remedy))
		}
	}
	return errs
}

// resolution is what the resolve annotation may say.
var resolution = regexp.MustCompile(`^(redo|skip):[A-Z2-7]{8}$`)

// ValidateResolve finds what is wrong with an object's resolve annotation. Where the webhook was away, it is as good as absent.
func ValidateResolve(obj *v1alpha1.DBUpgrade, config RunnerConfig) field.ErrorList {
	path, value := field.NewPath("metadata", "annotations").Key(v1alpha1.AnnotationResolve), obj.Annotations[v1alpha1.AnnotationResolve]
	switch {
	case value == "":
		return nil
	case !resolution.MatchString(value):
		return field.ErrorList{field.Invalid(path, value, "must be redo:<ID>, to have the statement executed again, or skip:<ID>, to have it taken for executed, "+
			"with the 8 characters that the message of the condition Ready names")}
	case config.AtlasImage != "":
		return field.ErrorList{field.Forbidden(path, "is not for an operator that runs the Atlas CLI (--atlas-image): it leaves nothing in doubt")}
	default:
		return nil
	}
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
