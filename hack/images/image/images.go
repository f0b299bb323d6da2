// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Program is a static binary, built from a package of the checkout at root such as ./hack/images/pause, as a file of an image for this
// machine's platform.
func Program(ctx context.Context, root, pkg, name string) (File, error) {
	dir, err := os.MkdirTemp("", "program-")
	if err != nil {
		return File{}, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	err = run(ctx, root, Host(), "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, pkg)
	if err != nil {
		return File{}, err
	}
	content, err := os.ReadFile(out)
	return File{Path: name, Mode: 0o755, Content: content}, err
}

// App is the image of an app: the files of dir at its root, among them /migrations or the like. It runs the command, whose first word
// is a program in it; without one the image can only be read.
func App(dir string, command []string, more ...File) (v1.Image, error) {
	files, err := Dir(dir)
	if err != nil {
		return nil, err
	}
	return Build(append(files, more...), v1.Config{User: unprivileged, WorkingDir: "/", Entrypoint: command}, Host())
}

// Static is an image of one static program of this machine.
func Static(binary string) (v1.Image, error) {
	program := File{Path: "/" + filepath.Base(binary), Mode: 0o755, Source: binary}
	return Build([]File{program}, v1.Config{User: unprivileged, WorkingDir: "/", Entrypoint: []string{program.Path}}, Host())
}
