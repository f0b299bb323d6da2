# Copyright 2026 The DBUpgrade Operator Authors
# SPDX-License-Identifier: Apache-2.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := $(CURDIR)/bin
CONTROLPLANE := $(BIN)/controlplane
CLUSTER := $(BIN)/cluster
# Which local cluster: several can run side by side.
INSTANCE ?= 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 1m
TESTFLAGS ?=

# Tests find the control plane by its variable and other tools in PATH.
export KUBEBUILDER_ASSETS := $(CONTROLPLANE)
export PATH := $(BIN):$(PATH):$(BIN)/cluster

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## Build bin/manager and bin/runner.
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/manager .
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/runner ./cmd/runner

.PHONY: generate
generate: $(BIN)/controller-gen ## Regenerate deepcopy code, the CRD, RBAC and webhook manifests.
	$(BIN)/controller-gen object:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(BIN)/controller-gen crd rbac:roleName=manager-role webhook paths=./api/... paths=./controllers/... paths=./webhooks/... \
		output:crd:dir=config/crd/bases output:rbac:dir=config/rbac output:webhook:dir=config/webhook

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format the Go code.
	$(BIN)/golangci-lint fmt

.PHONY: clean
clean: ## Remove what was built, tools and control plane included.
	rm -rf $(BIN)

##@ Images

.PHONY: images
images: $(BIN)/images ## Build the operator's image for both platforms into bin/image, without a container engine.
	$(BIN)/images operator --version=$(VERSION) --out=$(BIN)/image

.PHONY: image-push
image-push: $(BIN)/images ## Build it, and push it as IMG.
	$(if $(IMG),,$(error IMG is the name to push it as, such as registry.example.com/dbupgrade-operator:dev))
	$(BIN)/images operator --version=$(VERSION) --push=$(IMG)

.PHONY: docker-build
docker-build: ## Build it by a container engine, for this machine, as IMG.
	$(if $(IMG),,$(error IMG is the name to give it, such as registry.example.com/dbupgrade-operator:dev))
	docker build --build-arg VERSION=$(VERSION) --tag $(IMG) .

##@ Check

.PHONY: test
test: prerequisites envtest-assets $(BIN)/atlas $(BIN)/crane $(BIN)/kustomize ## Run all tests, with the race detector, and those of memory without.
	go test -race -timeout 20m $(TESTFLAGS) ./...
	@# The race detector multiplies memory, so hostile images at full size and the bound on memory are tried without it.
	go test -timeout 10m $(TESTFLAGS) ./internal/fetch

# Clusters of their own, so that they never touch one that somebody is looking at.
e2e: INSTANCE = 9
chaos: INSTANCE = 8

.PHONY: e2e
e2e: prerequisites cluster-binaries $(addprefix $(BIN)/,atlas crane ginkgo kuttl kustomize) ## Tell the stories on a local cluster, and look for what one leaves (root).
	@# Most of the time a story waits, so there are more of them than cores.
	hack/on-cluster.sh $(INSTANCE) ginkgo run --tags=e2e --procs=4 --randomize-all --keep-going --timeout=30m $(TESTFLAGS) ./tests/e2e
	go test -tags=e2e -timeout=10m ./tests/cluster

.PHONY: chaos
chaos: prerequisites cluster-binaries $(BIN)/kustomize ## Kill and cut in the middle of migrations, on a local cluster (root).
	@# Most of the time a migration waits, so there are more of them than cores.
	hack/on-cluster.sh $(INSTANCE) go test -tags=e2e -timeout=30m -parallel=8 $(TESTFLAGS) ./tests/chaos

.PHONY: test-unit
test-unit: ## Run the tests that need nothing but Go, in seconds.
	go test $(TESTFLAGS) ./api/... ./internal/upgrade/... ./internal/result/...

.PHONY: lint
lint: $(BIN)/golangci-lint ## Lint the Go code, tests included.
	$(BIN)/golangci-lint run

.PHONY: verify
verify: $(BIN)/controller-gen $(BIN)/kustomize ## Fail where generated files, go.mod, manifests or licence headers are not in order.
	hack/verify.sh

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (1m).
	hack/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: bench-apiserver bench-files bench-fetch bench-cluster ## Run all benchmarks, for an hour (root).

.PHONY: bench-apiserver
bench-apiserver: prerequisites envtest-assets ## Run the benchmarks that need no cluster but an API server.
	go test -run '^$$' -bench . -timeout 60m $(TESTFLAGS) ./tests/bench

.PHONY: bench-files
bench-files: prerequisites $(BIN)/atlas ## Run the benchmarks of directories with many files, beside the Atlas CLI and a bare loop.
	go test -run '^$$' -bench . -benchtime 5x -timeout 60m $(TESTFLAGS) ./tests/bench/files

.PHONY: bench-fetch
bench-fetch: $(BIN)/crane ## Run the benchmarks of fetching from a large image, beside crane and tar.
	go test -run='^$$' -bench=Fetch -benchtime=7x -timeout=30m $(TESTFLAGS) ./tests/bench/fetch

bench-cluster: INSTANCE = 7

.PHONY: bench-cluster
bench-cluster: prerequisites cluster-binaries $(BIN)/kustomize $(BIN)/kwok ## Run the benchmarks of a real cluster, for half an hour (root).
	hack/on-cluster.sh $(INSTANCE) go test -tags=e2e -run='^$$' -bench=Latency -benchtime=24x -timeout=60m $(TESTFLAGS) ./tests/bench/cluster
	hack/on-cluster.sh $(INSTANCE) go test -tags=e2e -run='^$$' -bench=Fleet/objects=300 -benchtime=2x -timeout=60m $(TESTFLAGS) ./tests/bench/cluster
	hack/on-cluster.sh $(INSTANCE) go test -tags=e2e -run='^$$' -bench=Fleet/objects=1000 -benchtime=1x -timeout=60m $(TESTFLAGS) ./tests/bench/cluster

