// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/subganapathy/automatic-db-upgrades/api/v1alpha1"
)

// pullSecrets are the logins of all mounted pull Secrets, the most specific first.
type pullSecrets struct {
	logins []login
	absent []string // names of Secrets
}

// login is one entry of a Secret's docker configuration.
type login struct {
	secret string // its name
	host   string // with port, if any; labels may be globs, as the kubelet has it
	path   string // "" or a repository prefix
	config authn.AuthConfig
}

// openPullSecrets reads the pull Secrets and tells of absent ones.
func openPullSecrets(o Options) (pullSecrets, error) {
	secrets, err := readPullSecrets(o.PullSecrets)
	if err == nil && len(secrets.absent) > 0 {
		o.Log.Info("pull secrets absent", "secrets", secrets.absent)
	}
	return secrets, err
}

func readPullSecrets(dirs []string) (pullSecrets, error) {
	var all pullSecrets
	for _, dir := range dirs {
		secret := filepath.Base(dir)
		logins, err := readSecret(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			all.absent = append(all.absent, secret)
		case err != nil:
			return pullSecrets{}, failure(v1alpha1.ImagePullFailed, err, "pull secret %s cannot be read (%v): recreate it, such as with kubectl create secret docker-registry", secret, err)
		}
		for key, config := range logins {
			all.logins = append(all.logins, newLogin(secret, key, config))
		}
	}
	slices.SortStableFunc(all.logins, func(a, b login) int {
		return cmp.Or(
			cmp.Compare(len(b.path), len(a.path)),
			cmp.Compare(strings.Count(a.host, "*"), strings.Count(b.host, "*")),
			cmp.Compare(a.host+a.path, b.host+b.path), // the order in a JSON object says nothing
		)
	})
	return all, nil
}

// readSecret reads a Secret from where it is mounted. Its errors say nothing of the content; those of encoding/json may quote it.
func readSecret(dir string) (map[string]authn.AuthConfig, error) {
	data, err := os.ReadFile(filepath.Join(dir, ".dockerconfigjson"))
	if err == nil {
		var config struct {
			Auths map[string]authn.AuthConfig `json:"auths"`
		}
		if json.Unmarshal(data, &config) != nil {
			return nil, errors.New(".dockerconfigjson is not a docker configuration in JSON")
		}
		return config.Auths, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if data, err = os.ReadFile(filepath.Join(dir, ".dockercfg")); err != nil {
		return nil, err
	}
	var config map[string]authn.AuthConfig
	if json.Unmarshal(data, &config) != nil {
		return nil, errors.New(".dockercfg is not a docker configuration in JSON")
	}
	return config, nil
}

// newLogin takes apart the key of an entry, which may be a host, a repository or, as older tools write it, a URL such as https://index.docker.io/v1/.
func newLogin(secret, key string, config authn.AuthConfig) login {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, prefix, _ := strings.Cut(key, "/")
	prefix = strings.Trim(prefix, "/")
	for _, version := range []string{"v1", "v2"} {
		if prefix == version || strings.HasPrefix(prefix, version+"/") {
			prefix = strings.TrimLeft(prefix[len(version):], "/")
			break
		}
	}
	if host == "docker.io" {
		host = name.DefaultRegistry
	}
	return login{secret: secret, host: host, path: prefix, config: config}
}

// matching are the logins for a repository, the most specific first.
func (s pullSecrets) matching(repository name.Repository) []login {
	var found []login
	for _, l := range s.logins {
		repo := repository.RepositoryStr()
		covered := l.path == "" || repo == l.path || strings.HasPrefix(repo, l.path+"/")
		if covered && l.config != (authn.AuthConfig{}) && hostMatches(l.host, repository.RegistryStr()) {
			found = append(found, l)
		}
	}
	return found
}

// hostMatches compares label by label, so that a * never stands for more than one; ports must be equal.
func hostMatches(pattern, host string) bool {
	if pattern == host {
		return true
	}
	pattern, patternPort, _ := strings.Cut(pattern, ":")
	host, port, _ := strings.Cut(host, ":")
	patterns, labels := strings.Split(pattern, "."), strings.Split(host, ".")
	if patternPort != port || len(patterns) != len(labels) {
		return false
	}
	for i, p := range patterns {
		if ok, err := path.Match(p, labels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
