// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// What the distribution specification lets repositories and tags be. The library would also take a ".." between slashes, and thus let
// "allowed/../other" be a repository of "allowed".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

func parseImage(image string, plainHTTP bool) (name.Reference, error) {
	var opts []name.Option
	if plainHTTP {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(image, opts...)
	if err != nil {
		return nil, failure(v1alpha1.ImageInvalid, err, "migrations.image %q is not an image reference: %v", image, err)
	}
	tag, tagged := ref.(name.Tag)
	if !repositoryPattern.MatchString(ref.Context().RepositoryStr()) || tagged && !tagPattern.MatchString(tag.TagStr()) {
		return nil, failure(v1alpha1.ImageInvalid, nil, "migrations.image %q is not an image reference: its repository or tag is not one a registry may have", image)
	}
	return ref, nil
}

// checkAllowed refuses a repository, given by its full name, that is not within one of the prefixes, whole path components compared.
func checkAllowed(repository string, prefixes []string) error {
	if len(prefixes) == 0 {
		return nil
	}
	for _, prefix := range prefixes {
		full, err := fullPrefix(prefix)
		if err != nil {
			return failure(v1alpha1.Internal, err, "allowed image prefix %q is not a registry or repository: mend the operator's configuration", prefix)
		}
		if repository == full || strings.HasPrefix(repository, full+"/") {
			return nil
		}
	}
	return failure(v1alpha1.ImageInvalid, nil, "image repository %s is not within one that the operator allows (%s): use an image from there", repository, strings.Join(prefixes, ", "))
}

// fullPrefix completes a prefix as the library does a reference, so that the two compare: docker.io/team is index.docker.io/team. It
// does not add Docker Hub's "library/", for "docker.io/team" is meant as an organisation here.
func fullPrefix(prefix string) (string, error) {
	registry, rest, _ := strings.Cut(strings.TrimRight(prefix, "/"), "/")
	if rest != "" && registry != "localhost" && !strings.ContainsAny(registry, ".:") {
		registry, rest = name.DefaultRegistry, registry+"/"+rest
	}
	r, err := name.NewRegistry(registry, name.StrictValidation)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(r.Name()+"/"+rest, "/"), nil
}
