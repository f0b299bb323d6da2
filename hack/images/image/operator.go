// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// unprivileged is the user of an image that needs no user of its own: by number, so that a kubelet can see that it is not root.
const unprivileged = "65532:65532"

// OperatorConfig is the configuration of the operator's image. The Dockerfile says the same.
func OperatorConfig(version string) v1.Config {
	return v1.Config{
		User:       unprivileged,
		WorkingDir: "/",
		Entrypoint: []string{"/manager"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "DBUpgrade operator",
			"org.opencontainers.image.source":   "https://github.com/subganapathy/automatic-db-upgrades",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  version,
		},
	}
}

// Operator builds the operator's image for each of the platforms, from the checkout at root, and an index over them.
func Operator(ctx context.Context, root, version string, platforms []v1.Platform) (v1.ImageIndex, error) {
	config := OperatorConfig(version)
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range platforms {
		img, err := operator(ctx, root, version, config, platform)
		if err != nil {
			return nil, fmt.Errorf("build the operator for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return mutate.Annotations(index, config.Labels).(v1.ImageIndex), nil
}

func operator(ctx context.Context, root, version string, config v1.Config, platform v1.Platform) (v1.Image, error) {
	bin, err := os.MkdirTemp("", "operator-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(bin)
	// The Makefile alone knows how the binaries are built.
	if err := run(ctx, root, platform, "make", "build", "BIN="+bin, "VERSION="+version); err != nil {
		return nil, err
	}
	return Build([]File{
		{Path: "/manager", Mode: 0o755, Source: filepath.Join(bin, "manager")},
		{Path: "/runner", Mode: 0o755, Source: filepath.Join(bin, "runner")},
	}, config, platform)
}

// run runs a command that builds for the platform. Nothing in the environment may change what it builds.
func run(ctx context.Context, dir string, platform v1.Platform, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	for _, variable := range command.Environ() {
		key, _, _ := strings.Cut(variable, "=")
		switch key {
		case "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES": // of a make that runs us
		case "GOFLAGS", "GOEXPERIMENT", "GOAMD64", "GOARM64", "GOFIPS140", "GODEBUG":
		default:
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, output)
	}
	return nil
}
