// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
	"github.com/subganapathy/automatic-db-upgrades/internal/reference"
)

func parseImage(image string, plainHTTP bool) (name.Reference, error) {
	var opts []name.Option
	if plainHTTP {
		opts = append(opts, name.Insecure)
	}
	ref, err := reference.Parse(image, opts...)
	if err != nil {
		return nil, failure(v1alpha1.ImageInvalid, err, "migrations.image %q is not an image reference: %v", image, err)
	}
	return ref, nil
}

// checkAllowed refuses a repository, given by its full name, that is not within one of the prefixes.
func checkAllowed(repository string, prefixes []string) error {
	allowed, err := reference.Within(repository, prefixes)
	switch {
	case err != nil:
		return failure(v1alpha1.Internal, err, "allowed image %v: mend the operator's configuration", err)
	case !allowed:
		return failure(v1alpha1.ImageInvalid, nil, "image repository %s is not within one that the operator allows (%s): use an image from there", repository, strings.Join(prefixes, ", "))
	default:
		return nil
	}
}
