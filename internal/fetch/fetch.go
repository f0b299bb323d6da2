// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// Limits where Options leaves them open.
const (
	DefaultMaxBytes     = 64 << 20
	DefaultMaxFiles     = 10_000
	DefaultMaxScanBytes = 20 << 30
	DefaultTimeout      = 30 * time.Minute
)

// Options says what to fetch and where to put it.
type Options struct {
	// Image is a reference by tag or digest.
	Image string
	// Dir is the absolute path of the directory in the image; "/" is the whole image.
	Dir string
	// Tarball is a file that holds the image already, flattened, as "crane export" writes it. No registry is asked then, and no digest reported.
	Tarball string
	// Out is a local directory. It must exist and be empty; what Dir holds is put right into it.
	Out string
	// PullSecrets are the directories where Secrets of type kubernetes.io/dockerconfigjson or dockercfg are mounted, each named like its Secret.
	// One that is missing or empty is reported, not an error: the image may be public.
	PullSecrets []string
	// PlainHTTP lets registries be asked over HTTP where they do not speak HTTPS. Otherwise not even local ones are.
	PlainHTTP bool
	// AllowedPrefixes are registries or repositories, such as registry.example.com/team, of which the image must be one or lie in one. Empty: all are allowed.
	AllowedPrefixes []string
	// MaxBytes of all files in Dir together, those counted too that are replaced within their layer, and links as often as they occur.
	MaxBytes int64
	// MaxFiles is how many entries Dir may have: files, directories, links and deletions.
	MaxFiles int
	// MaxScanBytes is how much may be read of the image's layers: packed, and again unpacked.
	MaxScanBytes int64
	// Timeout bounds the whole: a registry that keeps dripping bytes would hold the database's lock for ever.
	Timeout time.Duration
	// Log gets a line for each step. Nil is silent.
	Log *slog.Logger

	transport http.RoundTripper // nil but in tests
}

// Report is what was fetched.
type Report struct {
	// Image as repository@digest, where the digest is that of what was asked for: an index where the reference is to one. Empty for a tarball.
	Image string
	// Files and their Bytes in Out.
	Files int
	Bytes int64
}

// Error is every error of this package.
type Error struct {
	// Class is ImagePullFailed, ImageInvalid, Interrupted or Internal.
	Class v1alpha1.FailureClass
	// Message tells a person what was seen and what to do. No credential is in it.
	Message string
	// Cause may be nil. Its own text may hold what must not be shown.
	Cause error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

func failure(class v1alpha1.FailureClass, cause error, format string, args ...any) *Error {
	return &Error{Class: class, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// Run fetches a directory of an image. Its error is always an [*Error]; Out is then empty again, unless it was not empty in the first place.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	bounded, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	report, err := run(bounded, o)
	if err == nil {
		return report, nil
	}
	if ctx.Err() == nil && bounded.Err() != nil {
		return Report{}, failure(v1alpha1.ImagePullFailed, err, "image %s could not be read within %s: its registry is too slow", o.Image, o.Timeout)
	}
	if ctx.Err() != nil {
		return Report{}, failure(v1alpha1.Interrupted, err, "fetching image %s was interrupted: %v", o.Image, context.Cause(ctx))
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return Report{}, e
	}
	return Report{}, failure(v1alpha1.Internal, err, "image %s: %v", o.Image, err)
}

func run(ctx context.Context, o Options) (Report, error) {
	dir := path.Clean(o.Dir)
	if !path.IsAbs(dir) || slices.Contains(strings.Split(o.Dir, "/"), "..") {
		return Report{}, failure(v1alpha1.ImageInvalid, nil, "directory %q is not an absolute path without \"..\": set migrations.dir to one such as /migrations", o.Dir)
	}
	ref, err := parseImage(o.Image, o.PlainHTTP)
	if err != nil {
		return Report{}, err
	}
	if err := checkAllowed(ref.Context().Name(), o.AllowedPrefixes); err != nil {
		return Report{}, err
	}
	ctx, stop := context.WithCancel(ctx) // of all transfers
	defer stop()
	img, err := open(ctx, o, ref)
	if err != nil {
		return Report{}, err
	}
	stage, err := newStage(o.Out)
	if err != nil {
		return Report{}, err
	}
	defer stage.close()

	x := newExtraction(o, dir, stage)
	if err := x.read(ctx, stop, img.layers, o.Log); err != nil {
		return Report{}, img.failed(err)
	}
	if err := x.publish(); err != nil {
		return Report{}, img.failed(err)
	}
	o.Log.Info("directory extracted", "image", img.name, "dir", dir, "files", x.files, "bytes", x.bytes, "transferredBytes", x.transferred.Load())
	return Report{Image: img.name, Files: x.files, Bytes: x.bytes}, nil
}

// image is one whose layers can be read. In a registry all of it is read by digest.
type image struct {
	name   string // repository@digest of what was asked for, where that is known
	layers []layer
	failed func(error) error // gives an error of the extraction its class
}

func open(ctx context.Context, o Options, ref name.Reference) (*image, error) {
	if o.Tarball != "" {
		return exported(o.Tarball, ref), nil
	}
	secrets, err := openPullSecrets(o)
	if err != nil {
		return nil, err
	}
	img, err := newPuller(o, ref, secrets).resolve(ctx)
	if err != nil {
		return nil, err
	}
	o.Log.Info("image resolved", "image", img.name, "layers", len(img.layers))
	return img, nil
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.MaxScanBytes == 0 {
		o.MaxScanBytes = DefaultMaxScanBytes
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
