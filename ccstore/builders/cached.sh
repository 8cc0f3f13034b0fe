#!/bin/sh
# The name of a compiler or of the assembler, before everything else in PATH, while there is a compile cache: gives C files
# to ccache in its depend mode, which takes what a compilation read from the compiler itself, and so spares preprocessing
# each file once more to look for it (ccache's manual, "the depend mode").
#
# What that mode is blind to is seen here. Dependencies name all headers, also those of the system (-MD, not -MMD). And
# whether the assembler reads a file (.incbin, .include) is seen in what it is given: it refuses that, as nothing of a
# compilation that failed is kept, and the file is compiled without the cache.
name=${0##*/}
tool=/usr/bin/$name

if test "$name" = as; then
	if test -n "${CCSTORE_REFUSED-}"; then
		code=
		for each in "$@"; do
			case $each in *.s) code=$each ;; esac
		done
		if test -z "$code" || LC_ALL=C grep -q -i -e '\.inc' -e incbin "$code"; then
			: >"$CCSTORE_REFUSED"
			exit 1
		fi
	fi
	exec "$tool" "$@"
fi

# Whether this is a GCC that finds the assembler by PATH; asked once for each name.
assembles_here() {
	answer=/tmp/.assembles-here-$name
	if ! test -e "$answer"; then
		no=
		test "$("$tool" -print-prog-name=as)" = as && "$tool" -v 2>&1 | grep -q '^gcc version' || no=no
		echo "$no" >"$answer.$$"
		mv "$answer.$$" "$answer"
	fi
	read -r no <"$answer"
	test -z "$no"
}

compiles=
depend=1
for each in "$@"; do
	case $each in
	-c) compiles=1 ;;
	# it can be read once
	-) exec "$tool" "$@" ;;
	# another assembler than this one, which would refuse nothing
	-B* | -specs* | -wrapper | -fintegrated-as | -flto*) depend= ;;
	esac
done
test -n "$compiles" || exec "$tool" "$@"
test -n "$depend" && assembles_here || exec /usr/bin/ccache "$tool" "$@"

for each in "$@"; do
	shift
	case $each in
	-MMD) each=-MD ;;
	-Wp,-MMD,*) each=-Wp,-MD,${each#-Wp,-MMD,} ;;
	esac
	set -- "$@" "$each"
done
export CCSTORE_REFUSED="/tmp/.refused-$$"
CCACHE_DEPEND=1 /usr/bin/ccache "$tool" "$@"
status=$?
if test -e "$CCSTORE_REFUSED"; then
	rm -f "$CCSTORE_REFUSED"
	unset CCSTORE_REFUSED
	exec "$tool" "$@"
fi
exit "$status"
