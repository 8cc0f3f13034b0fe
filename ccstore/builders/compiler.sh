#!/bin/sh
# A compiler's name, before everything else in PATH, while kernels are compiled on a cluster (executor/distribute.py):
# gives what compiles one C file to recc, and to the compiler itself whatever recc did not end well. So a message is
# always the compiler's own, and a file that only the compiler knew of (.incbin) is there for it.
#
# /in/.recc is a root tree with recc, whose libc is newer than the toolchain's; /in/.cluster/here gets a line for each
# file that was compiled here after all.
compiler=/usr/bin/${0##*/}
here=/in/.cluster/here
most=10 # files that a cluster may fail to compile by its own fault before this build asks it no more

compiles=
source=
for each in "$@"; do
	case $each in
	-c) compiles=1 ;;
	*.c) source=$each ;;
	# these write more files than recc would bring back, or read one that it does not see
	-gsplit-dwarf | --coverage | -ftest-coverage | -fprofile-arcs | -fstack-usage | -fcallgraph-info* | -fdump-* | \
		-save-temps* | -fplugin=*) exec "$compiler" "$@" ;;
	esac
done
if test -z "$compiles" || test -z "$source"; then
	exec "$compiler" "$@"
fi
if test -s "$here" && test "$(grep -c '^lost' "$here")" -ge "$most"; then
	echo "given up $source" >>"$here"
	exec "$compiler" "$@"
fi

root=/in/.recc
if said=$("$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" \
	"$root/usr/bin/recc" "$compiler" "$@" 2>&1); then
	test -z "$said" || printf '%s\n' "$said" >&2
	exit 0
else
	status=$?
fi
# recc's own failures have numbers of their own, which no compiler uses
if test "$status" -ge 100; then
	printf 'lost %s: %s\n' "$source" "$(printf '%s' "$said" | tail -n 1)" >>"$here"
else
	echo "failed $source" >>"$here"
fi
exec "$compiler" "$@"
