// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

const (
	userAgent     = "dbupgrade-runner"
	maxLayers     = 500 // container runtimes stop at 128
	maxIndexDepth = 3
)

// puller reads one image from its registry.
type puller struct {
	ref       name.Reference
	secrets   pullSecrets
	transport *guard
	maxBytes  int64
}

func newPuller(o Options, ref name.Reference, secrets pullSecrets) *puller {
	p := &puller{ref: ref, secrets: secrets, transport: newGuard(o), maxBytes: o.MaxScanBytes}
	for _, l := range secrets.logins {
		p.transport.redact(l.config.Password, l.config.Auth, l.config.IdentityToken, l.config.RegistryToken)
	}
	return p
}

func (p *puller) resolve(ctx context.Context) (*image, error) {
	desc, err := p.get(ctx)
	if err != nil {
		return nil, p.pullError(err)
	}
	img, err := p.image(desc)
	if err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, p.invalid(err, "its manifest, of type %q, cannot be read: %v", desc.MediaType, err)
	}
	if err := p.checkSize(manifest.Layers); err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, p.invalid(err, "its manifest cannot be read: %v", err)
	}
	resolved := &image{name: p.ref.Context().Digest(desc.Digest.String()).Name(), failed: p.failed}
	for i, l := range layers {
		d := manifest.Layers[i]
		resolved.layers = append(resolved.layers, layer{size: d.Size, title: title(d), open: l.Compressed})
	}
	return resolved, nil
}

// get fetches the manifest, trying each login that fits until one is let in, as the kubelet does.
func (p *puller) get(ctx context.Context) (*remote.Descriptor, error) {
	auths := []authn.Authenticator{}
	for _, l := range p.secrets.matching(p.ref.Context()) {
		auths = append(auths, authn.FromConfig(l.config))
	}
	if len(auths) == 0 {
		auths = append(auths, authn.Anonymous)
	}
	var desc *remote.Descriptor
	var err error
	for _, auth := range auths {
		desc, err = remote.Get(p.ref, remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(p.transport), remote.WithUserAgent(userAgent))
		if !denied(err) {
			break
		}
	}
	return desc, err
}

// image goes down an index, and indexes in it, to an image.
func (p *puller) image(desc *remote.Descriptor) (v1.Image, error) {
	if !desc.MediaType.IsIndex() {
		img, err := desc.Image()
		if err != nil {
			return nil, p.invalid(err, "cannot be read: %v", err)
		}
		return img, nil
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, p.invalid(err, "cannot be read: %v", err)
	}
	for range maxIndexDepth {
		manifest, err := index.IndexManifest()
		if err != nil {
			return nil, p.invalid(err, "its index cannot be read: %v", err)
		}
		child, ok := choose(manifest.Manifests)
		if !ok {
			return nil, p.invalid(nil, "its index lists no image")
		}
		if !child.MediaType.IsIndex() {
			img, err := index.Image(child.Digest)
			if err != nil {
				return nil, p.pullError(err)
			}
			return img, nil
		}
		if index, err = index.ImageIndex(child.Digest); err != nil {
			return nil, p.pullError(err)
		}
	}
	return nil, p.invalid(nil, "its indexes are nested too deeply")
}

// choose takes the image for linux/amd64, or else the first one. Attestations are listed like images, for the platform unknown/unknown.
func choose(manifests []v1.Descriptor) (v1.Descriptor, bool) {
	images := slices.DeleteFunc(slices.Clone(manifests), func(d v1.Descriptor) bool {
		attestation := d.Platform != nil && d.Platform.OS == "unknown" || d.Annotations["vnd.docker.reference.type"] != ""
		return attestation || !d.MediaType.IsImage() && !d.MediaType.IsIndex()
	})
	if len(images) == 0 {
		return v1.Descriptor{}, false
	}
	usual := slices.IndexFunc(images, func(d v1.Descriptor) bool {
		return d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == "amd64"
	})
	return images[max(usual, 0)], true
}

// title is the path of the file that a layer of an artifact may be. Of a directory, "oras push" makes an archive whose entries have their paths.
func title(d v1.Descriptor) string {
	if d.Annotations["io.deis.oras.content.unpack"] == "true" {
		return ""
	}
	return d.Annotations["org.opencontainers.image.title"]
}

// checkSize trusts the sizes in the manifest because reading stops at them, unless they are negative.
func (p *puller) checkSize(layers []v1.Descriptor) error {
	if len(layers) > maxLayers {
		return p.invalid(nil, "has %d layers, more than %d", len(layers), maxLayers)
	}
	left := p.maxBytes
	for i, l := range layers {
		if l.Size < 0 {
			return p.invalid(nil, "layer %d has the size %d", i+1, l.Size)
		}
		if left -= l.Size; left < 0 {
			return p.invalid(nil, "its layers are larger than %d bytes together: use an image that holds little more than the migrations", p.maxBytes)
		}
	}
	return nil
}

func (p *puller) invalid(cause error, format string, args ...any) *Error {
	return failure(v1alpha1.ImageInvalid, cause, "image %s: %s", p.ref, p.transport.clean(fmt.Sprintf(format, args...)))
}

// pullError tells why the registry did not give the image, and what is known of the logins for it.
func (p *puller) pullError(err error) *Error {
	if errors.Is(err, errTooLong) {
		return p.invalid(err, "%v", errTooLong)
	}
	text := p.transport.explain(p.ref.Context().RegistryStr(), err)
	if denied(err) {
		used := p.secrets.matching(p.ref.Context())
		if len(used) == 0 {
			text += "; no pull secret has a login for it"
		} else {
			var names []string
			for _, l := range used {
				names = append(names, l.secret)
			}
			slices.Sort(names)
			text += "; refused login(s) from pull secret(s): " + strings.Join(slices.Compact(names), ", ")
		}
	}
	if len(p.secrets.absent) > 0 {
		text += "; pull secret(s) absent: " + strings.Join(p.secrets.absent, ", ")
	}
	return failure(v1alpha1.ImagePullFailed, err, "image %s: %s", p.ref, text)
}

// failed gives an error of the extraction its class.
func (p *puller) failed(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if r, ok := errors.AsType[refusal](err); ok {
		return p.invalid(r, "%v", r)
	}
	return p.pullError(err)
}

func denied(err error) bool {
	e, ok := errors.AsType[*transport.Error](err)
	return ok && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}
