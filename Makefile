# SPDX-License-Identifier: GPL-2.0-or-later
# Thin front to Meson and to the tests. `make help` lists the targets.

BUILD   ?= build
PYTHON  ?= /usr/bin/python3
SECONDS ?= 60
TESTS   ?= tests/leaks tests/lab tests/desktop tests/documents tests/salt tests/packages
WALKS   ?= 1000

export PYTHONDONTWRITEBYTECODE = 1

SANDBOX  = $(PYTHON) -m lab.sandbox
# Two tests run at once, the long files first. A bound on time is three times as wide then; how fast things are is told by
# `make bench`.
SLUICE_SLOW ?= 3
PYTEST   = $(PYTHON) tests/side_by_side.py
VALGRIND = valgrind -q --track-fds=yes --leak-check=full --error-exitcode=99
# Every C file that is compiled with the project's own flags; generated files are not among them.
SOURCES  = $(shell git ls-files 'src/*.c' 2>/dev/null || find src -name '*.c')

.PHONY: all help deps deps-lint demo lab check leaks walks bench fuzz lint analyze tidy cppcheck sanitize valgrind \
	install install-vm install-dom0 deb rpm reproducible selinux system-test guest-test clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet build.ninja > /dev/null || ninja -C $(BUILD) build.ninja
	@ninja -C $(BUILD) -n | grep -q 'no work to do' || ninja -C $(BUILD) --quiet

help:
	@echo "make            build"
	@echo "make demo       show it at work, on a network made for the occasion"
	@echo "make lab        a shell in that network"
	@echo "make check      unit tests, fuzz corpus, layering, lab tests (TESTS=tests/lab/test_x.py for some)"
	@echo "make leaks      the leak matrix: every way out, with each set of layers (WRITE=1 puts it into doc/leaks.md);"
	@echo "                then WALKS=1000 random walks, a quarter of a minute each"
	@echo "make walks      1,000 random sequences of changes to the network tree (WALKS=1000), a quarter of a minute each"
	@echo "make bench      measure"
	@echo "make fuzz       fuzz each target for SECONDS=60"
	@echo "make lint       gcc -fanalyzer, clang-tidy, cppcheck"
	@echo "make sanitize   all tests under ASan and UBSan"
	@echo "make valgrind   unit tests and the demo under valgrind"
	@echo "make deps       install what is missing (Debian 12, as root)"
	@echo "make install    install (DESTDIR= works); install-vm: without what belongs to dom0; install-dom0: only that"
	@echo "make deb        Debian packages of the last commit, into dist/ (SUITE=trixie: for that Debian, into dist-trixie/)"
	@echo "make rpm        the same as RPM"
	@echo "make reproducible  builds all packages twice, in two places, and compares each byte"
	@echo "make selinux    compiles the policy module of the RPMs, and asks it who may do what"
	@echo "make system-test   the packages on booted machines (root, mmdebstrap, systemd-nspawn); see tests/system"
	@echo "make guest-test    what needs a kernel of its own, in a virtual machine (root, mmdebstrap, qemu)"
	@echo "make clean      remove the build directories"

%/build.ninja:
	@meson setup $* $(SETUP) > /dev/null || { meson setup $* $(SETUP); exit 1; }

deps:
	@lab/deps.sh build lab

deps-lint: deps
	@lab/deps.sh lint

demo: deps
	@$(MAKE) --no-print-directory all
	@SLUICE_BUILD=$(BUILD) $(PYTHON) -m lab.demo

lab: deps
	@$(MAKE) --no-print-directory all
	@SLUICE_BUILD=$(BUILD) $(PYTHON) -m lab shell

check: deps
	@CC=gcc $(MAKE) --no-print-directory all
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs --quiet --timeout-multiplier $(SLUICE_SLOW)
	@SLUICE_BUILD=$(BUILD) SLUICE_SLOW=$(SLUICE_SLOW) $(PYTEST) $(TESTS)

leaks: deps
	@$(MAKE) --no-print-directory all
	@SLUICE_BUILD=$(BUILD) $(SANDBOX) $(PYTHON) -m tests.leaks.matrix $(if $(WRITE),--write) $(LEAKS)
	@SLUICE_BUILD=$(BUILD) $(SANDBOX) $(PYTHON) tests/leaks/walk.py --count $(WALKS)

walks: deps
	@$(MAKE) --no-print-directory all
	@SLUICE_BUILD=$(BUILD) $(SANDBOX) $(PYTHON) tests/lab/exposure_walk.py --count $(WALKS)

bench: deps
	@lab/deps.sh bench
	@$(MAKE) --no-print-directory all
	@SLUICE_BUILD=$(BUILD) $(PYTHON) tests/bench/run.py

# The sanitizers report into the router's log; the lab looks there when a test ends.
sanitize: export ASAN_OPTIONS = detect_leaks=1:abort_on_error=0
sanitize: export UBSAN_OPTIONS = halt_on_error=1:print_stacktrace=1
sanitize: deps
	@CC=gcc $(MAKE) --no-print-directory all BUILD=build-sanitize \
		SETUP='-Db_sanitize=address,undefined -Db_lundef=false'
	@meson test -C build-sanitize --no-rebuild --print-errorlogs --quiet --timeout-multiplier $(SLUICE_SLOW)
	@SLUICE_BUILD=build-sanitize SLUICE_SLOW=4 SLUICE_GRACEFUL=1 $(PYTEST) $(TESTS)

# Not under valgrind: what looks at how nft is started, and what measures time.
VALGRIND_TESTS = $(shell meson test -C $(BUILD) --suite unit --list 2>/dev/null | sed -n 's|^.*:unit / ||p' | \
	grep -v -x -e nft-kernel -e qubesdb-mirror)

