// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Pushable is a v1.Image or a v1.ImageIndex.
type Pushable interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}

// Push puts an image or index into a registry, as the user that the Docker configuration knows there, and returns the reference by its
// digest. With plainHTTP the registry may speak HTTP.
func Push(ctx context.Context, to string, what Pushable, plainHTTP bool) (string, error) {
	var options []name.Option
	if plainHTTP {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(to, options...)
	if err != nil {
		return "", err
	}
	if err := remote.Push(ref, what, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("push %s: %w", to, err)
	}
	digest, err := what.Digest()
	if err != nil {
		return "", err
	}
	return ref.Context().Digest(digest.String()).String(), nil
}

// Write makes dir an OCI layout of one image or index. An older layout there is replaced, anything else is left alone.
func Write(dir string, what Pushable) error {
	switch _, err := os.Stat(filepath.Join(dir, "oci-layout")); {
	case err == nil:
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrNotExist):
		return err
	default:
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return fmt.Errorf("%s holds something that is no OCI layout", dir)
		}
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	switch what := what.(type) {
	case v1.ImageIndex:
		return l.AppendIndex(what)
	case v1.Image:
		return l.AppendImage(what)
	default:
		return fmt.Errorf("cannot write a %T", what)
	}
}

// Size returns how many bytes the layers of an image have, compressed as they lie in a registry and unpacked as they lie on a node.
func Size(img v1.Image) (int64, int64, error) {
	layers, err := img.Layers()
	if err != nil {
		return 0, 0, err
	}
	var compressed, unpacked int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return 0, 0, err
		}
		content, err := layer.Uncompressed()
		if err != nil {
			return 0, 0, err
		}
		n, err := io.Copy(io.Discard, content)
		if err := errors.Join(err, content.Close()); err != nil {
			return 0, 0, err
		}
		compressed, unpacked = compressed+size, unpacked+n
	}
	return compressed, unpacked, nil
}
