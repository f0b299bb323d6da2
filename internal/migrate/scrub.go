// Copyright 2026 The DBUpgrade Operator Authors
// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
)

// Shorter secrets are not looked for: replacing them would garble every text, and they protect nothing.
const minSecret = 4

// scrubber takes secrets out of texts. What reaches it should hold none; it is there for the texts of libraries and servers.
type scrubber struct{ *strings.Replacer }

// newScrubber knows a database URL and more secrets, each as it is and as it would be written in a URL.
func newScrubber(rawURL string, more ...string) scrubber {
	secrets := append([]string{rawURL}, more...)
	if u, err := url.Parse(rawURL); err == nil {
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, password)
			_, escaped, _ := strings.Cut(u.User.String(), ":")
			secrets = append(secrets, escaped)
		}
		secrets = append(secrets, u.Query()["password"]...)
		secrets = append(secrets, u.Query()["sslpassword"]...)
	}
	var pairs []string
	for _, s := range secrets {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			if len(form) >= minSecret {
				pairs = append(pairs, form, "***")
			}
		}
	}
	return scrubber{strings.NewReplacer(pairs...)}
}

// logger is log without the secrets.
func (s scrubber) logger(log *slog.Logger) *slog.Logger {
	return slog.New(scrubHandler{log.Handler(), s})
}

type scrubHandler struct {
	slog.Handler
	scrub scrubber
}

func (h scrubHandler) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, h.scrub.Replace(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h scrubHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return scrubHandler{h.Handler.WithAttrs(clean), h.scrub}
}

func (h scrubHandler) WithGroup(name string) slog.Handler {
	return scrubHandler{h.Handler.WithGroup(name), h.scrub}
}

func (h scrubHandler) attr(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString, slog.KindAny:
		return slog.String(a.Key, h.scrub.Replace(v.String()))
	default:
		return a
	}
}
