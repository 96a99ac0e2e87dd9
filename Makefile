# make check    everything that must hold before a commit
# make test     all tests (.ci/test)
# make sim      the simulation campaign: 200 seeds, and 200 with the race detector
# make sim-night    the same with 10,000 and 1,000 seeds, from SIMFIRST on
# make sim-mutants  planted bugs, which the campaign has to find
# make sim-same     twenty seeds, twenty times each: do they run the same way?
# make attack   the attack suite: a node, an honest pair, and everything at once
# make fuzz     every fuzz target for FUZZTIME, 30 s; FUZZPAR inputs at a time
# make fuzz-night   the same for 10 min each
# make bench    ckt against its rivals, in under 20 min: bench/RESULTS.md and plots
# make bench-quick  some of it, to be read by benchstat; BENCH='-help' tells what there is
# make bench-curves how ckt alone behaves as it grows: bin/curves/RESULTS.md
# make sec      gosec, with the exceptions of .ci/gosec.json
# make vuln     known vulnerabilities, from DB, https://vuln.go.dev
# make sbom     bin/peerctl, built twice alike, and what it is made of
# make generate the generated files, anew
#
# Needs Go, a C compiler for the race detector, and a POSIX shell.

.POSIX:
.SUFFIXES:
.PHONY: check fmt vet lint sec fix generated generate arch docs test fuzz fuzz-smoke fuzz-night
.PHONY: attack vuln sbom
.PHONY: sim sim-night sim-mutants sim-same
.PHONY: bench bench-quick bench-curves bench-link

FUZZTIME = 30s
FUZZPAR  =
DB       = https://vuln.go.dev
SIMFIRST = 1
BENCH    = -contenders ckt,grpc,quic,tls -workloads ping,small,kilo,bulk -rounds 3 -time 0.5
SIM      = go test -count=1 -timeout 0 -v -artifacts -outputdir bin
GOFILES  = find . -name '*.go' ! -path './bin/*' ! -path '*/testdata/*'
GENFILES = find . \( -name '*_gen.go' -o -name '*_gen_test.go' \) ! -path './bin/*'

# The cheap ones first.
check: fmt vet lint sec fix generated arch docs test sim fuzz-smoke
	@echo "make check: everything holds"

fmt:
	@echo "make fmt"
	@out=$$($(GOFILES) -exec gofmt -l {} +) || exit 1; \
	if [ -n "$$out" ]; then echo "$$out"; \
		echo "make fmt: not formatted as gofmt does. Run: gofmt -w <file>"; exit 1; fi

vet:
	@echo "make vet"
	@go vet ./... || { echo "make vet: mend what go vet says above"; exit 1; }

lint:
	@echo "make lint"
	@go tool staticcheck ./... || { \
		echo "make lint: mend what staticcheck says above. 'go tool staticcheck -explain CODE' tells more"; exit 1; }

# gosec says nothing when all is well.
sec:
	@echo "make sec"
	@go tool -modfile=.ci/tools.mod gosec -quiet -conf .ci/gosec.json -log /dev/null -exclude-generated ./... || { \
		echo "make sec: mend what gosec says above, or add it with the reason to .ci/gosec.json"; exit 1; }

vuln:
	@.ci/vuln '$(DB)'

sbom:
	@.ci/sbom

fix:
	@echo "make fix"
	@out=$$(go fix -diff ./... 2>&1); code=$$?; \
	if [ -n "$$out" ] || [ $$code -ne 0 ]; then echo "$$out"; \
		echo "make fix: old idioms, or code that does not compile. Run: go fix ./..."; exit 1; fi

generate:
	@echo "make generate"
	@go generate ./... || { echo "make generate: a generator failed, see above"; exit 1; }

generated:
	@echo "make generated"
	@before=$$($(GENFILES) -exec cksum {} + | sort); \
	$(MAKE) -s generate >/dev/null || exit 1; \
	after=$$($(GENFILES) -exec cksum {} + | sort); \
	if [ "$$before" != "$$after" ]; then git --no-pager diff --stat -- '*_gen.go' '*_gen_test.go' || :; \
		echo "make generated: generated files were not up to date, and now are. Commit them"; exit 1; fi

arch:
	@echo "make arch"
	@go test -count=1 -run 'Architecture|Laws|CoreDependencies' . || { \
		echo "make arch: a law of docs/architecture.md is broken, see above"; exit 1; }

docs:
	@echo "make docs"
	@go test -count=1 -run 'Docs' . || { echo "make docs: mend the links and programs named above"; exit 1; }

test:
	@.ci/test

# Failed seeds leave what has happened in bin/_artifacts.
sim:
	@echo "make sim"
	@mkdir -p bin
	@$(SIM) -run '^TestCampaign$$' ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=200
	@$(SIM) -run '^TestCampaign$$' -race ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=200

sim-night:
	@mkdir -p bin
	@$(SIM) -run '^TestCampaign$$' ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=10000
	@$(SIM) -run '^TestCampaign$$' -race ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=1000

sim-mutants:
	@mkdir -p bin
	@$(SIM) -tags plant -run '^TestCampaign$$' ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=1000
	@$(SIM) -tags plant -run '^TestCampaignFindsPlantedBugs$$' ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=1000

sim-same:
	@$(SIM) -run '^TestCampaignSameTrace$$' ./peer/peertest -sim.first=$(SIMFIRST) -sim.seeds=20 -sim.same=20

attack:
	@mkdir -p bin
	@go test -count=1 -timeout 30m -v ./cmd/internal/attacktest -attack.full -attack.out "$$PWD/bin/attack.md"

fuzz-smoke:
	@FUZZPAR='$(FUZZPAR)' .ci/fuzz 20000x

fuzz:
	@FUZZPAR='$(FUZZPAR)' .ci/fuzz $(FUZZTIME)

fuzz-night:
	@FUZZPAR='$(FUZZPAR)' .ci/fuzz 10m

# The order matters: simulated links take all of the machine.
bench: bench-link
	@cd bench && go build -o ../bin/bench . && \
	../bin/bench -report . -curves -link-curve ../bin/link-curve.json -time 0.8 \
	-save ../bin/bench.json >../bin/bench.txt

bench-curves: bench-link
	@mkdir -p bin/curves
	@cd bench && go build -o ../bin/bench . && \
	../bin/bench -report ../bin/curves -rounds 0 -idle-rounds 0 -curves -link-curve ../bin/link-curve.json >/dev/null

bench-link:
	@echo "make bench: simulated links"
	@mkdir -p bin
	@cd bench && go test -count=1 -run '^TestLinkCurve$$' . -link-curve "$$PWD/../bin/link-curve.json"

bench-quick:
	@mkdir -p bin
	@cd bench && go build -o ../bin/bench . && ../bin/bench $(BENCH)
