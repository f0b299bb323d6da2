// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

// Package reference reads references to images and compares their repositories with the prefixes that an operator allows. The manager does so before
// it makes a Job, and the runner once more before it asks a registry.
package reference

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// What the distribution specification lets repositories and tags be. The library would also take a ".." between slashes, and thus let
// "allowed/../other" be a repository of "allowed".
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// Parse reads a reference by tag or digest.
func Parse(image string, options ...name.Option) (name.Reference, error) {
	ref, err := name.ParseReference(image, options...)
	if err != nil {
		return nil, err
	}
	tag, tagged := ref.(name.Tag)
	if !repositoryPattern.MatchString(ref.Context().RepositoryStr()) || tagged && !tagPattern.MatchString(tag.TagStr()) {
		return nil, errors.New("its repository or tag is not one a registry may have")
	}
	return ref, nil
}

// Within tells whether a repository, given by its full name, is one of the prefixes or lies in one, whole path components compared. With no prefixes
// all do. An error is about a prefix that is no registry or repository.
func Within(repository string, prefixes []string) (bool, error) {
	for _, prefix := range prefixes {
		full, err := fullPrefix(prefix)
		if err != nil {
			return false, fmt.Errorf("prefix %q is not a registry or repository: %w", prefix, err)
		}
		if repository == full || strings.HasPrefix(repository, full+"/") {
			return true, nil
		}
	}
	return len(prefixes) == 0, nil
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
