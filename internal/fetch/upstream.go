// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// What the upstream command lines need where an operator has them do a step: crane a docker configuration before it, Atlas a project file after it.

// exported is an image that "crane export" has written to a file. Its layers are one by then.
func exported(file string, ref name.Reference) *image {
	tarball := layer{open: func() (io.ReadCloser, error) { return os.Open(file) }}
	return &image{layers: []layer{tarball}, failed: func(err error) error {
		if e, ok := errors.AsType[*Error](err); ok {
			return e
		}
		if r, ok := errors.AsType[refusal](err); ok {
			return failure(v1alpha1.ImageInvalid, r, "image %s: %v", ref, r)
		}
		return failure(v1alpha1.Internal, err, "image %s, as it was exported, cannot be read: %v", ref, err)
	}}
}

// Login writes a docker configuration for the image's registry to a new file: of all logins in the pull Secrets the one that fits best, or none. Of the
// options it needs Image, PullSecrets and Log. Its error is always an [*Error].
func Login(o Options, file string) error {
	o = o.withDefaults()
	ref, err := parseImage(o.Image, o.PlainHTTP)
	if err != nil {
		return err
	}
	secrets, err := openPullSecrets(o)
	if err != nil {
		return err
	}
	auths := map[string]authn.AuthConfig{}
	if logins := secrets.matching(ref.Context()); len(logins) > 0 {
		key := ref.Context().RegistryStr()
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		auths[key] = logins[0].config
		o.Log.Info("login chosen", "secret", logins[0].secret, "registry", ref.Context().RegistryStr())
	}
	data, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		return failure(v1alpha1.Internal, err, "the docker configuration cannot be written")
	}
	return writeNew(file, data)
}

// WriteAtlasProject writes a project file for the Atlas command line, which then, with "--env dbupgrade", finds the migrations in dir and the database in
// the environment variable DATABASE_URL: as a flag, everybody who can list processes would see its password. Its error is always an [*Error].
func WriteAtlasProject(file, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return diskError(err)
	}
	// Escaped as a URL, no path can end the string or begin a template of HCL's.
	at := url.URL{Scheme: "file", Path: dir}
	return writeNew(file, fmt.Appendf(nil, `env "dbupgrade" {
  url = getenv("DATABASE_URL")
  migration {
    dir = "%s"
  }
}
`, at.String()))
}

func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return diskError(err)
	}
	_, err = f.Write(data)
	return diskError(errors.Join(err, f.Close()))
}
