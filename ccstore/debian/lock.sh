# Asks apt which packages a request means; runs in the sandbox, with a network, in a tree that has apt and gpgv.
#
# apt sees an empty system: no installed packages, none in its cache (those would be left out of the answer), no
# configuration. It verifies the signature of the suite's index with the archive's keyring and takes nothing
# unsigned. Written to $out: `InRelease` as it was verified, and `uris`, a line "'URI' file size SHA256:hex" for
# each package of the closure. Exit status: 10 the index could not be had, 11 the request cannot be met.
set -eu
top=/build/apt
mkdir -p "$top/lists/partial" "$top/archives/partial" "$top/empty" "$out"
: >"$top/status"
cat >"$top/apt.conf" <<-CONF
	Dir::Etc "/in/.builder";
	Dir::Etc::sourcelist "sources.list";
	Dir::Etc::sourceparts "$top/empty";
	Dir::Etc::parts "$top/empty";
	Dir::Etc::preferencesparts "$top/empty";
	Dir::Etc::trusted "$top/empty/none";
	Dir::Etc::trustedparts "$top/empty";
	Dir::State "$top";
	Dir::State::lists "$top/lists";
	Dir::State::status "$top/status";
	Dir::Cache "$top";
	Dir::Cache::archives "$top/archives";
	Dir::Log "$top";
	APT::Architecture "$ARCHITECTURE";
	APT::Architectures "$ARCHITECTURE";
	APT::Install-Recommends "false";
	APT::Sandbox::User "";
	Acquire::Languages "none";
	Acquire::ForceHash "SHA256";
	Acquire::Retries "2";
	Acquire::http::Timeout "30";
	Acquire::https::Timeout "30";
CONF
export APT_CONFIG=$top/apt.conf
apt-get --quiet --error-on=any update || exit 10
cp "$top"/lists/*_InRelease "$out/InRelease" || exit 10
mapfile -t packages </in/.builder/packages
apt-get --quiet=2 --yes --print-uris --no-remove install -- "${packages[@]}" >"$out/uris" || exit 11