valgrind: deps-lint
	@$(MAKE) --no-print-directory all
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs --quiet --wrap='$(VALGRIND)' \
		--timeout-multiplier 10 $(VALGRIND_TESTS)
	@SLUICE_BUILD=$(BUILD) SLUICE_WRAP='$(VALGRIND)' SLUICE_SLOW=10 SLUICE_GRACEFUL=1 $(PYTHON) -m lab.demo

fuzz: deps-lint
	@CC=clang $(MAKE) --no-print-directory all BUILD=build-fuzz \
		SETUP='-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false'
	@set -e; for target in $$(find build-fuzz/tests/fuzz -maxdepth 1 -type f -name 'fuzz-*'); do \
		name=$${target##*/fuzz-}; mkdir -p build-fuzz/found/$$name; \
		echo "$$name: $(SECONDS) s"; \
		$$target -max_total_time=$(SECONDS) -artifact_prefix=build-fuzz/$$name- -print_final_stats=1 \
			build-fuzz/found/$$name tests/fuzz/corpus/$$name 2> build-fuzz/$$name.log \
			|| { tail -40 build-fuzz/$$name.log; exit 1; }; \
		grep -E 'number_of_executed_units|slowest_unit' build-fuzz/$$name.log; \
	done

lint: analyze tidy cppcheck

# gcc 12 sees one file at a time and does not know the cleanup attribute, our lists, or that an output is written when the
# result is not negative; ASan, LSan and valgrind look for those three at run time.
ANALYZER = -fanalyzer -Wno-analyzer-malloc-leak -Wno-analyzer-use-after-free -Wno-analyzer-use-of-uninitialized-value

analyze: deps-lint
	@echo "gcc -fanalyzer"
	@CC=gcc $(MAKE) --no-print-directory all BUILD=build-analyze SETUP="-Dtests=disabled '-Dc_args=$(ANALYZER)'"

# clang-tidy reads clang's own command lines: gcc's hold options it does not know.
tidy: deps-lint
	@echo "clang-tidy"
	@CC=clang $(MAKE) --no-print-directory all BUILD=build-clang
	@printf '%s\n' $(SOURCES) | xargs -P 2 -n 4 clang-tidy -p build-clang --quiet --warnings-as-errors='*' \
		2> build-clang/tidy.log || { grep -v 'warnings generated' build-clang/tidy.log; exit 1; }

# Headers with loops that are macros: without them cppcheck cannot read a file.
MACROS = $(shell printf '\043include <sys/queue.h>\n\043include <jansson.h>\n' | $(CC) -M -xc - 2>/dev/null | \
	tr ' ' '\n' | grep -E "/(sys/queue|jansson)\.h$$" | sed "s,^,--include=,")

cppcheck: deps-lint
	@echo "cppcheck"
	@mkdir -p build-cppcheck
	@cppcheck --quiet -j 2 --std=c11 --library=posix,gnu --enable=warning,performance,portability --error-exitcode=1 \
		--inline-suppr --suppressions-list=tests/lint/cppcheck-suppressions.txt \
		$(MACROS) --cppcheck-build-dir=build-cppcheck -D_GNU_SOURCE -DSLUICE_VERSION='""' -I src src

install: all
	@meson install -C $(BUILD) --no-rebuild

# The lists of the Debian packages say what goes where.
install-vm: PARTS = -Ddesktop=enabled
install-dom0: PARTS = -Ddesktop=disabled
install-vm install-dom0:
	@$(MAKE) --no-print-directory all BUILD=build-$@ SETUP='--prefix=/usr -Dtests=disabled $(PARTS)'
	@packaging/install.sh build-$@ $(@:install-%=%) $(DESTDIR)

deb:
	@lab/deps.sh build package
	@packaging/deb.sh dist$(if $(SUITE),-$(SUITE))

rpm:
	@lab/deps.sh build package
	@packaging/rpm.sh dist

reproducible:
	@lab/deps.sh build package
	@packaging/reproducible.sh

selinux:
	@lab/deps.sh selinux
	@$(PYTHON) -m pytest -q -p no:cacheprovider tests/packages/test_selinux.py

# `make deb` before it, or SLUICE_DEBS=FOLDER. The roots are made once (SLUICE_CACHE), with the network of this machine.
SLUICE_SUITES ?= bookworm
system-test: deps
	@lab/deps.sh package system
	@$(MAKE) --no-print-directory all
	@ls dist/qubes-vpn_*.deb > /dev/null 2>&1 || packaging/deb.sh dist
	@ls dist/*.rpm > /dev/null 2>&1 || packaging/rpm.sh dist
	@SLUICE_BUILD=$(BUILD) $(PYTHON) -m tests.system.machines $(SLUICE_SUITES) > /dev/null
	@SLUICE_BUILD=$(BUILD) SLUICE_SUITES='$(SLUICE_SUITES)' $(SANDBOX) $(PYTHON) -m pytest -q -p no:cacheprovider \
		tests/system $(SYSTEM)

# Some minutes for root and first boot, once; then without the network of this machine.
guest-test: deps
	@lab/deps.sh guest
	@$(MAKE) --no-print-directory all
	@$(PYTHON) -m tests.system.guest --make
	@SLUICE_BUILD=$(BUILD) $(SANDBOX) $(PYTHON) -m pytest -q -p no:cacheprovider tests/system/test_guest.py $(SYSTEM)

clean:
	@rm -rf dist dist-* build build-install-vm build-install-dom0 build-analyze build-clang build-cppcheck build-fuzz build-sanitize
