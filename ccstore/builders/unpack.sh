#!/bin/sh
# kernel.tree: unpacks /in/source, a tarball, to $out without its one top folder.
#
# The compression is found by magic number, because a download may have any name. Every entry passes tarfilter.py
# before tar sees it; tar's own checks are a second line, not the first. `pipefail` is there because the
# toolchain's sh is bash.
set -eu -o pipefail

report() { # code, message, hint, then a file with details
	test -s "$CCSTORE_REPORT" && exit 1 # the filter knew better why
	python3 - "$@" >"$CCSTORE_REPORT" <<-'PYTHON'
		import json, pathlib, sys
		code, message, hint, details = sys.argv[1:]
		lines = pathlib.Path(details).read_text(errors="replace").splitlines()[-20:]
		print(json.dumps({"code": code, "message": message, "input": "source", "hint": hint, "details": lines}))
	PYTHON
	echo "$2" >&2
	exit 1
}

decompressor() {
	case $(head -c 6 /in/source | od -An -tx1 | tr -d ' \n') in
	fd377a585a00) echo "xz -dc -T$CCSTORE_CORES" ;;
	1f8b*) echo "gzip -dc" ;;
	425a68*) echo "bzip2 -dc" ;;
	28b52ffd*) echo "zstd -dcq" ;;
	*) echo cat ;;
	esac
}

top=/out/.unpack # beside the output, so that moving it there copies nothing
mkdir "$top"
test -f /in/source || report archive-refused "the source is a folder, not a tarball" "" /dev/null

read_source=$(decompressor)
$read_source </in/source 2>/build/errors |
	python3 /in/.builder/tarfilter.py --strip 1 2>>/build/errors |
	tar -x -C "$top" --no-same-owner --no-same-permissions --delay-directory-restore 2>>/build/errors ||
	report archive-refused "the source cannot be unpacked as a tar archive (read with ${read_source%% *})" \
		"fetch it again, or see whether it is a .tar, .tar.gz, .tar.bz2, .tar.xz or .tar.zst" /build/errors

ls -A "$top" >/build/tops
test "$(wc -l </build/tops)" -eq 1 ||
	report archive-refused "the source has $(wc -l </build/tops) entries at its top; one folder is expected" \
		"a kernel tarball holds a single folder such as linux-6.1" /build/tops
folder="$top/$(cat /build/tops)"
test -d "$folder" && test ! -L "$folder" ||
	report archive-refused "the one entry at the top of the source is not a folder" "" /build/tops
chmod u+w "$folder" # only a writable folder can move to another parent
mv "$folder" "$out"
rmdir "$top"