.PHONY: vuln
vuln: $(BIN)/govulncheck ## Look for known vulnerabilities in what the code calls.
	$(BIN)/govulncheck ./...

##@ Prepare

.PHONY: prerequisites
prerequisites: ## Install the Debian packages that tests need, or name them.
	@hack/prerequisites.sh

.PHONY: tools
tools: $(addprefix $(BIN)/,controller-gen kustomize golangci-lint govulncheck atlas) ## Build the pinned tools.

.PHONY: envtest-assets
envtest-assets: $(CONTROLPLANE)/kube-apiserver $(CONTROLPLANE)/etcd ## Get kube-apiserver and etcd for tests, and print their directory.
	@echo $(CONTROLPLANE)

##@ Deploy

.PHONY: deploy
deploy: $(BIN)/kustomize ## Install the operator into the cluster of KUBECONFIG, with the image IMG if that is set.
	rm -rf $(BIN)/deploy && cp -R config $(BIN)/deploy
	$(if $(IMG),cd $(BIN)/deploy/operator && $(BIN)/kustomize edit set image 'manager=$(IMG)')
	kubectl apply --server-side --force-conflicts -k $(BIN)/deploy/default
	kubectl rollout status --namespace dbupgrade-system deployment/dbupgrade-controller-manager --timeout 3m

# A DBUpgrade has a finalizer while its migration is under way, and only the operator takes it off. So it does not go while there is one.
.PHONY: undeploy
undeploy: ## Remove the operator, unless a migration is under way. The CRD and all DBUpgrades stay.
	@crd=$$(kubectl get --ignore-not-found --output name crd/dbupgrades.dbupgrade.subbug.learning); \
	if [[ -n "$$crd" ]]; then \
		busy=$$(kubectl get dbupgrades --all-namespaces --output \
			jsonpath='{range .items[?(@.metadata.finalizers)]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}'); \
		if [[ -n "$$busy" ]]; then printf 'Migrations are under way; wait for them, or suspend what has not started:\n%s\n' "$$busy"; exit 1; fi; \
	fi
	kubectl delete --ignore-not-found -k config/operator
	@echo 'The CRD and all DBUpgrades stay. To remove those too: kubectl delete -k config/crd'

##@ Local cluster

.PHONY: demo
demo: cluster-up $(BIN)/images ## Show the main job on a local cluster: takes some minutes the first time, and nothing to configure.
	@INSTANCE=$(INSTANCE) hack/demo/demo.sh

HAVE_KIND := $(shell command -v kind >/dev/null && docker info >/dev/null 2>&1 && echo yes)

.PHONY: cluster-up
cluster-up: $(if $(HAVE_KIND),$(BIN)/local-cluster $(CLUSTER)/kubectl,cluster-binaries) ## Start a real one-node cluster on this machine (root), or kind's where Docker and kind are there.
	$(BIN)/local-cluster up --instance=$(INSTANCE)

.PHONY: cluster-down
cluster-down: $(BIN)/local-cluster ## Stop it, and remove all that it left.
	$(BIN)/local-cluster down --instance=$(INSTANCE)

KUBERNETES := kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet
CONTAINERD := containerd containerd-shim-runc-v2 ctr

# Packages come first: what may not be installed is told before the long builds, not after them.
.PHONY: cluster-prerequisites
cluster-prerequisites:
	@hack/prerequisites.sh cluster

.PHONY: cluster-binaries
cluster-binaries: cluster-prerequisites $(BIN)/local-cluster $(addprefix $(CLUSTER)/,$(KUBERNETES) $(CONTAINERD) etcd coredns kube-network-policies docker-registry pause)

.PHONY: $(BIN)/local-cluster $(BIN)/images
$(BIN)/local-cluster:
	go build -o $@ ./hack/cluster
$(BIN)/images:
	go build -o $@ ./hack/images

$(CLUSTER)/pause: hack/images/pause/main.go
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./hack/images/pause

$(addprefix $(CLUSTER)/,$(KUBERNETES)) &: hack/tools/kubernetes/go.mod hack/tools/kubernetes/go.sum | $(CLUSTER)
	hack/kubernetes.sh $(CLUSTER) $(KUBERNETES)

$(addprefix $(CLUSTER)/,$(CONTAINERD)) &: hack/tools/containerd/go.mod hack/tools/containerd/go.sum | $(CLUSTER)
	CGO_ENABLED=0 go -C hack/tools/containerd build -trimpath -buildvcs=false -tags no_btrfs,no_zfs,no_devmapper -ldflags '-s -w' -o $(CLUSTER)/ tool
	@touch $(addprefix $(CLUSTER)/,$(CONTAINERD))

$(CLUSTER)/docker-registry: | $(CLUSTER)
	hack/registry.sh $@

$(CLUSTER):
	mkdir -p $@

# Each tool is a module of its own, so that its dependencies meet nobody else's.
define build-tool
	CGO_ENABLED=0 go -C hack/tools/$* build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ tool
	@touch $@
endef

$(BIN)/%: hack/tools/%/go.mod hack/tools/%/go.sum
	$(build-tool)

$(CLUSTER)/%: hack/tools/%/go.mod hack/tools/%/go.sum
	$(build-tool)

$(CONTROLPLANE)/kube-apiserver $(CONTROLPLANE)/etcd &: $(wildcard hack/tools/kubernetes/go.* hack/tools/etcd/go.*) | $(BIN)/setup-envtest
	hack/controlplane.sh $(CONTROLPLANE)
