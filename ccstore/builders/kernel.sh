#!/bin/sh
# kernel: compiles /in/tree with /in/config.
#
# `out` gets vmlinux (stripped and packed), bzImage, System.map, config, kernel-source-info and, with MODULES=1,
# lib/modules/<release>; `dev` gets vmlinux.debug (with symbols), usr/include (for user space) and build/ (what
# `make -C build M=…` of an external module needs).
# One make does all of it, so that nothing is looked at twice.
set -eu -o pipefail

fail() { # code, message, hint, input
	python3 -c 'import json, sys
print(json.dumps(dict(zip(("code", "message", "hint", "input"), sys.argv[1:], strict=True))))' \
		"$@" >"$CCSTORE_REPORT"
	echo "$2" >&2
	exit 1
}

enabled() { grep -q "^CONFIG_$1=y" /in/config; }

check_modules() {
	if test "$MODULES" = 1; then
		enabled MODULES || fail config-dropped "the recipe builds modules, the config has no CONFIG_MODULES=y" \
			"add CONFIG_MODULES=y to a fragment, or take modules: true away" config
	elif grep -q '=m$' /in/config; then
		fail config-dropped "$(grep -m1 '=m$' /in/config) is a module, and the recipe builds no modules" \
			"set modules: true in the recipe, or '# CONFIG_MODULES is not set' in a fragment" config
	fi
}

build() {
	export MAKEFLAGS="$CCSTORE_MAKEFLAGS"
	export KBUILD_BUILD_USER=ccstore KBUILD_BUILD_HOST=ccstore KBUILD_BUILD_VERSION=1
	KBUILD_BUILD_TIMESTAMP=$(date -u -d "@$SOURCE_DATE_EPOCH")
	export KBUILD_BUILD_TIMESTAMP
	mkdir -p /build/o /out/dev/usr
	cp /in/config /build/o/.config
	chmod u+w /build/o/.config
	targets="vmlinux bzImage headers_install"
	test "$MODULES" = 0 || targets="$targets modules"
	# shellcheck disable=SC2086  # words are meant
	kmake $targets
}

kmake() {
	make -C /in/tree O=/build/o LOCALVERSION="$LOCALVERSION" \
		INSTALL_HDR_PATH=/out/dev/usr "$@"
}

install_out() {
	mkdir -p "$out"
	bzimage=$(find arch -name bzImage -type f)
	cp "$bzimage" System.map "$out"
	cp .config "$out/config"
	# what boots goes to out. Relocations only serve the bzImage, which has them already; they and the symbols are half of
	# a file that monitors read at every start.
	objcopy --remove-section='.rela*' vmlinux "$dev/vmlinux.debug"
	strip -o vmlinux.stripped vmlinux
	python3 /in/.builder/elfpack.py vmlinux.stripped "$out/vmlinux"
	test "$MODULES" = 0 || install_modules
	write_info >"$out/kernel-source-info"
}

install_modules() {
	kmake modules_install INSTALL_MOD_PATH="$out" INSTALL_MOD_STRIP=1
	# links to where this build happened
	rm -f "$out/lib/modules/$release/build" "$out/lib/modules/$release/source"
}

write_info() {
	echo "name: linux"
	echo "version: $(kmake -s kernelversion)"
	echo "release: $release"
	echo "config-sha256: $(sha256sum <.config | cut -d' ' -f1)"
	echo "compiler: $(gcc --version | head -n1)"
}

# Source and built files in one folder, as a kernel built in place would have it: an external module then needs
# no O=, and no path of this build.
install_dev() {
	mkdir -p "$dev/build"
	(cd /in/tree && list_tree) | tar -C /in/tree -c --null -T - | tar -C "$dev/build" -x
	list_built | tar -c --null -T - | tar -C "$dev/build" -x
	chmod -R u+w "$dev/build"
	strip_programs "$dev/build"
}

# The debug information of objtool names the folder that it was compiled in, and its build id is a hash of that too.
strip_programs() {
	find "$1" -type f -perm -u+x -print0 | while IFS= read -r -d '' each; do
		test "$(head -c 4 "$each" | od -An -c | tr -d ' ')" != '177ELF' ||
			strip --remove-section=.note.gnu.build-id "$each"
	done
}

list_tree() {
	find . arch/x86 -maxdepth 1 -name 'Makefile*' -print0
	files_below include arch/x86/include arch/x86/scripts scripts
}

# .cmd files and objects name the folders of this build, and include/config holds a stamp for each symbol
list_built() {
	for each in .config Module.symvers tools/objtool/objtool include/config/auto.conf \
		include/config/kernel.release; do
		test ! -e "$each" || printf '%s\0' "$each"
	done
	files_below include/generated arch/x86/include/generated scripts
}

files_below() {
	for each in "$@"; do
		test ! -d "$each" || find "$each" \( -path scripts/coccinelle -o -path scripts/dtc -o -path scripts/kconfig \
			-o -path scripts/selinux -o -name '*.[os]' -o -name '*.cmd' -o -name '*.d' -o -name .gitignore \) -prune \
			-o -type f -print0
	done
}

check_modules
build
cd /build/o
release=$(cat include/config/kernel.release)
install_out
install_dev
