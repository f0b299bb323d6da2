# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0
#
# The operator's image, for those who have a container engine; `make images` builds the same without one.
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$(git describe --tags --always --dirty) .
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH make build BIN=/out VERSION=$VERSION

FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="DBUpgrade operator" \
      org.opencontainers.image.source="https://github.com/subganapathy/automatic-db-upgrades" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version=$VERSION
COPY --from=build /out/manager /out/runner /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/manager"]
